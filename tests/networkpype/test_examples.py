"""The examples of networkpype as their READMEs tell it: real servers, real clients."""

import hashlib
import hmac
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import aiohttp
import pytest

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

# The server of each, and what it prints after its banner once it is told to end.
SERVERS = {
    "rest_connector": ("server.py", ""),
    "signed_exchange": ("exchange.py", "68 requests served, 0 over a limit\n"),
    "ws_stream": ("server.py", ""),
}

# How long a process that hangs is waited for. Nothing waits that long when all is well.
PATIENCE_SECONDS = 60

BANNER = re.compile(r"Serving (http://127\.0\.0\.1:\d+/)\n")


def environment():
    """A reader's, who has the package installed; loopback is not asked of a proxy."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {
        **os.environ,
        "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
        "no_proxy": "127.0.0.1",
    }


class Server:
    """A server in a process of its own, from its banner on."""

    def __init__(self, program, errors):
        self._errors = errors
        with errors.open("w") as sink:
            self._process = subprocess.Popen(
                [sys.executable, program, "--port", "0"],
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=sink,
                text=True,
                encoding="utf-8",
            )
        self._watchdog = threading.Timer(PATIENCE_SECONDS, self._process.kill)
        self._watchdog.start()
        line = self._process.stdout.readline()
        found = BANNER.fullmatch(line)
        if found is None:
            self.kill()
            raise AssertionError(f"no banner: {line!r} {errors.read_text()}")
        self.url = found.group(1)

    def tell_to_end(self):
        self._process.send_signal(signal.SIGTERM)

    def end(self):
        """Return its exit status, the rest of its output, and its errors."""
        printed = self._process.stdout.read()
        return self._process.wait(), printed, self._errors.read_text()

    def kill(self):
        self._watchdog.cancel()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture
def serve(tmp_path):
    """Start servers of examples; they are dead when the test is over."""
    started = []
    numbers = itertools.count()

    def start(name):
        program, _ = SERVERS[name]
        server = Server(EXAMPLES / name / program, tmp_path / f"errors{next(numbers)}")
        started.append(server)
        return server

    yield start
    for server in started:
        server.kill()


def run_client(name, url):
    """Return what the client prints; it must end well and complain of nothing."""
    done = subprocess.run(
        # Warnings are errors here, as in the tests themselves.
        [sys.executable, "-W", "error", EXAMPLES / name / "client.py", url],
        env=environment(),
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE_SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def output_in_readme(name):
    text = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    return block


@pytest.mark.parametrize("name", SERVERS)
def test_client_prints_what_the_readme_shows(serve, name):
    server = serve(name)
    assert run_client(name, server.url) == output_in_readme(name)
    server.tell_to_end()
    # The server had nothing to regret, and, where it counts, nothing to refuse.
    assert server.end() == (0, SERVERS[name][1], "")


@pytest.mark.parametrize("name", SERVERS)
def test_readme_names_the_two_commands(name):
    text = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    assert f"    python {SERVERS[name][0]}\n    python client.py\n" in text


def test_server_ends_while_a_client_listens(serve, run):
    """A stream that is open does not keep the server from ending; it is closed with 1001."""
    server = serve("signed_exchange")

    async def listen():
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{server.url}stream") as websocket,
        ):
            await websocket.send_json(login())
            assert (await websocket.receive_json())["event"] == "login"
            server.tell_to_end()
            return (await websocket.receive()).data

    assert run(listen()) == 1001
    assert server.end() == (0, "0 requests served, 0 over a limit\n", "")


def login():
    """Return the message that the connector would send."""
    stamp = int((time.time() + 3600) * 1000)
    signed = f"apiKey=demo-key&timestamp={stamp}".encode()
    signature = hmac.new(b"demo-secret", signed, hashlib.sha256).hexdigest()
    return {"apiKey": "demo-key", "timestamp": stamp, "signature": signature}
