"""How connections come in: fairly, in spite of faults, and when no descriptor is left."""

import errno
import itertools
import os
import socket
import ssl

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from aiorest_ws.transports import (
    LoopServerEndpoint,
    TLSFiles,
    acceptor,
    install_reactor,
    loop_port,
    sockets,
)

pytestmark = pytest.mark.asyncio_reactor

SECONDS = 30


class Greeter(Protocol):
    """Send a byte to whoever comes, and bytes back to whoever sends them."""

    def connectionMade(self):
        self.factory.made.append(self)
        self.transport.write(b"!")
        self.factory.happened()

    def dataReceived(self, data):
        self.transport.write(data)
        self.factory.happened()

    def connectionLost(self, reason):
        self.factory.lost += 1
        self.factory.happened()


class Greeters(Factory):
    protocol = Greeter
    noisy = False

    def __init__(self):
        self.made = []
        self.lost = 0
        self.stops = 0
        self._waiting = []

    def stopFactory(self):
        self.stops += 1

    def happened(self):
        for condition, done in self._waiting[:]:
            if condition():
                self._waiting.remove((condition, done))
                done.callback(None)

    def until(self, condition):
        done = Deferred()
        self._waiting.append((condition, done))
        done.addTimeout(SECONDS, install_reactor())
        self.happened()
        return done


class FaultySocket(socket.socket):
    """A listening socket whose `accept` has this fault so often."""

    fault = 0
    times = 0
    attempts = 0

    def accept(self):
        self.attempts += 1
        if self.times:
            self.times -= 1
            raise OSError(self.fault, os.strerror(self.fault))
        return super().accept()


class Listening:
    """A server on loopback, and its clients."""

    def __init__(self, tls_files):
        self.tls_files = tls_files
        self.factory = Greeters()
        self.port = None
        self.clients = []

    async def listen(self, *, tls=False, socket_class=socket.socket, fault=0, times=0):
        where = sockets.TCPSocket("127.0.0.1", 0, 500)
        plain_open = where.open

        def open_faulty():
            plain = plain_open()
            self.socket = socket_class(fileno=plain.detach())
            self.socket.setblocking(False)
            self.socket.fault, self.socket.times = fault, times
            return self.socket

        if socket_class is not socket.socket:
            where.open = open_faulty
        context = TLSFiles(*self.tls_files).ssl_context() if tls else None
        endpoint = LoopServerEndpoint(install_reactor(), where, context)
        self.port = await endpoint.listen(self.factory)

    def dial(self):
        """Return a connected client. It is in the system's queue: the loop has not run yet."""
        client = socket.create_connection(("127.0.0.1", self.port.getHost().port), SECONDS)
        self.clients.append(client)
        return client

    def speak_tls(self, client):
        context = ssl.create_default_context(cafile=str(self.tls_files[0]))
        inside = context.wrap_socket(client, server_hostname="localhost")
        self.clients.append(inside)
        return inside

    async def close(self):
        for client in self.clients:
            client.close()
        if self.port is not None:
            await self.port.stopListening()
        await self.factory.until(lambda: self.factory.lost == len(self.factory.made))


@pytest_twisted.async_yield_fixture
async def listening(tls_files):
    one = Listening(tls_files)
    yield one
    await one.close()


async def turns(count):
    for _ in range(count):
        await deferLater(install_reactor(), 0)


def warnings_of(caplog):
    return [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]


# Who is accepted, and when


@pytest_twisted.ensureDeferred
async def test_a_transport_knows_the_port_that_it_came_by(listening):
    await listening.listen()
    listening.dial()
    await listening.factory.until(lambda: listening.factory.made)
    server = listening.factory.made[0].transport.server
    assert server is listening.port
    assert server.getHost() == listening.port.getHost()
    assert server.factory is listening.factory


@pytest_twisted.ensureDeferred
async def test_the_loop_goes_on_turning_while_many_wait_to_be_accepted(listening):
    await listening.listen(socket_class=FaultySocket)
    loop = install_reactor()._asyncioEventloop
    attempts = [0]

    def note():
        attempts.append(listening.socket.attempts)
        if len(listening.factory.made) < 300:
            loop.call_soon(note)

    for _ in range(300):
        listening.dial()
    loop.call_soon(note)
    await listening.factory.until(lambda: len(listening.factory.made) == 300)
    in_a_turn = [after - before for before, after in itertools.pairwise(attempts)]
    assert sum(in_a_turn) >= 300
    assert max(in_a_turn) <= acceptor.ACCEPTS_PER_TURN


@pytest.mark.parametrize(
    "fault", ["ECONNABORTED", "EINTR", "EPERM", "EPROTO", "ENETDOWN", "EHOSTUNREACH"]
)
@pytest_twisted.ensureDeferred
async def test_the_fault_of_one_client_is_nothing_to_the_next(listening, fault, caplog):
    await listening.listen(socket_class=FaultySocket, fault=getattr(errno, fault), times=3)
    listening.dial()
    await listening.factory.until(lambda: listening.factory.made)
    assert listening.socket.times == 0
    assert caplog.records == []


@pytest.mark.parametrize("fault", ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EFAULT"])
@pytest_twisted.ensureDeferred
async def test_accepting_pauses_when_the_system_can_not_and_is_tried_again(
    listening, fault, caplog, monkeypatch
):
    monkeypatch.setattr(acceptor, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(acceptor, "RECOVERY_SECONDS", 0.1)
    await listening.listen(socket_class=FaultySocket, fault=getattr(errno, fault), times=3)
    client = listening.dial()
    for _ in range(SECONDS * 1000):
        if listening.socket.attempts:
            break
        await deferLater(install_reactor(), 0.001)
    await turns(100)
    await listening.factory.until(lambda: listening.factory.made)
    # Three that failed, one, and one which finds that nobody waits any more.
    assert listening.socket.attempts == 5
    assert await deferToThread(client.recv, 1) == b"!"
    for _ in range(SECONDS * 1000):
        if len(warnings_of(caplog)) > 1:
            break
        await deferLater(install_reactor(), 0.001)
    begun, ended = warnings_of(caplog)
    assert os.strerror(getattr(errno, fault)).lower() in begun
    assert "accepts connections again" in ended
    await turns(10)
    assert len(warnings_of(caplog)) == 2


@pytest_twisted.ensureDeferred
async def test_no_descriptor_is_no_shortage_while_nobody_waits(listening, caplog):
    await listening.listen(socket_class=FaultySocket)
    listening.dial()
    # Linux reserves a descriptor before it looks whether there is a connection.
    real = listening.socket.accept

    def accept_one_and_no_more():
        if listening.factory.made or listening.socket.attempts:
            raise OSError(errno.EMFILE, "none is left")
        return real()

    listening.socket.accept = accept_one_and_no_more
    await listening.factory.until(lambda: listening.factory.made)
    await turns(10)
    assert caplog.records == []
    del listening.socket.accept
    listening.dial()
    await listening.factory.until(lambda: len(listening.factory.made) == 2)


# The end of a port


@pytest_twisted.ensureDeferred
async def test_clients_that_wait_when_a_port_stops_are_answered(listening):
    await listening.listen()
    clients = [listening.dial() for _ in range(100)]
    address = ("127.0.0.1", listening.port.getHost().port)
    stopped = listening.port.stopListening()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, SECONDS)
    assert listening.factory.stops == 0
    await stopped
    assert len(listening.factory.made) == 100
    assert listening.factory.stops == 1
    for client in clients:
        assert await deferToThread(client.recv, 1) == b"!"
    clients[0].sendall(b"on")
    assert await deferToThread(clients[0].recv, 2) == b"on"


@pytest_twisted.ensureDeferred
async def test_a_tls_handshake_that_waits_when_a_port_stops_may_end(listening, monkeypatch):
    monkeypatch.setattr(loop_port, "STOP_HANDSHAKE_SECONDS", SECONDS)
    await listening.listen(tls=True)
    client = listening.dial()
    stopped = listening.port.stopListening()
    await turns(3)
    assert listening.factory.stops == 0
    inside = await deferToThread(listening.speak_tls, client)
    assert await deferToThread(inside.recv, 1) == b"!"
    await stopped
    assert listening.factory.stops == 1


@pytest_twisted.ensureDeferred
async def test_a_client_that_never_begins_tls_does_not_hold_a_port_up(
    listening, monkeypatch, caplog
):
    monkeypatch.setattr(loop_port, "STOP_HANDSHAKE_SECONDS", 0.05)
    monkeypatch.setattr(loop_port, "TLS_HANDSHAKE_SECONDS", 2 * SECONDS)
    await listening.listen(tls=True)
    client = listening.dial()
    await listening.port.stopListening().addTimeout(SECONDS, install_reactor())
    assert await deferToThread(client.recv, 1) == b""
    assert listening.factory.made == []
    assert listening.factory.stops == 1
    assert [r for r in caplog.records if r.levelname != "DEBUG"] == []
