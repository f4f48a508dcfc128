"""Servers in processes of their own that are told to stop."""

import json
import os
import queue
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from support.drain import REFUSED, call

pytestmark = pytest.mark.process

SECONDS = 60


API = """
    import asyncio, sys, time
    from twisted.internet.defer import Deferred
    from twisted.internet.threads import deferToThread
    from aiorest_ws.app import Application
    from aiorest_ws.decorators import endpoint
    from aiorest_ws.limits import Limits
    from aiorest_ws.routers import SimpleRouter

    router = SimpleRouter()

    def view(path, **options):
        def register(function):
            router.register_endpoint(endpoint(path, "GET", **options)(function))
            return function
        return register

    def begun():
        print("begun", flush=True)

    @view("/hello")
    def hello(request):
        return "hello"

    @view("/block")
    def block(request):
        begun()
        time.sleep(3600)

    @view("/spin")
    async def spin(request):
        await asyncio.sleep(0)
        begun()
        while True:
            pass

    @view("/never")
    def never(request):
        begun()
        return Deferred()

    @view("/stubborn")
    async def stubborn(request):
        begun()
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass

    @view("/thread")
    async def thread(request):
        begun()
        await asyncio.to_thread(time.sleep, 3600)

    @view("/twisted_thread")
    def twisted_thread(request):
        begun()
        return deferToThread(time.sleep, 3600)

    @view("/blocking", blocking=True)
    def blocking(request):
        begun()
        time.sleep(3600)

    @view("/exit")
    def leave(request):
        begun()
        sys.exit(7)

    app = Application(
        router=router, limits=Limits(drain_seconds=float(sys.argv[1]), closing_seconds=0.5)
    )
    if __name__ == "__main__":
        app.run(port=0)
"""


class Server:
    """A server process, with what it has printed."""

    def __init__(self, folder, drain_seconds):
        (folder / "api.py").write_text(textwrap.dedent(API))
        self.process = subprocess.Popen(
            [sys.executable, "api.py", str(drain_seconds)],
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = []
        self._unread = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.url = self.wait_for(r"(ws://\S+:\d+/)")[1]
        self.wait_for("CONTROL-C")

    def _read(self):
        with self.process.stdout:
            for line in self.process.stdout:
                self._unread.put(line)
        self._unread.put("")

    def wait_for(self, pattern):
        while line := self._unread.get(timeout=SECONDS):
            self.lines.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError("".join(self.lines))

    def end(self):
        """Wait for the end; return the status and what was printed."""
        status = self.process.wait(SECONDS)
        while line := self._unread.get(timeout=SECONDS):
            self.lines.append(line)
        return status, "".join(self.lines)


@pytest.fixture
def start(tmp_path):
    """Start server processes; what is left of them is killed at the end."""
    servers = []

    def start(drain_seconds):
        servers.append(Server(tmp_path, drain_seconds))
        return servers[-1]

    yield start
    for server in servers:
        server.process.kill()
        server.process.wait(SECONDS)


def replies_of(client):
    """Return all that comes, and the close code; None if there was none."""
    found = []
    try:
        while True:
            found.append(json.loads(client.recv(SECONDS)))
    except ConnectionClosed as exc:
        return found, exc.rcvd.code if exc.rcvd else None


@pytest.mark.parametrize(
    "view", ["/never", "/stubborn", "/thread", "/twisted_thread", "/blocking"]
)
def test_a_call_that_is_not_done_in_time_is_answered_503_and_the_status_is_0(start, view):
    server = start(0.5)
    with connect(server.url) as client:
        client.send(call(view))
        server.wait_for("begun")
        server.process.send_signal(signal.SIGTERM)
        assert replies_of(client) == ([REFUSED], 1012)
    status, output = server.end()
    assert status == 0, output
    assert "1 calls did not end in 0.5 s: answered with 503" in output


@pytest.mark.parametrize("view", ["/block", "/spin"])
def test_a_view_that_blocks_is_ended_with_its_process_and_named(start, view):
    server = start(0.3)
    with connect(server.url) as client:
        client.send(call(view))
        server.wait_for("begun")
        server.process.send_signal(signal.SIGTERM)
        assert replies_of(client) == ([], None)
    status, output = server.end()
    assert status == 1, output
    assert "the process ends, status 1: it did not stop in 1.3 s" in output
    assert f"in {view[1:]}\n" in output  # where it was


@pytest.mark.parametrize("view", ["/never", "/block"])
def test_a_second_signal_ends_the_process_at_once(start, view):
    server = start(3600)
    with connect(server.url) as client:
        client.send(call(view))
        server.wait_for("begun")
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)  # two that wait for the process at once are one
        server.process.send_signal(signal.SIGTERM)
        status, output = server.end()
    assert status == 1, output
    assert "a second signal, SIGTERM" in output
    assert f"GET' '{view}'" in output or f"in {view[1:]}" in output


def test_a_call_that_exits_is_a_failure_and_the_server_stays(start):
    server = start(5)
    with connect(server.url) as client:
        client.send(call("/exit"))
        assert json.loads(client.recv(SECONDS))["status"] == 500
        client.send(call("/hello"))
        assert json.loads(client.recv(SECONDS))["data"] == "hello"
    server.process.send_signal(signal.SIGTERM)
    assert server.end()[0] == 0


def test_calls_that_were_read_are_answered_and_no_others(start):
    server = start(5)
    count = 2000
    with connect(server.url) as client:
        client.send(call("/hello", "first"))
        client.recv(SECONDS)
        for number in range(count):
            client.send(call("/hello", number))
            if number == count // 2:
                server.process.send_signal(signal.SIGTERM)
        answered, code = replies_of(client)
    assert [one["id"] for one in answered] == list(range(len(answered)))
    assert code == 1012
    assert server.end()[0] == 0
