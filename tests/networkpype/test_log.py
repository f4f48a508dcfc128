"""Configuring `logging` silences no logger of the client, whenever it happens."""

import logging
import subprocess
import sys
import textwrap

import pytest

import networkpype.factory  # noqa: F401  imports all modules
from networkpype.throttler.context import AsyncRequestContext
from networkpype.throttler.throttler import AsyncThrottler
from networkpype.time_synchronizer import TimeSynchronizer
from networkpype.websocket.connection import WebSocketConnection

LOGGERS = [
    "networkpype.auth.token",
    "networkpype.throttler.server_limits",
    "networkpype.throttler.throttler",
    "networkpype.time_synchronizer",
]

PROGRAM = """
import asyncio, contextlib, io, logging, logging.config, sys

def by_dict():
    logging.config.dictConfig({
        "version": 1,
        "handlers": {"out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
        "root": {"handlers": ["out"]},
    })

def by_dict_of_another_logger():
    logging.config.dictConfig({
        "version": 1,
        "handlers": {"out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
        "root": {"handlers": ["out"]},
        "loggers": {"shop": {"level": "INFO"}},
    })

def by_file():
    logging.config.fileConfig(io.StringIO('''
[loggers]
keys=root
[handlers]
keys=out
[formatters]
keys=
[logger_root]
handlers=out
[handler_out]
class=StreamHandler
args=(sys.stdout,)
'''))

configure, when = globals()[sys.argv[1]], sys.argv[2]
if when == "before the import":
    configure()
from networkpype.auth.token import Token, TokenAuth
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.server_limits import ServerLimits
from networkpype.throttler.throttler import AsyncThrottler
from networkpype.time_synchronizer import TimeSynchronizer
if when == "after the import":
    configure()

now = [0.0]
fetched = []

async def provider():
    if when == "during a call":
        configure()
    raise LookupError("no clock")

def parser(headers, wall_time):
    raise LookupError("no report")

async def fetch():
    if fetched:
        raise LookupError("no token")
    fetched.append(1)
    return Token("t", expires_in_s=10)

async def main():
    synchronizer = TimeSynchronizer()
    throttler = AsyncThrottler(
        [RateLimit("orders", limit=10, time_interval=1)],
        server_limits=ServerLimits(parsers=(parser,)),
    )
    auth = TokenAuth(fetch, clock=lambda: now[0], wall_clock=lambda: now[0])
    await auth.before_admission()
    if when == "after they are made":
        configure()
    with contextlib.suppress(LookupError):
        await synchronizer.update_server_time_offset_with_time_provider(provider())
    throttler.observe("orders", 429, {"x-ratelimit-remaining": "1"})
    now[0] = 9.0
    await auth.before_admission()

asyncio.run(main())
"""

WHEN = ["before the import", "after the import", "after they are made", "during a call"]

LINES = [
    "Could not read the server's time.",
    "Could not parse the rate-limit headers of a response.",
    "Status 429: pausing requests under limit 'orders'",
    "Could not fetch a new token (LookupError)",
]


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("how", ["by_dict", "by_dict_of_another_logger", "by_file"])
def test_what_fails_is_in_the_log_whenever_logging_is_configured(how, when, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    run = subprocess.run(
        [sys.executable, str(program), how, when],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert [run.stdout.count(line) for line in LINES] == [1] * len(LINES), run.stdout


@pytest.mark.parametrize("name", LOGGERS)
def test_a_level_silences_a_logger_and_the_attribute_does_not(name, caplog):
    logger = logging.getLogger(name)
    logger.disabled = True
    logger.error("one")
    with caplog.at_level(logging.CRITICAL, logger=name):
        logger.error("two")
    assert caplog.messages == ["one"]
    assert not logger.disabled


@pytest.mark.parametrize(
    "kind", [AsyncRequestContext, AsyncThrottler, TimeSynchronizer, WebSocketConnection]
)
def test_the_logger_of_a_class_is_not_disabled(kind):
    logger = kind.logger()
    logger.disabled = True
    assert not logger.disabled
    assert logger.name == kind.__module__


def test_other_loggers_and_the_class_of_loggers_stay_as_they_are():
    program = """
        import logging

        class Own(logging.Logger):
            def shout(self):
                return "!"

        logging.setLoggerClass(Own)
        named = logging.getLogger("networkpype.time_synchronizer")
        named.disabled = True
        from networkpype.time_synchronizer import TimeSynchronizer

        assert logging.getLoggerClass() is Own
        assert TimeSynchronizer.logger() is named and named.shout() == "!" and not named.disabled
        other = logging.getLogger("networkpype.shop")
        other.disabled = True
        assert other.disabled and type(other) is Own
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], timeout=60, check=True)
