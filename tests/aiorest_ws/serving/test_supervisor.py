"""Workers: real processes that share a socket, are replaced, rolled and stopped."""

import json
import os
import queue
import re
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect, unix_connect

from aiorest_ws.app import Application
from aiorest_ws.decorators import endpoint
from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.serving import supervisor
from aiorest_ws.serving.banner import Banner
from aiorest_ws.serving.service import ApplicationService, ServerProcess
from aiorest_ws.serving.supervisor import Supervisor
from aiorest_ws.transports import install_reactor, tcp_endpoint
from aiorest_ws.transports.loop_port import LoopServerEndpoint
from aiorest_ws.transports.sockets import InheritedSocket
from support.waiting import block_until

SECONDS = 60

API = """
    import asyncio, os, sys, time
    from pathlib import Path
    from aiorest_ws.app import Application
    from aiorest_ws.decorators import endpoint
    from aiorest_ws.limits import Limits
    from aiorest_ws.routers import SimpleRouter

    VERSION = 1
    router = SimpleRouter()

    def view(path):
        def register(function):
            router.register_endpoint(endpoint(path, "GET")(function))
            return function
        return register

    @view("/pid")
    def pid(request):
        return os.getpid()

    @view("/version")
    def version(request):
        return VERSION

    @view("/inherited")
    def inherited(request):
        return [name for name in os.environ if name.startswith("AIOREST_WS_W")]

    ran = os.open("ran.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    @view("/run")
    async def run(request):
        os.write(ran, f"{request.id}\\n".encode())
        await asyncio.sleep(0.005)
        return "done"

    @view("/hang")
    async def hang(request):
        print("hanging", flush=True)
        await asyncio.sleep(3600)

    @view("/block")
    def block(request):
        print("blocking", flush=True)
        time.sleep(3600)

    app = Application(router=router, limits=Limits(drain_seconds=3600, closing_seconds=1))

    @app.on_shutdown
    def stopped(factory):
        Path(f"stopped.{os.getpid()}").touch()
"""

MAIN = """
    import sys
    from api import app
    app.run(port=0, workers=int(sys.argv[1]))
"""


class Server:
    """A process, and what it has printed so far."""

    def __init__(self, command, folder):
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", *command],
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = []
        self._unread = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        with self.process.stdout:
            for line in self.process.stdout:
                self._unread.put(line.rstrip("\n"))
        self._unread.put(None)

    def wait_for(self, pattern):
        """Read until a line has the pattern; return the match."""
        while (line := self._unread.get(timeout=SECONDS)) is not None:
            self.lines.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError("\n".join(self.lines))

    def url(self):
        url = self.wait_for(r"(wss?://\S+:\d+/)")[1]
        self.wait_for("CONTROL-C")
        return url

    def tell(self, number):
        self.process.send_signal(number)

    def end(self, number=None):
        """Wait until nobody has its output any more; return the status and the output."""
        if number is not None:
            self.tell(number)
        while (line := self._unread.get(timeout=SECONDS)) is not None:
            self.lines.append(line)
        return self.process.wait(SECONDS), "\n".join(self.lines)

    def workers(self):
        """Return the pids of its children."""
        found = []
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            with suppress(FileNotFoundError):  # a thread may end meanwhile
                found += (task / "children").read_text().split()
        return [int(pid) for pid in found]

    def close(self):
        # Its workers end with it, and these here by force.
        pids = self.workers() if self.process.poll() is None else []
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait(SECONDS)


@pytest.fixture
def start(tmp_path):
    """Start servers in a folder with an API; what is left of them is killed at the end."""
    (tmp_path / "api.py").write_text(textwrap.dedent(API))
    (tmp_path / "server.py").write_text(textwrap.dedent(MAIN))
    servers = []

    def start(*command):
        servers.append(Server(command, tmp_path))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def message(url, **keys):
    return json.dumps({"method": "GET", "url": url, **keys})


def ask(client, url):
    client.send(message(url))
    return json.loads(client.recv(SECONDS))["data"]


def pids_of(url, count, **options):
    """Connect until so many processes have answered; return their pids."""
    end = time.monotonic() + SECONDS
    found = set()
    while len(found) < count and time.monotonic() < end:
        with connect(url, **options) as client:
            found.add(ask(client, "/pid"))
    return found


def has_ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


# The start

FLAVOURS = {
    "script": ("server.py", "2"),
    "module": ("-m", "server", "2"),
    "-c": ("-c", "from api import app; app.run(port=0, workers=2)"),
    "command": ("-m", "aiorest_ws", "run", "api:app", "--port", "0", "--workers", "2"),
}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_each_worker_is_a_process_of_the_same_program(start, flavour):
    server = start(*FLAVOURS[flavour])
    url = server.url()
    pids = pids_of(url, 2)
    assert pids == set(server.workers())
    with connect(url) as client:
        assert ask(client, "/inherited") == []
    status, output = server.end(signal.SIGTERM)
    assert status == 0, output
    assert output.count("Server started at ") == 1
    assert "Workers: 2" in output
    assert {Path(server.folder, f"stopped.{pid}").exists() for pid in pids} == {True}
    assert len(output.splitlines()) == 5, output


def test_one_worker_is_the_process_itself(start):
    server = start("server.py", "1")
    assert pids_of(server.url(), 1) == {server.process.pid}
    assert "Workers" not in server.end(signal.SIGTERM)[1]


def test_workers_serve_wss(start, tls_files):
    certificate, key = map(str, tls_files)
    server = start(*FLAVOURS["command"], "--certificate", certificate, "--key", key)
    context = ssl.create_default_context(cafile=certificate)
    pids = pids_of(server.url(), 2, ssl=context, server_hostname="localhost")
    assert pids == set(server.workers())
    assert server.end(signal.SIGTERM)[0] == 0


TWIST = """
    import sys
    from twisted.application.twist._twist import Twist
    from twisted.plugin import getPlugins
    import twisted.application.twist._options as options
    from twisted.application.service import ServiceMaker

    # What the installed plugin says; an editable install has none.
    ours = ServiceMaker("aiorest-ws", "aiorest_ws.tap", "", "aiorest-ws")
    options.getPlugins = lambda interface: [ours]
    Twist.main(sys.argv)
"""


def test_twist_serves_a_unix_socket_with_workers(start, tmp_path):
    (tmp_path / "twist.py").write_text(textwrap.dedent(TWIST))
    server = start(
        "twist.py", "--log-format=text", "aiorest-ws", "--app", "api:app",
        "--workers", "2", "--listen", "unix:api.sock",
    )  # fmt: skip
    server.wait_for("serves .*api.sock.* on 2 workers, each on AsyncioSelectorReactor")
    path = str(tmp_path / "api.sock")
    found = set()
    block_until(lambda: found.add(pid_by(path)) or len(found) == 2)
    assert found == set(server.workers())
    status, output = server.end(signal.SIGTERM)
    assert status == -signal.SIGTERM, output  # as twist ends
    assert output.count("serves ") == 1
    assert not (tmp_path / "api.sock").exists()
    assert len(list(tmp_path.glob("stopped.*"))) == 2


def pid_by(path):
    with unix_connect(path, "ws://localhost/") as client:
        return ask(client, "/pid")


def test_a_worker_that_cannot_start_ends_the_server_with_its_status(start, tmp_path):
    (tmp_path / "server.py").write_text(
        "from api import app\n"
        "@app.on_startup\n"
        "def fail(factory):\n"
        "    raise RuntimeError('no database')\n"
        "app.run(port=0, workers=3)\n"
    )
    server = start("server.py")
    status, output = server.end()
    assert status == 1
    assert "the server cannot start: no database" in output
    assert re.search(
        r"CRITICAL.*worker \d, pid \d+, ended with status 1 before it listened", output
    )
    assert "Server started" not in output


def test_a_second_service_with_workers_is_refused(start, tmp_path):
    (tmp_path / "server.py").write_text(
        "from api import app\n"
        "first, second = (app.tcp_service('127.0.0.1', 0, workers=2) for _ in range(2))\n"
        "first.run()\n"
    )
    status, output = start("server.py").end()
    assert status == 1
    assert "Only one service of a process can have workers." in output


def test_a_server_that_starts_can_be_stopped(start, tmp_path):
    (tmp_path / "server.py").write_text(
        "import os\n"
        "from twisted.internet.defer import Deferred\n"
        "from api import app\n"
        "@app.on_startup\n"
        "def never(factory):\n"
        # One write: the lines of two workers must not run into each other.
        "    os.write(1, b'starting\\n')\n"
        "    return Deferred()\n"
        "app.run(port=0, workers=2)\n"
    )
    server = start("server.py")
    server.wait_for("starting")
    server.wait_for("starting")
    status, output = server.end(signal.SIGINT)
    assert status == 0, output


@endpoint("/hello", "GET")
def hello(request):
    return "hello"


def application(**options):
    router = SimpleRouter()
    router.register_endpoint(hello)
    return Application(router=router, **options)


@pytest.mark.parametrize("workers", [0, -1, 1.5, "two"])
def test_a_number_of_workers_that_cannot_be_is_refused(workers):
    with pytest.raises(ImproperlyConfigured, match="workers must be a positive integer"):
        application().service(workers=workers)


def test_an_endpoint_of_twisteds_cannot_have_workers():
    with pytest.raises(ImproperlyConfigured, match="Workers share a socket of the asyncio"):
        application().service(workers=2, listen="haproxy:tcp:0")


def test_topics_on_memory_cannot_have_workers():
    app = application()
    app.router.register_topic("orders/{id}")
    with pytest.raises(ImproperlyConfigured, match="not shared by workers: give topics='redis:"):
        app.service(workers=2)


@pytest.mark.asyncio_reactor
def test_an_application_with_workers_is_a_supervisors_service():
    service = application().service(workers=2, listen="tcp:0:interface=127.0.0.1")
    assert isinstance(service.server, Supervisor)


# A worker that dies


def test_a_worker_that_is_killed_is_replaced_while_the_others_serve(start):
    server = start("server.py", "2")
    url = server.url()
    with connect(url) as client:
        stays = ask(client, "/pid")
        [goes] = set(server.workers()) - {stays}
        os.kill(goes, signal.SIGKILL)
        server.wait_for(rf"WARNING.*worker \d, pid {goes}, ended by SIGKILL; the next in 0.1 s")
        block_until(lambda: len(server.workers()) == 2)
        assert ask(client, "/pid") == stays
    assert pids_of(url, 2) == set(server.workers())
    assert goes not in server.workers()
    assert server.end(signal.SIGTERM)[0] == 0


def test_one_that_dies_again_and_again_is_replaced_more_slowly(start, tmp_path):
    server = start("server.py", "2")
    server.url()
    (tmp_path / "api.py").write_text("import sys\nsys.exit(3)\n")
    os.kill(server.workers()[0], signal.SIGKILL)
    pauses = [
        server.wait_for(rf"ended {how}; the next in ([\d.]+) s")[1]
        for how in ("by SIGKILL", "with status 3", "with status 3", "with status 3")
    ]
    assert pauses == ["0.1", "0.2", "0.4", "0.8"]
    assert server.end(signal.SIGTERM)[0] == 0


def test_the_pause_before_a_replacement_has_a_bound_and_begins_anew():
    slot = supervisor.Slot(1)
    pauses = [slot.next_pause(lived=0) for _ in range(10)]
    assert pauses[-3:] == [10, 10, 10]
    assert slot.next_pause(lived=10) == 0.1


# The rolling restart


class Load(threading.Thread):
    """A client that calls all the time, and connects again when it is told to."""

    def __init__(self, url, number):
        super().__init__(daemon=True)
        self.url, self.number = url, number
        self.answered, self.faults, self.reconnects = [], [], 0
        self.is_over = threading.Event()
        self.start()

    def run(self):
        count = 0
        while not self.is_over.is_set():
            try:
                with connect(self.url) as client:
                    while not self.is_over.is_set():
                        count += 1
                        name = f"{self.number}-{count}"
                        client.send(message("/run", id=name))
                        reply = json.loads(client.recv(SECONDS))
                        if reply.get("data") == "done" and reply["id"] == name:
                            self.answered.append(name)
                        elif reply.get("status") != 503:
                            self.faults.append(reply)
            except ConnectionClosed as exc:
                if exc.rcvd is None or exc.rcvd.code != 1012:
                    self.faults.append(exc)
                self.reconnects += 1
            except Exception as exc:  # noqa: BLE001  no other is expected
                self.faults.append(exc)

    def end(self):
        self.is_over.set()
        self.join(SECONDS)


def test_a_rolling_restart_under_load_loses_no_call_and_refuses_no_connection(start, tmp_path):
    server = start("server.py", "2")
    url = server.url()
    clients = [Load(url, number) for number in range(8)]
    api = (tmp_path / "api.py").read_text()
    for version in (2, 3):
        before = set(server.workers())
        (tmp_path / "api.py").write_text(api.replace("VERSION = 1", f"VERSION = {version}"))
        server.tell(signal.SIGHUP)
        if version == 2:
            server.wait_for("rolling restart of 2 workers")
            server.tell(signal.SIGHUP)  # in the midst of it means one more
            server.wait_for("rolling restart: done")
            server.wait_for("rolling restart of 2 workers")
        server.wait_for("rolling restart: done")
        assert not before & set(server.workers())
        assert len(server.workers()) == 2
        with connect(url) as client:
            assert ask(client, "/version") == version
    block_until(lambda: all(client.reconnects for client in clients))
    for client in clients:
        client.end()
    assert [client.faults for client in clients] == [[]] * 8
    status, output = server.end(signal.SIGTERM)
    assert status == 0, output
    answered = Counter(name for client in clients for name in client.answered)
    assert Counter((tmp_path / "ran.txt").read_text().split()) == answered
    assert len(answered) > 100


def test_a_rolling_restart_is_given_up_when_the_new_program_does_not_start(start, tmp_path):
    server = start("server.py", "2")
    url = server.url()
    before = set(server.workers())
    with connect(url) as client:
        (tmp_path / "api.py").write_text("1 / 0\n")
        server.tell(signal.SIGHUP)
        server.wait_for("ZeroDivisionError")
        server.wait_for(r"ERROR.*worker 1, pid \d+, ended with status 1 before it listened")
        server.wait_for("ERROR.*the rolling restart is aborted")
        assert ask(client, "/version") == 1
    assert set(server.workers()) == before
    assert server.end(signal.SIGTERM)[0] == 0


def test_a_hangup_of_a_worker_is_nothing(start):
    server = start("server.py", "2")
    url = server.url()
    for pid in server.workers():
        os.kill(pid, signal.SIGHUP)
    assert pids_of(url, 2) == set(server.workers())
    assert "ended" not in server.end(signal.SIGTERM)[1]


def test_a_stop_during_a_rolling_restart_stops_all(start):
    server = start("server.py", "2")
    server.url()
    server.tell(signal.SIGHUP)
    server.wait_for("rolling restart of 2 workers")
    status, output = server.end(signal.SIGTERM)
    assert status == 0, output
    assert "given up" not in output


# The stop


@pytest.mark.parametrize("to_all", [False, True], ids=["to the supervisor", "to all of them"])
def test_a_stop_under_load_answers_all_that_has_run(start, tmp_path, to_all):
    """systemd sends the signal to all processes of a service."""
    server = start("server.py", "2")
    url = server.url()
    clients = [Load(url, number) for number in range(8)]
    block_until(lambda: all(len(client.answered) > 5 for client in clients))
    workers = server.workers() if to_all else []
    for client in clients:
        client.is_over.set()  # the one that runs is the last
    for pid in [server.process.pid, *workers]:
        os.kill(pid, signal.SIGTERM)
    status, output = server.end()
    assert status == 0, output
    assert "second signal" not in output
    for client in clients:
        client.end()
    assert [client.faults for client in clients] == [[]] * 8
    answered = Counter(name for client in clients for name in client.answered)
    assert Counter((tmp_path / "ran.txt").read_text().split()) == answered


def test_a_running_call_is_waited_for_and_a_second_signal_ends_it(start):
    """Also when systemd sends the first to all processes of the service."""
    server = start("server.py", "2")
    with connect(server.url()) as client:
        client.send(message("/hang"))
        server.wait_for("hanging")
        server.tell(signal.SIGTERM)
        block_until(lambda: len(server.workers()) == 1)  # the other one had nothing to do
        [worker] = server.workers()
        os.kill(worker, signal.SIGTERM)
        time.sleep(0.3)  # nothing is to happen
        assert server.workers() == [worker]
        status, output = server.end(signal.SIGTERM)
    assert status == 1, output
    assert "all workers end: a second signal, SIGTERM" in output
    assert "GET' '/hang'" in output


def test_a_worker_that_blocks_is_ended_by_a_second_signal(start):
    server = start("server.py", "2")
    with connect(server.url()) as client:
        client.send(message("/block"))
        server.wait_for("blocking")
        server.tell(signal.SIGTERM)
        block_until(lambda: len(server.workers()) == 1)
        status, output = server.end(signal.SIGTERM)
    assert status == 1, output
    assert "in block\n" in output


def test_a_worker_that_is_stuck_is_killed_when_its_time_is_over(start, tmp_path):
    api = (tmp_path / "api.py").read_text().replace("drain_seconds=3600", "drain_seconds=0.1")
    (tmp_path / "api.py").write_text(api.replace("closing_seconds=1", "closing_seconds=0.1"))
    (tmp_path / "server.py").write_text(
        "from aiorest_ws.serving import child\nchild.KILL_MARGIN_SECONDS = 0.3\n"
        + textwrap.dedent(MAIN)
    )
    server = start("server.py", "2")
    server.url()
    stuck = server.workers()[0]
    os.kill(stuck, signal.SIGSTOP)
    status, output = server.end(signal.SIGTERM)
    assert status == 1, output
    assert re.search(rf"ERROR.*pid {stuck} has not ended in 0.6 s and is killed", output)


def test_workers_answer_their_calls_and_end_when_the_supervisor_is_killed(start, tmp_path):
    server = start("server.py", "2")
    url = server.url()
    workers = server.workers()
    clients = [Load(url, number) for number in range(4)]
    block_until(lambda: all(len(client.answered) > 5 for client in clients))
    for client in clients:
        client.is_over.set()
    server.tell(signal.SIGKILL)
    block_until(lambda: all(map(has_ended, workers)))
    for client in clients:
        client.end()
    assert [client.faults for client in clients] == [[]] * 4
    answered = Counter(name for client in clients for name in client.answered)
    assert Counter((tmp_path / "ran.txt").read_text().split()) == answered
    assert len(list(tmp_path.glob("stopped.*"))) == 2


def test_a_worker_that_blocks_ends_in_its_time_when_the_supervisor_is_killed(start, tmp_path):
    api = (tmp_path / "api.py").read_text().replace("drain_seconds=3600", "drain_seconds=0.3")
    (tmp_path / "api.py").write_text(api)
    server = start("server.py", "2")
    with connect(server.url()) as client:
        client.send(message("/block"))
        server.wait_for("blocking")
        workers = server.workers()
        server.tell(signal.SIGKILL)
        block_until(lambda: all(map(has_ended, workers)))


# A socket that is shared, in this process


@pytest.mark.asyncio_reactor
@pytest.mark.parametrize("is_last", [False, True])
@pytest_twisted.ensureDeferred
async def test_who_stops_leaves_those_that_wait_to_the_others_unless_it_is_the_last(is_last):
    with socket.create_server(("127.0.0.1", 0)) as shared:
        shared.setblocking(False)
        given = InheritedSocket(os.dup(shared.fileno()), 5, lambda: is_last)
        endpoint = LoopServerEndpoint(install_reactor(), given)
        port = await endpoint.listen(Factory.forProtocol(Protocol))
        with socket.create_connection(shared.getsockname(), SECONDS):
            await port.stopListening()
            if is_last:
                with pytest.raises(BlockingIOError):
                    shared.accept()
            else:
                shared.accept()[0].close()


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@pytest_twisted.ensureDeferred
async def test_who_has_been_accepted_is_let_in_by_a_worker_that_stops(network):
    factory = RequestHandlerFactory(router=application().router)
    banner = Banner(network.reactor, str)
    endpoint = tcp_endpoint(network.reactor, "127.0.0.1", 0)
    service = ApplicationService(ServerProcess(factory, endpoint, banner, is_replaced=True))
    service.startService()
    raw = await network.raw((await service.listening).getHost().port)
    while not factory.countConnections:
        await deferLater(network.reactor, 0.01)
    stopped = service.stopService()
    raw.transport.write(HANDSHAKE)
    assert b" 101 " in await raw.until(b"\x03\xf4")  # the code 1012
    raw.transport.loseConnection()
    await stopped


# The end of a service, with or without workers


def test_shutdown_hooks_run_once_when_the_service_stops_before_its_reactor(start, tmp_path):
    (tmp_path / "server.py").write_text(
        "from api import app\n"
        "service = app.tcp_service('127.0.0.1', 0)\n"
        "@app.on_shutdown\n"
        "def stopped(factory):\n"
        "    print('hook', flush=True)\n"
        "def stop(_):\n"
        "    reactor = service.factory.reactor\n"
        "    service.stopService().addCallback(lambda _: reactor.stop())\n"
        "service.listening.addCallback(stop)\n"
        "service.run()\n"
    )
    status, output = start("server.py").end()
    assert status == 0, output
    assert output.count("hook") == 1


def test_a_drain_that_fails_is_status_1_and_the_hooks_run(start, tmp_path):
    (tmp_path / "server.py").write_text(
        "from aiorest_ws.serving import service\n"
        "from api import app\n"
        "async def fail(factory):\n"
        "    raise RuntimeError('planted')\n"
        "service.drain = fail\n"
        "app.run(port=0)\n"
    )
    server = start("server.py")
    server.url()
    status, output = server.end(signal.SIGTERM)
    assert status == 1, output
    assert "connections could not be closed" in output
    assert list(tmp_path.glob("stopped.*"))
