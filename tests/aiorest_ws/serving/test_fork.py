"""Views that fork: the child has neither the connections nor the signals of the server."""

import json
import os
import signal
import socket
import ssl
import time
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.sync.client import connect, unix_connect

from support.programs import SECONDS
from support.programs import Server as Program

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
]

# The child waits in a thread's or a coroutine's place, as a view that does long work there.
API = """
    import asyncio, multiprocessing, os, signal, sys, time, warnings

    # Python 3.12 warns of each fork in a process with threads.
    warnings.simplefilter("ignore", DeprecationWarning)

    reactor = sys.argv[1]
    if reactor == "epoll":
        from twisted.internet import epollreactor
        epollreactor.install()
    elif reactor == "asyncio":
        from twisted.internet import asyncioreactor
        asyncioreactor.install(asyncio.SelectorEventLoop())

    from aiorest_ws.app import Application
    from aiorest_ws.decorators import endpoint
    from aiorest_ws.demo import make_router

    router = make_router()

    def wait():
        time.sleep(600)
        os._exit(7)

    def register(path, **options):
        def register(view):
            view = endpoint(path, "GET")(view)
            for name, value in options.items():
                setattr(view, name, value)
            router.register_endpoint(view)
        return register

    @register("/plain")
    def plain(request):
        return os.fork() or wait()

    @register("/coroutine")
    async def coroutine(request):
        return os.fork() or wait()

    @register("/pty")
    def pty(request):
        return os.forkpty()[0] or wait()

    @register("/process")
    def process(request):
        global kept
        kept = multiprocessing.get_context("fork").Process(target=wait, daemon=True)
        kept.start()
        return kept.pid

    @register("/handled")
    def handled(request):
        signal.signal(signal.SIGUSR1, lambda *_: os._exit(5))
        return os.fork() or wait()

    options = dict(zip(("certificate", "key"), sys.argv[3:]))
    app = Application(router=router, **options)
    if sys.argv[2] == "tcp":
        app.tcp_service("127.0.0.1", 0).run()
    else:
        from aiorest_ws.log import log_to_stream, set_level
        log_to_stream()
        set_level("info")
        app.service(listen="unix:api.sock").run()
"""


@pytest.fixture
def serve(tmp_path):
    """Start a server that forks; kill it and its children at the end."""
    import textwrap

    (tmp_path / "server.py").write_text(textwrap.dedent(API))
    running = Running(tmp_path)
    yield running.start
    running.end()


class Running:
    def __init__(self, folder):
        self.folder = folder
        self.children = []

    def start(self, reactor, where="tcp", *files):
        self.server = Program(("server.py", reactor, where, *map(str, files)), self.folder)
        self.tls = None
        if files:
            self.tls = ssl.create_default_context(cafile=str(files[0]))
        if where == "tcp":
            found = self.server.wait_for(r"wss?://127\.0\.0\.1:(\d+)/")
            self.address = ("127.0.0.1", int(found[1]))
        else:
            self.server.wait_for("serves")
            self.address = str(self.folder / "api.sock")
        return self

    def connect(self):
        if isinstance(self.address, str):
            return unix_connect(self.address, "ws://localhost/")
        scheme = "wss" if self.tls else "ws"
        url = f"{scheme}://localhost:{self.address[1]}/"
        sock = socket.create_connection(self.address, SECONDS)
        return connect(url, sock=sock, ssl=self.tls)

    def raw(self):
        """Open a connection, inside TLS if there is TLS, without a WebSocket."""
        family = socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET
        raw = socket.socket(family)
        raw.settimeout(SECONDS)
        raw.connect(self.address)
        return self.tls.wrap_socket(raw, server_hostname="localhost") if self.tls else raw

    def fork(self, path):
        with self.connect() as client:
            return self.fork_on(client, path)

    def fork_on(self, client, path):
        client.send(json.dumps({"method": "GET", "url": path}))
        pid = json.loads(client.recv(timeout=SECONDS))["data"]
        self.children.append(pid)
        return pid

    def end(self):
        for pid in self.children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.server.kill()


def has_ended(pid):
    """Tell whether a process has ended, though its parent may not know it yet."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


def wait_until_ended(pid):
    deadline = time.monotonic() + SECONDS
    while not has_ended(pid):
        assert time.monotonic() < deadline, f"{pid} runs"
        time.sleep(0.02)


REACTORS = ["default", "asyncio", "epoll"]


@pytest.mark.parametrize(
    ("reactor", "path"),
    [
        *(("default", path) for path in ("/plain", "/coroutine", "/process", "/pty")),
        *(("asyncio", "/plain"), ("asyncio", "/process"), ("epoll", "/plain")),
    ],
)
def test_a_child_has_neither_the_connections_nor_the_signals(serve, reactor, path):
    running = serve(reactor)
    with running.raw() as waiting, running.connect() as other:
        child = running.fork_on(other, path)
        # A request that is refused is closed by the server: its end reaches the client.
        waiting.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert waiting.makefile("rb").read().startswith(b"HTTP/1.1 426 ")
        os.kill(child, signal.SIGTERM)
        wait_until_ended(child)
        # The server has not got the signal: it would answer with 503.
        running.children.remove(child)
        second = running.fork_on(other, path)
        assert not has_ended(running.server.process.pid)
        os.kill(second, signal.SIGINT)
        wait_until_ended(second)
        running.fork_on(other, path)
    # While a child lives the server ends, and nothing listens any more.
    running.server.process.send_signal(signal.SIGTERM)
    assert running.server.process.wait(SECONDS) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(running.address, SECONDS)


@pytest.mark.parametrize("reactor", REACTORS)
@pytest.mark.parametrize("kind", ["tls", "unix"])
def test_the_end_of_other_connections_reaches_the_client_too(serve, tls_files, reactor, kind):
    running = serve(reactor, "unix") if kind == "unix" else serve(reactor, "tcp", *tls_files)
    with running.raw() as waiting:
        running.fork("/plain")
        waiting.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with suppress(ssl.SSLEOFError):
            assert waiting.makefile("rb").read().startswith(b"HTTP/1.1 426 ")


@pytest.mark.parametrize("reactor", ["default", "epoll"])
def test_a_handler_of_the_program_stays(serve, reactor):
    running = serve(reactor)
    child = running.fork("/handled")
    os.kill(child, signal.SIGUSR1)
    wait_until_ended(child)
    assert running.fork("/plain")
