"""What may go wrong around a server: blocked loops, clocks that jump, peers that break off."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import textwrap

import pytest
from websockets.sync.client import connect

pytestmark = pytest.mark.process

SECONDS = 60

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
LARGE_CALL = b'{"method":"GET","url":"/large"}'
LARGE = bytes((0x81, 0x80 | len(LARGE_CALL))) + bytes(4) + LARGE_CALL

API = """
    import asyncio, sys, time

    # Twisted takes hold of `time.time` when it is imported.
    real_time, offset = time.time, 0
    time.time = lambda: real_time() + offset

    from twisted.internet.defer import Deferred
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

    @view("/hello")
    def hello(request):
        return "hello"

    @view("/jump")
    def jump(request, seconds):
        global offset
        offset += seconds

    @view("/sleep")
    async def sleep(request, seconds):
        await asyncio.sleep(seconds)
        return "slept"

    @view("/never")
    def never(request):
        return Deferred()

    @view("/block")
    def block(request, seconds):
        time.sleep(seconds)

    @view("/large")
    async def large(request):
        await asyncio.sleep(0.05)
        return "x" * 1_000_000

    @view("/hits")
    def hits(request):
        return dict(request.factory.limit_hits)

    @view("/connections")
    def connections(request):
        return len(request.factory.connections)

    limits = Limits(ping_seconds=float(sys.argv[1]), pong_seconds=float(sys.argv[1]))
    if __name__ == "__main__":
        Application(router=router, limits=limits).run(port=0)
"""


class Server:
    """A server process."""

    def __init__(self, folder, ping_seconds):
        (folder / "api.py").write_text(textwrap.dedent(API))
        self.process = subprocess.Popen(
            [sys.executable, "-u", "api.py", str(ping_seconds)],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
        )
        while not (line := self.process.stdout.readline()).startswith("Server started at"):
            assert line, self.process.stderr.read()
        self.url = line.split()[-1]

    def end(self):
        """Stop it; return the status and what it has said of errors."""
        self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, errors


@pytest.fixture
def start(tmp_path):
    """Start server processes; what is left of them is killed at the end."""
    servers = []

    def start(ping_seconds=20):
        servers.append(Server(tmp_path, ping_seconds))
        return servers[-1]

    yield start
    for server in servers:
        server.process.kill()
        server.process.communicate()


def ask(client, url, **more):
    client.send(json.dumps({"method": "GET", "url": url, **more}))
    return json.loads(client.recv(SECONDS))


@pytest.mark.parametrize("jump", [86_400, -86_400])
def test_a_clock_that_jumps_stops_nothing_and_ends_nothing(start, jump):
    server = start(ping_seconds=3600)
    with connect(server.url) as client, connect(server.url) as idle:
        client.send(json.dumps({"method": "GET", "url": "/never", "id": 1, "timeout": 1}))
        assert ask(client, "/jump", args={"seconds": jump})["data"] is None
        assert json.loads(client.recv(SECONDS))["status"] == 408
        assert ask(client, "/sleep", args={"seconds": 0.01})["data"] == "slept"
        assert ask(client, "/never", timeout=0.05)["status"] == 408
        # A day of pings has not gone by.
        assert ask(idle, "/hello")["data"] == "hello"
        assert set(ask(client, "/hits")["data"]) == {"call_seconds"}
        # More than a turn of the loop takes.
        count = 500
        for number in range(count):
            client.send(json.dumps({"method": "GET", "url": "/hello", "id": number}))
        assert [json.loads(client.recv(SECONDS))["id"] for _ in range(count)] == list(range(count))
        client.close()
        idle.close()
    status, errors = server.end()
    assert status == 0
    assert "ERROR" not in errors


def test_a_view_that_blocks_does_not_cost_the_others_their_connections(start):
    server = start(ping_seconds=0.5)
    with connect(server.url) as client, connect(server.url) as idle:
        # Longer than a ping and its pong may take: their answers lie unread meanwhile.
        for _ in range(2):
            assert ask(client, "/block", args={"seconds": 2.5})["data"] is None
        assert ask(idle, "/hello")["data"] == "hello"
        assert "pong_seconds" not in ask(client, "/hits")["data"]


def test_a_peer_that_breaks_off_in_mid_reply_leaves_no_line_and_nothing_behind(start):
    server = start()
    host, port = server.url.removeprefix("ws://").rstrip("/").split(":")
    for _ in range(20):
        peer = socket.create_connection((host, int(port)), SECONDS)
        peer.sendall(HANDSHAKE)
        while b"\r\n\r\n" not in peer.recv(4096):
            pass
        peer.sendall(LARGE * 5)
        peer.recv(4096)  # replies are under way
        # With it close() is a reset.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
    with connect(server.url) as client:
        for _ in range(1000):
            if ask(client, "/connections")["data"] == 1:
                break
            ask(client, "/sleep", args={"seconds": 0.02})
        assert ask(client, "/connections")["data"] == 1
    status, errors = server.end()
    assert status == 0
    assert errors == ""
