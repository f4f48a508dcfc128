"""Configuring `logging` silences no logger of the server, whenever it happens."""

import io
import logging
import logging.config
import subprocess
import sys
import textwrap

import pytest

LOGGERS = ["aiorest-ws", "aiorest-ws.access"]

PROGRAM = """
import logging, logging.config, io, sys, json

def by_dict():
    logging.config.dictConfig({
        "version": 1,
        "formatters": {"plain": {"format": "configured %(name)s %(levelname)s %(message)s"}},
        "handlers": {"out": {
            "class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "plain",
        }},
        "root": {"level": "INFO", "handlers": ["out"]},
    })

def by_dict_of_nothing():
    logging.config.dictConfig({"version": 1})

def by_file():
    logging.config.fileConfig(io.StringIO('''
[loggers]
keys=root
[handlers]
keys=out
[formatters]
keys=plain
[logger_root]
level=INFO
handlers=out
[handler_out]
class=StreamHandler
level=NOTSET
formatter=plain
args=(sys.stdout,)
[formatter_plain]
format=configured %(name)s %(levelname)s %(message)s
'''))

configure = globals()[sys.argv[1]]
when = sys.argv[2]
if when == "before the import":
    configure()
from twisted.internet.defer import fail
from aiorest_ws.app import Application
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.views import MethodBasedView
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.endpoints import clientFromString

if when == "after the import":
    configure()

class Broken(MethodBasedView):
    def get(self, request):
        if when == "during a call":
            configure()
        raise LookupError("the shelf is empty")

router = SimpleRouter()
router.register("/broken", Broken, "GET")
app = Application(router=router, access_log=True)

class Client(WebSocketClientProtocol):
    def onOpen(self):
        if when == "during serving":
            configure()
        self.sendMessage(b'{"method":"GET","url":"/broken"}')

    def onMessage(self, payload, isBinary):
        assert json.loads(payload)["status"] == 500
        fail(ValueError("nobody handles this"))
        from twisted.internet import reactor
        reactor.callLater(0.05, reactor.stop)

@app.on_startup
def call_later(factory):
    if when == "at start-up":
        configure()
    from twisted.internet import reactor
    reactor.callLater(0, watch)

def watch():
    from twisted.internet import reactor
    if service.port is None:
        reactor.callLater(0.01, watch)
        return
    client = WebSocketClientFactory(f"ws://127.0.0.1:{service.port.getHost().port}/")
    client.protocol = Client
    clientFromString(reactor, f"tcp:127.0.0.1:{service.port.getHost().port}").connect(client)

service = app.tcp_service("127.0.0.1", 0)
if when == "before it runs":
    configure()
service.run()
"""

WHEN = [
    "before the import",
    "after the import",
    "before it runs",
    "at start-up",
    "during serving",
    "during a call",
]


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("how", ["by_dict", "by_dict_of_nothing", "by_file"])
def test_a_fault_is_in_the_log_whenever_logging_is_configured(how, when, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    run = subprocess.run(
        [sys.executable, str(program), how, when],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # The program's handlers get the lines, where it has any.
    lines = run.stderr if how == "by_dict_of_nothing" else run.stdout
    assert lines.count("LookupError: the shelf is empty") == 1, run.stderr + run.stdout
    assert lines.count("nobody handles this") == 1
    assert lines.count("<Request 'GET' '/broken'> 500") == 1
    assert (run.stderr + run.stdout).count("LookupError: the shelf is empty") == 1


@pytest.mark.logs_errors
@pytest.mark.parametrize("name", LOGGERS)
def test_a_level_silences_a_logger_and_the_attribute_does_not(name):
    logger, lines = logging.getLogger(name), io.StringIO()
    handler, level = logging.StreamHandler(lines), logger.level
    logger.addHandler(handler)
    try:
        logger.disabled = True
        logger.error("one")
        logger.setLevel(logging.CRITICAL)
        logger.error("two")
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
    assert lines.getvalue() == "one\n"
    assert not logger.disabled


def test_other_loggers_and_the_class_of_loggers_stay_as_they_are():
    program = """
        import logging

        class Own(logging.Logger):
            def shout(self):
                return "!"

        logging.setLoggerClass(Own)
        named = logging.getLogger("aiorest-ws.access")
        named.disabled = True
        from aiorest_ws.app import Application
        from aiorest_ws.connection import access_log

        assert logging.getLoggerClass() is Own
        assert access_log.logger is named and named.shout() == "!" and not named.disabled
        other = logging.getLogger("aiorest-ws.shop")
        other.disabled = True
        assert other.disabled and type(other) is Own
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], timeout=60, check=True)
