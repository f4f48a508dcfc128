"""The server as a process: the command, the twist plugin, a .tac file, signals and logs."""

import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from functools import cache
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from support.requirements import skip_or_fail

HELLO = '{"method":"GET","url":"/hello"}'
HELLO_REPLY = '{"data":"Hello, world!","event_name":null}'
SECONDS = 60

API = """
    import asyncio
    from aiorest_ws.app import Application
    from aiorest_ws.decorators import endpoint
    from aiorest_ws.routers import SimpleRouter

    @endpoint("/hello", "GET")
    def hello(request):
        return "Hello, world!"

    @endpoint("/both", "GET")
    async def both(request):
        await asyncio.sleep(0)
        return "awaited"

    @endpoint("/raise", "GET")
    def fail(request):
        raise KeyError("surprise")

    router = SimpleRouter()
    router.register_endpoint(hello)
    router.register_endpoint(both)
    router.register_endpoint(fail)
    app = Application(router=router)

    @app.on_startup
    async def start(factory):
        await asyncio.sleep(0)
        print("started", flush=True)

    @app.on_shutdown
    async def stop(factory):
        await asyncio.sleep(0)
        print("stopped", flush=True)
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with an API, which is not on the path."""
    (tmp_path / "api.py").write_text(textwrap.dedent(API))
    return tmp_path


class Server:
    """A server process, and what it has printed so far."""

    def __init__(self, command, folder, **environment):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", *command],
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = []
        self._unread = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self._unread.put(line.rstrip("\n"))
        self._unread.put(None)

    def _next_line(self):
        line = self._unread.get(timeout=SECONDS)
        if line is not None:
            self.lines.append(line)
        return line

    def wait_for(self, pattern):
        """Read until a line has the pattern; return the match."""
        while (line := self._next_line()) is not None:
            found = re.search(pattern, line)
            if found:
                return found
        pytest.fail("the server ended:\n" + "\n".join(self.lines))

    def url(self):
        return self.wait_for(r"(wss?://\S+:\d+/)").group(1)

    def end(self, with_signal):
        self.process.send_signal(with_signal)
        return self.join()

    def join(self):
        """Read to the end; return the exit status."""
        while self._next_line() is not None:
            pass
        self._reader.join()
        self.process.stdout.close()
        return self.process.wait(SECONDS)

    def kill(self):
        self.process.kill()
        self._reader.join()
        self.process.stdout.close()
        self.process.wait(SECONDS)


@pytest.fixture
def start(folder):
    """Start server processes; what is left of them is killed at the end."""
    servers = []

    def start(*command, **environment):
        server = Server(command, folder, **environment)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.kill()


def ask(url, message=HELLO, **options):
    with connect(url, open_timeout=SECONDS, **options) as websocket:
        websocket.send(message)
        return websocket.recv(timeout=SECONDS)


def script(name):
    """The path of a script of this interpreter's environment."""
    return str(Path(sys.executable).with_name(name))


RUN = ("-m", "aiorest_ws", "run")


@pytest.mark.parametrize("name", ["api:app", "api:router"])
@pytest.mark.parametrize("with_signal", [signal.SIGINT, signal.SIGTERM])
def test_run_serves_until_a_signal_and_ends_with_status_0(start, name, with_signal):
    server = start(*RUN, name, "--port", "0")
    assert ask(server.url()) == HELLO_REPLY
    assert server.end(with_signal) == 0
    expected = [
        r"aiorest-ws \d+\.\d+\.\d+",
        r"Server started at ws://127\.0\.0\.1:\d+/",
        r"Reactor: AsyncioSelectorReactor on uvloop\.Loop",
        r"Quit the server with CONTROL-C\.",
    ]
    if name == "api:app":
        expected = ["started", *expected, "stopped"]
    assert len(server.lines) == len(expected)
    for pattern, line in zip(expected, server.lines, strict=True):
        assert re.fullmatch(pattern, line)


def test_application_run_blocks_and_returns_when_it_is_stopped(start, folder):
    (folder / "server.py").write_text(
        "from api import app\napp.run(port=0, path='api')\nprint('returned')\n"
    )
    server = start("server.py")
    url = server.wait_for(r"ws://127\.0\.0\.1:\d+/api").group(0)
    assert ask(url) == HELLO_REPLY
    assert server.end(signal.SIGINT) == 0
    assert server.lines[-1] == "returned"


def test_a_signal_closes_connections_with_1012(start):
    server = start(*RUN, "api:router", "--port", "0")
    with connect(server.url()) as websocket:
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(timeout=SECONDS)
    assert closed.value.rcvd.code == 1012
    assert server.join() == 0


def test_a_failure_is_one_log_entry_with_its_traceback(start):
    server = start(*RUN, "api:router", "--port", "0")
    reply = json.loads(ask(server.url(), '{"method":"GET","url":"/raise","token":"s3cret"}'))
    assert reply == {"detail": "Internal server error.", "status": 500, "event_name": None}
    server.end(signal.SIGINT)
    errors = [line for line in server.lines if " ERROR " in line]
    assert len(errors) == 1
    assert "<Request 'GET' '/raise'> failed" in errors[0]
    assert "KeyError: 'surprise'" in server.lines
    assert "s3cret" not in "\n".join(server.lines)


def test_a_busy_port_is_a_clear_error(start):
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        server = start(*RUN, "api:router", "--port", str(port))
        assert server.join() == 1
    assert [line for line in server.lines if "ERROR" in line or "Traceback" in line] == []
    assert re.match(rf"aiorest-ws: Couldn't listen on 127.0.0.1:{port}: .*in use", server.lines[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere:app"], "There is no module 'nowhere'."),
        (["api:missing"], "'api' has no 'missing'."),
        (["api"], "'api' is not of the form package.module:name."),
        (["api:app", "--port", "70000"], "70000 is not a TCP port"),
        (["api:app", "--certificate", "c.pem"], "TLS needs both, a `certificate` and its `key`."),
    ],
)
def test_wrong_arguments_are_explained_and_end_with_status_2(start, arguments, message):
    server = start(*RUN, *arguments)
    assert server.join() == 2
    assert message in server.lines[-1]
    assert "Traceback" not in "\n".join(server.lines)


def test_run_serves_wss(start, tls_files):
    import ssl

    certificate, key = tls_files
    server = start(
        *RUN, "api:router", "--port", "0", "--certificate", str(certificate), "--key", str(key)
    )
    url = server.url()
    assert url.startswith("wss://")
    context = ssl.create_default_context(cafile=str(certificate))
    assert ask(url, ssl=context, server_hostname="localhost") == HELLO_REPLY
    assert server.end(signal.SIGINT) == 0


def test_another_reactor_serves_deferreds_and_names_itself(start, folder):
    """A program that has chosen its reactor keeps it; asyncio awaitables then fail one call."""
    (folder / "server.py").write_text(
        "from twisted.internet import selectreactor\n"
        "selectreactor.install()\n"
        "from api import router\n"
        "from aiorest_ws.app import Application\n"
        "Application(router=router).run(port=0)\n"
    )
    server = start("server.py")
    url = server.url()
    assert server.wait_for(r"Reactor: (\w+)").group(1) == "SelectReactor"
    assert json.loads(ask(url, '{"method":"GET","url":"/both"}'))["status"] == 500
    assert ask(url) == HELLO_REPLY
    assert server.end(signal.SIGTERM) == 0
    errors = [line for line in server.lines if " ERROR " in line]
    assert len(errors) == 1
    assert "asyncio awaitables need the asyncio reactor, this is SelectReactor" in errors[0]


# Twisted's own programs. They end by the signal, as Twisted does.


@cache
def help_of_twist():
    return subprocess.run(
        [script("twist"), "--help"], capture_output=True, text=True, check=False, cwd="/"
    ).stdout


def needs_plugin():
    if "aiorest-ws" in help_of_twist():
        return
    skip_or_fail("the twist plugin needs a plain install of aiorest-ws (tox makes one)")


@pytest.mark.parametrize("with_signal", [signal.SIGINT, signal.SIGTERM])
def test_twist_serves_an_application(start, with_signal):
    needs_plugin()
    server = start(
        script("twist"), "--log-format=text", "aiorest-ws", "--app", "api:app",
        "--listen", "tcp:0:interface=127.0.0.1",
    )  # fmt: skip
    url = server.url()
    assert "AsyncioSelectorReactor on uvloop.Loop" in server.lines[-1]
    assert json.loads(ask(url, '{"method":"GET","url":"/both"}'))["data"] == "awaited"
    assert server.end(with_signal) == -with_signal
    assert "stopped" in server.lines[-1]


def test_twist_serves_a_router_on_a_unix_socket(start, folder):
    needs_plugin()
    server = start(
        script("twist"), "--log-format=text", "aiorest-ws", "--app", "api:router",
        "--listen", "unix:api.sock",
    )  # fmt: skip
    server.wait_for("aiorest-ws .* serves")
    from websockets.sync.client import unix_connect

    with unix_connect(str(folder / "api.sock"), "ws://localhost/") as websocket:
        websocket.send(HELLO)
        assert websocket.recv(timeout=SECONDS) == HELLO_REPLY
    server.end(signal.SIGTERM)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--app is required"),
        (["--app", "nowhere:app"], "There is no module 'nowhere'."),
        (["--app", "api:app", "--log-level", "loud"], "--log-level must be one of"),
    ],
)
def test_twist_explains_wrong_options(start, arguments, message):
    needs_plugin()
    server = start(script("twist"), "aiorest-ws", *arguments)
    assert server.join() != 0
    assert message in "\n".join(server.lines)


@pytest.mark.parametrize("with_signal", [signal.SIGINT, signal.SIGTERM])
def test_twistd_serves_a_tac_file(start, folder, with_signal):
    (folder / "service.tac").write_text(
        "import sys\nsys.path.insert(0, '.')\n"
        "from twisted.application.service import Application\n"
        "from api import app\n"
        "application = Application('api')\n"
        "app.service(listen='tcp:0:interface=127.0.0.1').setServiceParent(application)\n"
    )
    server = start(script("twistd"), "--nodaemon", "--pidfile=", "--python", "service.tac")
    assert ask(server.url()) == HELLO_REPLY
    assert server.end(with_signal) == -with_signal


def test_twistd_serves_as_a_daemon(start, folder):
    """The loop is made before twistd forks."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "service.tac").write_text(
        "import sys\nsys.path.insert(0, '.')\n"
        "from twisted.application.service import Application\n"
        "from api import app\n"
        "application = Application('api')\n"
        f"app.service(listen='tcp:{port}:interface=127.0.0.1').setServiceParent(application)\n"
    )
    command = start(
        script("twistd"), "--pidfile=daemon.pid", "--logfile=daemon.log", "--python", "service.tac"
    )
    assert command.join() == 0, command.lines
    pid = int((folder / "daemon.pid").read_text())
    try:
        log = folder / "daemon.log"
        while "serves ws://" not in log.read_text():
            os.kill(pid, 0)  # it lives
        assert ask(f"ws://127.0.0.1:{port}/") == HELLO_REPLY
    finally:
        os.kill(pid, signal.SIGTERM)
    while (folder / "daemon.pid").exists():
        assert "Traceback" not in log.read_text()


# The demo


def test_the_demo_shows_requests_and_replies_and_ends(start):
    server = start("-m", "aiorest_ws", "demo", "--once")
    assert server.join() == 0
    text = "\n".join(server.lines)
    assert '--> text   {"method": "GET", "url": "/hello"}' in text
    assert f"<-- text   {HELLO_REPLY}" in text
    assert '<-- base64 {"data":"Hello, Grace!","event_name":null}' in text
    assert text.count("-->") == text.count("<--") == 8
    assert "Traceback" not in text


def test_the_demo_goes_on_until_a_signal(start):
    server = start("-m", "aiorest_ws", "demo", "--port", "0")
    url = server.url()
    server.wait_for("The server is still running")
    assert ask(url) == HELLO_REPLY
    assert server.end(signal.SIGINT) == 0


def test_the_demo_finds_a_port_when_its_own_is_busy(start):
    with socket.socket() as busy:
        busy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            busy.bind(("127.0.0.1", 8080))
            busy.listen()
        except OSError:
            pass  # somebody else keeps it busy for us
        server = start("-m", "aiorest_ws", "demo", "--once")
        assert ":8080/" not in server.url()
        assert server.join() == 0


def test_the_console_script_is_the_command(start):
    if not shutil.which(script("aiorest-ws")):
        skip_or_fail("the console script needs an install of aiorest-ws")
    server = start(script("aiorest-ws"), "--version")
    assert server.join() == 0
    assert re.fullmatch(r"aiorest-ws \d+\.\d+\.\d+", server.lines[0])
