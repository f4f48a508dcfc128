"""A loop that is blocked is logged with its place; a worker that does not answer is replaced."""

import os
import re
import signal
import textwrap
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.sync.client import connect

from support.waiting import block_until
from support.workers import SECONDS, Server, ask, message, pids_of

pytestmark = pytest.mark.process

# A view blocks until the test has read what is logged. C code runs to its end.
ORDERS = """
    import asyncio, ctypes, os, re, sys, threading, time
    from pathlib import Path
    from twisted.internet.defer import Deferred
    from aiorest_ws.app import Application
    from aiorest_ws.decorators import endpoint
    from aiorest_ws.limits import Limits
    from aiorest_ws.routers import SimpleRouter
    from aiorest_ws.views import MethodBasedView
    import shop

    router = SimpleRouter()

    def view(function):
        router.register_endpoint(endpoint(f"/{function.__name__}", "GET")(function))
        return function

    @view
    def pid(request):
        return os.getpid()

    @view
    def create(request):
        while not shop.is_over():
            time.sleep(0.01)  # create

    @view
    def spin(request):
        end = False
        while not end:
            end = shop.is_over()  # spin

    @view
    def lock(request):
        held = threading.Lock()
        held.acquire()
        while not shop.is_over():
            held.acquire(timeout=0.01)  # lock

    class Orders(MethodBasedView):
        def get(self, request):
            shop.wait()  # Orders.get

    router.register("/Orders.get", Orders, methods=["GET"])

    @view
    async def coroutine(request):
        await asyncio.sleep(0)
        await shop.later()  # coroutine

    @view
    def deferred(request):
        def fired(result):
            shop.wait()  # fired
        answer = Deferred().addCallback(fired)
        request.factory.reactor.callLater(0, answer.callback, None)
        return answer

    @view
    async def task(request):
        async def background():
            shop.wait()  # background
        app.task = asyncio.create_task(background())

    @view
    def stream(request):
        async def items():
            yield 1
            await asyncio.sleep(0)
            shop.wait()  # items
            yield 2
        return items()

    @view
    def regex(request):
        length, seconds = 10, 0
        while seconds < 1.5:
            length, start = length + 1, time.monotonic()
            re.match("(a*)*b", "a" * length)  # regex
            seconds = time.monotonic() - start

    @view
    def sort(request):
        length, seconds = 1000, 0
        while seconds < 1.5:
            numbers, start = [*range(length)] * 3, time.monotonic()
            numbers.sort(key=str)  # sort
            length, seconds = length * 2, time.monotonic() - start

    @view
    def foreign(request):
        ctypes.PyDLL(None).sleep(2)  # foreign

    # Until the process ends

    @view
    def deadlock(request):
        held = threading.Lock()
        held.acquire()
        held.acquire()

    @view
    def sleep(request):
        time.sleep(3600)

    @view
    def loop(request):
        while True:
            pass

    @view
    def extension(request):
        ctypes.PyDLL(None).sleep(3600)  # extension

    @view
    def backtrack(request):
        re.match("(a*)*b", "a" * 99)  # backtrack

    @view
    def stop(request):
        os.kill(os.getpid(), 19)

    app = Application(router=router, limits=Limits(closing_seconds=1))

    if Path("slow").exists():
        @app.on_startup
        def slow(factory):
            time.sleep(3)
"""

SHOP = """
    import time
    from pathlib import Path

    def is_over():
        return Path("over").exists()

    def wait():
        while not is_over():
            time.sleep(0.01)  # wait

    async def later():
        while not is_over():
            time.sleep(0.01)  # later
"""

COMMAND = ("-m", "aiorest_ws", "run", "orders:app", "--port", "0")


def write(folder):
    (folder / "orders.py").write_text(textwrap.dedent(ORDERS))
    (folder / "shop.py").write_text(textwrap.dedent(SHOP))
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path)


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    """Start servers for several tests."""
    servers = []

    def serve(*command):
        servers.append(Server(command, write(tmp_path_factory.mktemp("orders"))))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()


def place(folder, name, file="orders.py"):
    """Return where the line with the comment `name` is, as the log writes it."""
    lines = Path(folder, file).read_text().splitlines()
    [number] = [at for at, line in enumerate(lines, 1) if line.endswith(f"# {name}")]
    return f"{file}:{number} {name}"


# What is logged


@pytest.fixture(scope="module")
def one_process(serve):
    server = serve(*COMMAND)
    return server, server.url()


def by_caller(folder, name):
    return f"{place(folder, 'wait', 'shop.py')}, called by {place(folder, name)}"


WAITING = {
    "create": place,
    "spin": lambda folder, _: rf"(shop.py:\d+ is_over, called by )?{place(folder, 'spin')}",
    "lock": place,
    "Orders.get": by_caller,
    "coroutine": lambda folder, name: (
        f"{place(folder, 'later', 'shop.py')}, called by {place(folder, name)}"
    ),
    "deferred": lambda folder, _: by_caller(folder, "fired"),
    "task": lambda folder, _: by_caller(folder, "background"),
    "stream": lambda folder, _: by_caller(folder, "items"),
}


@pytest.mark.parametrize("name", WAITING)
def test_a_blocked_loop_is_logged_with_its_place_and_its_end_with_the_time(one_process, name):
    server, url = one_process
    over = server.folder / "over"
    over.unlink(missing_ok=True)
    read = len(server.lines)
    with connect(url, ping_interval=None) as client:
        client.send(message(f"/{name}"))
        where = WAITING[name](server.folder, name)
        line = rf"WARNING aiorest-ws: the loop {{}} for ([\d.]+) s in {where}$"
        begun = server.wait_for(line.format("has been blocked"))
        over.touch()
        ended = server.wait_for(line.format("was blocked"))
    assert 1 <= float(begun[1]) <= float(ended[1])
    assert len(server.lines) == read + 2


@pytest.mark.parametrize("name", ["regex", "sort", "foreign"])
def test_c_code_that_holds_the_gil_is_logged_when_it_has_returned(one_process, name):
    server, url = one_process
    with connect(url, ping_interval=None) as client:
        client.send(message(f"/{name}"))
        where = place(server.folder, name)
        server.wait_for(rf"WARNING.* the loop was blocked for [\d.]+ s in {where}")
        client.recv(SECONDS)


# A worker is replaced

HANGS = ("deadlock", "sleep", "loop", "extension", "backtrack", "stop")


@pytest.fixture(scope="module")
def hung(serve):
    """Return what a server did whose workers hang, each in another way, and who they were."""
    server = serve(*COMMAND, "--workers", f"{len(HANGS) + 1}", "--blocked-seconds", "2")
    url = server.url()
    everybody = pids_of(url, len(HANGS) + 1)
    clients = {}
    with ExitStack() as stack:
        while len(clients) < len(everybody):
            client = stack.enter_context(connect(url, ping_interval=None))
            clients[ask(client, "/pid")] = client
        stays, *hanging = clients
        for name, pid in zip(HANGS, hanging, strict=True):
            clients[pid].send(message(f"/{name}"))
        for _ in HANGS:
            server.wait_for("the next in 0.1 s")
        block_until(lambda: len(set(server.workers()) - everybody) == len(HANGS))
        assert ask(clients[stays], "/pid") == stays
    assert pids_of(url, len(everybody)) == set(server.workers())
    assert server.end(signal.SIGTERM)[0] == 0
    return server, dict(zip(HANGS, hanging, strict=True))


@pytest.mark.parametrize("name", HANGS)
def test_a_worker_that_hangs_is_replaced_after_the_limit(hung, name):
    server, pids = hung
    output = "\n".join(server.lines)
    pid = pids[name]
    assert re.search(
        rf"ERROR.*worker \d, pid {pid} has not answered for \d s and is replaced", output
    )
    how = "SIGKILL" if name == "stop" else "SIGABRT"
    assert re.search(rf"worker \d, pid {pid}, ended by {how}; the next in 0.1 s", output)


@pytest.mark.parametrize("name", ["extension", "backtrack"])
def test_the_stack_of_one_that_hangs_in_c_code_is_printed(hung, name):
    """Python does not run any more, so nothing else can tell."""
    server, _ = hung
    line = place(server.folder, name).partition(":")[2].partition(" ")[0]
    assert re.search(rf'orders.py", line {line} in {name}', "\n".join(server.lines))


# A worker is not replaced


def test_a_worker_that_starts_is_not_replaced(start, folder):
    (folder / "slow").touch()
    server = start(*COMMAND, "--workers", "2", "--blocked-seconds", "2")
    assert len(pids_of(server.url(), 2)) == 2
    status, output = server.end(signal.SIGTERM)
    assert status == 0, output
    assert "is replaced" not in output


def test_a_worker_that_stops_is_not_replaced(start, folder):
    """It has got a signal of its own, and has the time to stop."""
    server = start(*COMMAND, "--workers", "2", "--blocked-seconds", "2")
    with connect(server.url(), ping_interval=None) as client:
        pid = ask(client, "/pid")
        client.send(message("/create"))
        os.kill(pid, signal.SIGTERM)
        server.wait_for("the loop has been blocked for")
        time.sleep(4)  # twice the limit
        (folder / "over").touch()
        assert '"data":null' in client.recv(SECONDS)
        server.wait_for(rf"worker \d, pid {pid}, ended with status 0")
    assert "is replaced" not in server.end(signal.SIGTERM)[1]


def test_a_server_that_was_suspended_replaces_nobody(start, folder):
    server = start(*COMMAND, "--workers", "2", "--blocked-seconds", "2")
    url = server.url()
    pids = pids_of(url, 2)
    everybody = [server.process.pid, *pids]
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(4)  # twice the limit
    for pid in everybody:
        os.kill(pid, signal.SIGCONT)
    with connect(url) as client:
        os.kill(ask(client, "/pid"), signal.SIGSTOP)
        # The supervisor has looked again by now.
        replaced = server.wait_for(r"pid (\d+) has not answered for 2 s and is replaced")
    assert int(replaced[1]) in pids
    output = server.end(signal.SIGTERM)[1]
    assert output.count("is replaced") == 1
