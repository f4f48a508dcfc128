"""A client that leaves while the server does not read from it is found out."""

import base64
import contextlib
import os
import socket
import ssl
import struct

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from aiorest_ws.decorators import endpoint
from aiorest_ws.limits import Limits
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.transports import TLSFiles, install_reactor, tcp_endpoint, unix_endpoint
from support.waiting import until

pytestmark = pytest.mark.slow

HANDSHAKE = (
    "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\n"
    "Sec-WebSocket-Version: 13\r\n\r\n"
).encode()


def frame(payload):
    """A masked text frame; the mask is zero."""
    return b"\x81" + struct.pack("!BH", 128 + 126, len(payload)) + bytes(4) + payload


CALL = frame(b'{"method":"GET","url":"/wait","data":"' + b"x" * 4000 + b'"}')


@pytest.fixture(autouse=True)
def looks_often(monkeypatch):
    monkeypatch.setattr("aiorest_ws.connection.paused_clients.LOOK_SECONDS", 0.2)


def shut(client):
    client.shutdown(socket.SHUT_RDWR)
    client.close()


def close(client):
    client.close()


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def send_little(client):
    """More than the server takes, less than the window."""
    client.sendall(CALL * 6)


def send_much(client):
    """Fill the window, so that no FIN can arrive."""
    client.settimeout(0.2)
    with contextlib.suppress(TimeoutError, ssl.SSLWantWriteError):
        while True:
            client.send(CALL * 16)


def connect(kind, port, tls_files):
    if kind == "unix":
        client = socket.socket(socket.AF_UNIX)
        client.connect(os.fsdecode(port.getHost().name))
    else:
        client = socket.create_connection(("127.0.0.1", port.getHost().port))
    if kind == "tls":
        context = ssl.create_default_context(cafile=tls_files[0])
        client = context.wrap_socket(client, server_hostname="localhost")
    client.sendall(HANDSHAKE)
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += client.recv(4096)
    return client


class Server:
    """A server whose calls end when they are cancelled."""

    def __init__(self, kind, folder, tls_files):
        self.cancelled = 0
        router = SimpleRouter()
        router.register_endpoint(endpoint("/wait", "GET")(self.wait))
        limits = Limits(calls_in_flight=2, waiting_bytes=8192, ping_seconds=0)
        self.factory = RequestHandlerFactory(router=router, limits=limits)
        self.kind, self.folder, self.tls_files = kind, folder, tls_files

    def wait(self, request):
        def cancel(_):
            self.cancelled += 1

        return Deferred(cancel)

    async def listen(self):
        reactor = install_reactor()
        tls = TLSFiles(*map(str, self.tls_files)) if self.kind == "tls" else None
        if self.kind == "unix":
            where = unix_endpoint(reactor, str(self.folder / "socket"))
        else:
            where = tcp_endpoint(reactor, "127.0.0.1", 0, tls=tls)
        return await where.listen(self.factory)


@pytest.mark.parametrize("leave", [shut, close, reset])
@pytest.mark.parametrize("send", [send_little, send_much])
@pytest.mark.parametrize("kind", ["tcp", "tls", "unix"])
@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_a_backlog_is_found(kind, send, leave, tmp_path, tls_files):
    server = Server(kind, tmp_path, tls_files)
    port = await server.listen()
    try:
        client = await deferToThread(connect, kind, port, tls_files)
        await deferToThread(send, client)
        [connection] = server.factory.connections
        await until(lambda: connection.is_read_paused)
        await deferToThread(leave, client)
        await until(lambda: not server.factory.countConnections)
        await until(lambda: server.cancelled == 2)
    finally:
        server.factory.stopFactory()
        await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_client_that_stays_is_served_when_its_calls_end(tmp_path, tls_files):
    server = Server("tcp", tmp_path, tls_files)
    answers = []
    server.wait = lambda request: answers.append(Deferred()) or answers[-1]
    router = SimpleRouter()
    router.register_endpoint(endpoint("/wait", "GET")(server.wait))
    server.factory.router = router
    port = await server.listen()
    try:
        client = await deferToThread(connect, "tcp", port, tls_files)
        await deferToThread(send_little, client)
        [connection] = server.factory.connections
        await until(lambda: connection.is_read_paused)
        pings = await deferToThread(client.recv, 2)
        assert pings == b"\x89\x00"
        for index in range(6):
            await until(lambda: len(answers) > index)  # noqa: B023
            answers[index].callback(index)
        await until(lambda: not connection.is_read_paused)
        received = b""
        while received.count(b'"data"') < 6:
            received += await deferToThread(client.recv, 4096)
        client.close()
        await until(lambda: not server.factory.countConnections)
    finally:
        server.factory.stopFactory()
        await port.stopListening()
