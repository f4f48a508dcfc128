"""The loop's transports beside Twisted's own: the same programs see the same things."""

import asyncio
import gc
import http.client
import os
import signal
import socket
import ssl
import stat
import struct
import subprocess
import sys
import threading
from io import BytesIO
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, DeferredQueue, maybeDeferred
from twisted.internet.endpoints import (
    SSL4ServerEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    UNIXServerEndpoint,
)
from twisted.internet.error import (
    CannotListenError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
)
from twisted.internet.interfaces import IHalfCloseableProtocol, ISSLTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher
from twisted.protocols.basic import FileSender
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer

from aiorest_ws.app import Application
from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.transports import (
    LoopServerEndpoint,
    TLSFiles,
    endpoint_from_string,
    install_reactor,
    is_inside_tls,
    loop_port,
    sockets,
    unix_endpoint,
)
from aiorest_ws.transports.loop_transport import HIGH_WATER_BYTES
from aiorest_ws.transports.native import NativeParser

SECONDS = 30
RESET = struct.pack("ii", 1, 0)
BIG = 4 * 1024 * 1024

# Twisted forgets the socket of a port that it cannot listen on.
forgotten_sockets = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
collected = pytest.mark.usefixtures("_collect_garbage")
with_and_without_tls = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


class Recorder(Protocol):
    """Remember what happens to a connection."""

    def __init__(self):
        self.received = b""
        self.reasons = []
        self.lost = Deferred()
        self._waiting = []

    def connectionMade(self):
        self.factory.made.put(self)

    def dataReceived(self, data):
        assert type(data) is bytes
        self.received += data
        for wanted, done in self._waiting[:]:
            if len(self.received) >= wanted:
                self._waiting.remove((wanted, done))
                done.callback(self.received)

    def connectionLost(self, reason):
        self.reasons.append(reason.value)
        if not self.lost.called:
            self.lost.callback(reason.value)

    def wait_for(self, count):
        done = Deferred()
        self._waiting.append((count, done))
        self.dataReceived(b"")
        return bounded(done)

    def gone(self):
        """Wait for the end; return why."""
        return bounded(self.lost)


class Echo(Recorder):
    def dataReceived(self, data):
        super().dataReceived(data)
        self.transport.write(data)


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Recorder):
    def __init__(self):
        super().__init__()
        self.half_closed = []
        self.half = Deferred()

    def readConnectionLost(self):
        self.half_closed.append("read")
        if not self.half.called:
            self.half.callback(None)

    def writeConnectionLost(self):
        self.half_closed.append("write")


def bounded(deferred):
    return deferred.addTimeout(SECONDS, install_reactor())


def in_thread(function, *args):
    return deferToThread(function, *args)


async def turns(count):
    for _ in range(count):
        await deferLater(install_reactor(), 0)


def read_all(client):
    """Read until the server closes the connection."""
    pieces = []
    while piece := client.recv(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


def read_exactly(client, count):
    pieces = []
    while count and (piece := client.recv(count)):
        count -= len(piece)
        pieces.append(piece)
    return b"".join(pieces)


async def close(client):
    """Close a client's socket, in the way of TLS if it is inside."""

    def end():
        if isinstance(client, ssl.SSLSocket):
            client.unwrap().close()
        client.close()

    await in_thread(end)


class Server:
    """Listens by our endpoint or by Twisted's, with and without TLS."""

    def __init__(self, is_native, tls_files):
        self.is_native = is_native
        self.tls_files = tls_files
        self.ports = []
        self.factories = []
        self.clients = []

    def endpoint(self, host="127.0.0.1", port=0, *, tls=False, path=None):
        reactor = install_reactor()
        files = TLSFiles(*self.tls_files)
        if self.is_native:
            where = (
                sockets.TCPSocket(host, port, 50)
                if path is None
                else sockets.UNIXSocket(path, 0o600, 50)
            )
            return LoopServerEndpoint(reactor, where, files.ssl_context() if tls else None)
        if path is not None:
            endpoint = UNIXServerEndpoint(reactor, path, 50, 0o600)
        else:
            kind = TCP6ServerEndpoint if ":" in host else TCP4ServerEndpoint
            endpoint = kind(reactor, port, 50, host)
        return TwistedTLS(endpoint, files.twisted_options()) if tls else endpoint

    async def listen(self, protocol=Recorder, *, factory=None, **where):
        factory = factory or Factory.forProtocol(protocol)
        factory.noisy = False
        factory.made = DeferredQueue()
        self.factories.append(factory)
        self.tls = where.get("tls", False)
        self.port = await self.endpoint(**where).listen(factory)
        self.ports.append(self.port)
        return factory

    def dial(self):
        """Return a connected socket; the system accepts it before the server does."""
        name = self.port.getHost()
        if hasattr(name, "port"):
            client = socket.create_connection((name.host, name.port), SECONDS)
        else:
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(SECONDS)
            client.connect(name.name)
        self.clients.append(client)
        return client

    async def connect(self, **versions):
        """Return a client's socket, inside TLS if the server is, and the server's protocol."""
        client = self.dial()
        if self.tls:
            context = self.client_context(**versions)
            client = await in_thread(
                lambda: context.wrap_socket(client, server_hostname="localhost")
            )
            self.clients.append(client)
        connection = await bounded(self.factories[-1].made.get())
        # Twisted builds a protocol before TLS is ready, and what is closed by then is cut off.
        for _ in range(SECONDS * 1000):
            if getattr(connection.transport, "_handshakeDone", True):
                break
            await deferLater(install_reactor(), 0.001)
        return client, connection

    def client_context(self, **versions):
        context = ssl.create_default_context(cafile=str(self.tls_files[0]))
        for name, version in versions.items():
            setattr(context, name, version)
        return context

    async def close(self):
        for port in self.ports:
            await maybeDeferred(port.stopListening)
        for client in self.clients:
            client.close()
        await turns(3)


class TwistedTLS:
    def __init__(self, endpoint, options):
        self.endpoint = endpoint
        self.options = options

    def listen(self, factory):
        return self.endpoint.listen(TLSMemoryBIOFactory(self.options, False, factory))


NATIVE = pytest.param(True, id="native", marks=pytest.mark.asyncio_reactor)


@pytest_twisted.async_yield_fixture(params=[NATIVE, pytest.param(False, id="twisted")])
async def server(request, tls_files):
    """Our transports, and Twisted's as the model."""
    one = Server(request.param, tls_files)
    yield one
    await one.close()


@pytest_twisted.async_yield_fixture(params=[NATIVE])
async def native(request, tls_files):
    """Our transports, where they are meant to differ, or where Twisted has nothing like it."""
    one = Server(request.param, tls_files)
    yield one
    await one.close()


@pytest.fixture
def _collect_garbage():
    yield
    gc.collect()


@pytest.fixture
def logged():
    """What is logged as a failure, as the exceptions' values."""
    failures = []

    def observe(event):
        failure = event.get("log_failure", event.get("failure"))  # the second by log.err()
        if failure is not None:
            failures.append(failure.value)

    globalLogPublisher.addObserver(observe)
    yield failures
    globalLogPublisher.removeObserver(observe)


# Bytes there and back


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_bytes_that_are_written_reach_the_client(server, tls):
    await server.listen(Echo, tls=tls)
    client, _ = await server.connect()
    client.sendall(b"ping")
    assert await in_thread(read_exactly, client, 4) == b"ping"
    client.sendall(b"")
    client.sendall(b"pong" * 1000)
    assert await in_thread(read_exactly, client, 4000) == b"pong" * 1000


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_a_sequence_is_written_in_its_order(server, tls):
    await server.listen(tls=tls)
    client, connection = await server.connect()
    connection.transport.writeSequence([b"a", b"", b"bc"])
    connection.transport.writeSequence([b"d"])
    connection.transport.loseConnection()
    assert await in_thread(read_all, client) == b"abcd"


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_all_that_was_written_arrives_before_the_connection_is_closed(server, tls):
    await server.listen(tls=tls)
    client, connection = await server.connect()
    connection.transport.write(b"x" * BIG)
    connection.transport.loseConnection()
    received = await in_thread(read_all, client)
    await close(client)
    assert received == b"x" * BIG
    assert isinstance(await connection.gone(), ConnectionDone)


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_text_is_refused_before_and_after_the_end(server, tls):
    await server.listen(tls=tls)
    client, connection = await server.connect()
    with pytest.raises(TypeError):
        connection.transport.write("text")
    client.close()
    await connection.gone()
    if not tls or server.is_native:  # Twisted's TLS forgets to look
        with pytest.raises(TypeError):
            connection.transport.write("text")


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_what_is_written_after_the_end_is_dropped(server, tls, logged):
    await server.listen(tls=tls)
    client, connection = await server.connect()
    client.close()
    await connection.gone()
    for _ in range(10):
        connection.transport.write(b"late")
    connection.transport.writeSequence([b"la", b"te"])
    assert logged == []


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_what_is_written_after_closing_is_dropped(native, tls):
    await native.listen(tls=tls)
    client, connection = await native.connect()
    connection.transport.write(b"early")
    connection.transport.loseConnection()
    connection.transport.write(b"late")
    assert await in_thread(read_all, client) == b"early"


# Ends


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_a_client_that_closes_ends_the_connection_cleanly(server, tls):
    await server.listen(tls=tls)
    client, connection = await server.connect()
    await close(client)
    assert type(await connection.gone()) is ConnectionDone
    await turns(5)
    assert len(connection.reasons) == 1


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_a_client_that_resets_is_a_connection_lost(server, tls, logged):
    await server.listen(tls=tls)
    client, connection = await server.connect()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()
    assert type(await connection.gone()) is ConnectionLost
    assert logged == []


@pytest_twisted.ensureDeferred
async def test_tls_that_is_cut_off_is_a_connection_lost(server):
    await server.listen(tls=True)
    client, connection = await server.connect()
    raw = socket.socket(fileno=os.dup(client.fileno()))
    server.clients.append(raw)
    raw.shutdown(socket.SHUT_WR)  # no close_notify before it
    assert type(await connection.gone()) is ConnectionLost


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_closing_twice_ends_once_and_later(server, tls):
    await server.listen(tls=tls)
    client, connection = await server.connect()
    connection.transport.loseConnection()
    connection.transport.loseConnection()
    assert connection.reasons == []
    assert connection.transport.disconnecting
    assert await in_thread(read_all, client) == b""
    await close(client)
    assert isinstance(await connection.gone(), ConnectionDone)
    connection.transport.loseConnection()
    if server.is_native or not tls:  # Twisted's TLS has nothing left to abort
        connection.transport.abortConnection()
    await turns(5)
    assert len(connection.reasons) == 1


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_aborting_ends_once_and_later_with_unsent_bytes_lost(server, tls):
    await server.listen(tls=tls)
    client, connection = await server.connect()
    connection.transport.write(b"x" * 16 * BIG)
    connection.transport.abortConnection()
    connection.transport.abortConnection()
    assert connection.reasons == []
    # Twisted's TLS says that the connection was lost.
    kind = ConnectionAborted if server.is_native or not tls else ConnectionLost
    assert type(await connection.gone()) is kind
    raw = socket.socket(fileno=os.dup(client.fileno()))
    raw.settimeout(SECONDS)
    server.clients.append(raw)
    with pytest.raises(ConnectionResetError):
        await in_thread(read_all, raw)
    await turns(5)
    assert len(connection.reasons) == 1


@pytest_twisted.ensureDeferred
async def test_a_connection_that_is_closing_can_be_aborted(server):
    await server.listen()
    client, connection = await server.connect()
    connection.transport.write(b"x" * 16 * BIG)
    connection.transport.loseConnection()
    connection.transport.abortConnection()
    assert type(await connection.gone()) is ConnectionAborted
    with pytest.raises(ConnectionResetError):
        await in_thread(read_all, client)


@pytest_twisted.ensureDeferred
async def test_a_client_that_stops_sending_ends_the_connection_with_bytes_unsent(server):
    await server.listen()
    client, connection = await server.connect()
    connection.transport.write(b"x" * 16 * BIG)
    client.shutdown(socket.SHUT_WR)
    assert isinstance(await connection.gone(), ConnectionDone)


@pytest_twisted.ensureDeferred
async def test_a_half_closeable_protocol_answers_a_client_that_stopped_sending(server):
    await server.listen(HalfCloseable)
    client, connection = await server.connect()
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    await bounded(connection.half)
    connection.transport.pauseProducing()
    connection.transport.write(b"answer")
    if server.is_native:  # Twisted reads the end again
        connection.transport.resumeProducing()
    await turns(5)
    assert (connection.received, connection.half_closed) == (b"question", ["read"])
    connection.transport.loseConnection()
    assert await in_thread(read_all, client) == b"answer"
    assert isinstance(await connection.gone(), ConnectionDone)


@pytest_twisted.ensureDeferred
async def test_a_protocol_that_stops_writing_reads_on(server):
    await server.listen(HalfCloseable)
    client, connection = await server.connect()
    connection.transport.write(b"all there is")
    connection.transport.loseWriteConnection()
    assert await in_thread(read_all, client) == b"all there is"
    connection.transport.write(b"late")
    client.sendall(b"thanks")
    assert await connection.wait_for(6) == b"thanks"
    assert connection.half_closed == ["write"]
    client.close()
    await bounded(connection.half)
    connection.transport.loseConnection()
    assert isinstance(await connection.gone(), ConnectionDone)


# Producers


class Pusher:
    """A push producer that writes as long as it may."""

    def __init__(self, transport, total):
        self.transport = transport
        self.left = total
        self.calls = []
        self.is_going = True

    def go(self):
        while self.is_going and self.left:
            self.left -= 1 << 14
            self.transport.write(b"p" * (1 << 14))
        if not self.left and "end" not in self.calls:
            self.calls.append("end")
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def pauseProducing(self):
        self.calls.append("pause")
        self.is_going = False

    def resumeProducing(self):
        self.calls.append("resume")
        self.is_going = True
        install_reactor().callLater(0, self.go)

    def stopProducing(self):
        self.calls.append("stop")
        self.is_going = False


class Puller:
    """A pull producer that writes one piece for each call."""

    def __init__(self, transport, size, count):
        self.transport = transport
        self.size = size
        self.left = count
        self.calls = 0
        self.is_stopped = False

    def resumeProducing(self):
        self.calls += 1
        if self.size:
            self.transport.write(b"p" * self.size)
        self.left -= 1
        if not self.left:
            self.transport.unregisterProducer()

    def stopProducing(self):
        self.is_stopped = True


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_a_push_producer_is_held_back_by_a_client_that_does_not_read(server, tls):
    await server.listen(tls=tls)
    client, connection = await server.connect()
    producer = Pusher(connection.transport, 8 * BIG)
    connection.transport.registerProducer(producer, True)
    producer.go()
    assert producer.calls == ["pause"]
    await turns(20)
    assert producer.left > 0
    received = await in_thread(read_all, client)
    assert len(received) == 8 * BIG
    assert producer.calls[:2] == ["pause", "resume"]
    assert producer.calls[-1] == "end"
    await close(client)
    assert isinstance(await connection.gone(), ConnectionDone)


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_a_push_producer_that_comes_when_too_much_waits_is_paused_at_once(native, tls):
    await native.listen(tls=tls)
    _, connection = await native.connect()
    for _ in range(16):
        connection.transport.write(b"x" * BIG)
    await turns(3)  # TLS tells later
    producer = Pusher(connection.transport, 0)
    connection.transport.registerProducer(producer, True)
    assert producer.calls == ["pause"]
    connection.transport.abortConnection()
    await connection.gone()


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_as_much_may_wait_as_with_twisted(native, tls):
    await native.listen(tls=tls)
    _, connection = await native.connect()
    assert connection.transport._loop_transport.get_write_buffer_limits()[1] == 1 << 16


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_what_the_system_has_not_taken_is_unsent_and_nothing_else(native, tls):
    await native.listen(tls=tls)
    client, connection = await native.connect()
    transport = connection.transport
    assert transport.unsent_bytes == 0
    transport.write(b"x" * 16 * BIG)
    unsent = transport.unsent_bytes
    assert 8 * BIG < unsent < 17 * BIG  # the rest is what a socket holds, or TLS adds
    await turns(20)
    assert 8 * BIG < transport.unsent_bytes <= unsent
    await in_thread(read_exactly, client, 8 * BIG)
    for _ in range(SECONDS * 1000):
        if transport.unsent_bytes < unsent:
            break
        await deferLater(install_reactor(), 0.001)
    assert 0 < transport.unsent_bytes < unsent
    await in_thread(read_exactly, client, 8 * BIG)
    await turns(20)
    assert transport.unsent_bytes == 0


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_nothing_is_unsent_when_a_connection_is_lost(native, tls):
    await native.listen(tls=tls)
    _, connection = await native.connect()
    for _ in range(3):
        connection.transport.write(b"x" * 8 * BIG)
    assert connection.transport.unsent_bytes > BIG
    connection.transport.abortConnection()
    await connection.gone()
    assert connection.transport.unsent_bytes == 0
    connection.transport.set_high_water(1)  # which it no longer has


@pytest_twisted.ensureDeferred
async def test_what_is_unsent_to_a_unix_socket_is_counted_too(native, tmp_path):
    await native.listen(path=str(tmp_path / "s"))
    _, connection = await native.connect()
    connection.transport.write(b"x" * BIG)
    assert BIG // 2 < connection.transport.unsent_bytes < BIG
    connection.transport.abortConnection()
    await connection.gone()


class Watcher:
    """A push producer that remembers what it was told, and how much was unsent at that time."""

    def __init__(self, transport):
        self.transport = transport
        self.told = []
        self.unsent = []
        self.resumed = Deferred()

    def pauseProducing(self):
        self.told.append("pause")

    def resumeProducing(self):
        self.told.append("resume")
        self.unsent.append(self.transport.unsent_bytes)
        if not self.resumed.called:
            self.resumed.callback(None)

    def stopProducing(self):
        self.told.append("stop")


@pytest_twisted.ensureDeferred
async def test_a_producer_hears_of_too_much_that_is_mostly_what_tls_adds(native):
    await native.listen(tls=True)
    _, connection = await native.connect()
    transport = connection.transport
    watcher = Watcher(transport)
    transport.registerProducer(watcher, True)
    pieces = 0
    while not watcher.told and pieces < 100_000:
        transport.write(b"xy")
        pieces += 1
    assert watcher.told == ["pause"]
    assert transport.unsent_bytes < 2 * HIGH_WATER_BYTES
    transport.abortConnection()
    await connection.gone()


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_a_producer_hears_of_too_much_within_the_write_and_once(native, tls):
    await native.listen(tls=tls)
    client, connection = await native.connect()
    transport = connection.transport
    watcher = Watcher(transport)
    transport.registerProducer(watcher, True)
    # Inside TLS: nothing more, a little, and much that has not reached the transport under it.
    for round_number, more in enumerate([0, 1, 8 * BIG], 1):
        so_far = ["pause", "resume"] * (round_number - 1) + ["pause"]
        transport.write(b"x" * 8 * BIG)
        assert watcher.told == so_far
        transport.write(b"x" * more)
        await turns(20)
        watcher.resumed = Deferred()
        # What the client says in the meantime is no reason to go on.
        client.sendall(b"y" * 100)
        await connection.wait_for(100 * round_number)
        assert watcher.told == so_far
        await in_thread(read_exactly, client, 8 * BIG + more)
        await bounded(watcher.resumed)
        await turns(20)
        assert watcher.told == [*so_far, "resume"]
        assert watcher.unsent[-1] <= 1 << 16
        transport.write(b"little")
        assert watcher.told == [*so_far, "resume"]
        await in_thread(read_exactly, client, 6)
    transport.unregisterProducer()


@pytest.mark.parametrize("high_water", [10_000, 1 << 16, 1 << 20])
@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_a_producer_is_paused_above_the_mark_that_was_set_and_not_before(
    native, tls, high_water
):
    await native.listen(tls=tls)
    client, connection = await native.connect()
    transport = connection.transport
    transport.set_high_water(high_water)
    watcher = Watcher(transport)
    transport.registerProducer(watcher, True)
    before, written = 0, 0
    while not watcher.told:
        before = transport.unsent_bytes
        transport.write(b"x" * 4096)
        written += 4096
        assert written < 16 * BIG, "nobody was told to pause"
    assert before <= high_water < transport.unsent_bytes
    await in_thread(read_exactly, client, written)
    await bounded(watcher.resumed)
    assert watcher.told == ["pause", "resume"]
    transport.unregisterProducer()


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_what_is_written_to_a_client_that_has_reset_is_dropped_in_silence(
    native, tls, caplog
):
    await native.listen(tls=tls)
    client, connection = await native.connect()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()
    for _ in range(50):
        connection.transport.write(b"x" * 4096)
    assert connection.transport.unsent_bytes == 0
    assert type(await connection.gone()) is ConnectionLost
    assert [r.getMessage() for r in caplog.records if r.name == "asyncio"] == []


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_a_pull_producer_is_held_back_by_a_client_that_does_not_read(server, tls):
    await server.listen(tls=tls)
    _, connection = await server.connect()
    producer = Puller(connection.transport, 1 << 18, 1000)
    connection.transport.registerProducer(producer, False)
    await turns(300)
    assert producer.calls < 128  # 32 MiB: far above what a socket holds
    connection.transport.abortConnection()
    await connection.gone()
    assert producer.is_stopped


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_a_file_is_sent_whole_before_the_connection_is_closed(server, tls):
    await server.listen(tls=tls)
    client, connection = await server.connect()
    content = os.urandom(BIG)
    sent = FileSender().beginFileTransfer(BytesIO(content), connection.transport)
    connection.transport.loseConnection()  # waits for the sender
    assert await in_thread(read_all, client) == content
    await bounded(sent)
    await close(client)
    assert isinstance(await connection.gone(), ConnectionDone)


@pytest_twisted.ensureDeferred
async def test_a_pull_producer_that_writes_nothing_is_asked_once(server):
    await server.listen()
    _, connection = await server.connect()
    producer = Puller(connection.transport, 0, 1000)
    connection.transport.registerProducer(producer, False)
    await turns(20)
    assert producer.calls == 1
    connection.transport.unregisterProducer()


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_there_is_one_producer_at_a_time(server, tls):
    await server.listen(tls=tls)
    client, connection = await server.connect()
    first, second, late = (Pusher(connection.transport, 0) for _ in range(3))
    if not tls or server.is_native:  # Twisted's TLS cannot
        connection.transport.unregisterProducer()
    connection.transport.registerProducer(first, True)
    with pytest.raises(RuntimeError):
        connection.transport.registerProducer(second, True)
    connection.transport.unregisterProducer()
    connection.transport.registerProducer(second, True)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()
    await connection.gone()
    assert (first.calls, second.calls) == ([], ["stop"])
    connection.transport.registerProducer(late, True)
    assert late.calls == ["stop"]


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_a_connection_with_a_producer_is_closed_when_that_is_unregistered(native, tls):
    await native.listen(tls=tls)
    client, connection = await native.connect()
    producer = Pusher(connection.transport, 0)
    connection.transport.registerProducer(producer, True)
    connection.transport.loseConnection()
    connection.transport.write(b"still open")
    assert await in_thread(read_exactly, client, 10) == b"still open"
    connection.transport.unregisterProducer()
    assert await in_thread(read_all, client) == b""
    await close(client)
    assert isinstance(await connection.gone(), ConnectionDone)
    assert producer.calls == []


# The transport as a producer


class PausedAtFirst(Recorder):
    def connectionMade(self):
        self.transport.pauseProducing()
        super().connectionMade()


@pytest.mark.parametrize("early", [True, False], ids=["sent-before-accept", "sent-later"])
@pytest_twisted.ensureDeferred
async def test_a_protocol_that_pauses_at_the_beginning_gets_nothing_until_it_resumes(
    server, early
):
    factory = await server.listen(PausedAtFirst)
    client = server.dial()
    if early:
        client.sendall(b"early")
    connection = await bounded(factory.made.get())
    if not early:
        client.sendall(b"early")
    await turns(20)
    assert connection.received == b""
    connection.transport.resumeProducing()
    assert await connection.wait_for(5) == b"early"
    client.sendall(b" and later")
    assert await connection.wait_for(15) == b"early and later"


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_reading_can_be_paused_and_resumed_any_number_of_times(server, tls):
    await server.listen(tls=tls)
    client, connection = await server.connect()
    for _ in range(2):
        connection.transport.pauseProducing()
    client.sendall(b"hello")
    await turns(20)
    assert connection.received == b""
    for _ in range(2):
        connection.transport.resumeProducing()
    assert await connection.wait_for(5) == b"hello"
    client.close()
    await connection.gone()
    if server.is_native:
        connection.transport.pauseProducing()
        connection.transport.resumeProducing()
        connection.transport.stopProducing()


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_stop_producing_closes_the_connection(server, tls):
    await server.listen(tls=tls)
    client, connection = await server.connect()
    connection.transport.stopProducing()
    assert await in_thread(read_all, client) == b""
    client.close()
    # Twisted's TLS does not see it: the connection under it is closed.
    kinds = ConnectionDone if server.is_native else (ConnectionDone, ConnectionLost)
    assert isinstance(await connection.gone(), kinds)


@pytest_twisted.ensureDeferred
async def test_another_protocol_can_take_the_connection_over(server):
    factory = await server.listen()
    client, connection = await server.connect()
    client.sendall(b"one")
    await connection.wait_for(3)
    other = Echo()
    other.factory = factory
    connection.transport.protocol = other
    other.makeConnection(connection.transport)
    client.sendall(b"two")
    assert await in_thread(read_exactly, client, 3) == b"two"
    client.close()
    assert isinstance(await other.gone(), ConnectionDone)
    assert (connection.received, connection.reasons) == (b"one", [])


# Addresses and options


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_both_ends_have_their_addresses_even_after_the_end(server, tls):
    await server.listen(tls=tls)
    client, connection = await server.connect()
    ours, theirs = (
        IPv4Address("TCP", *name) for name in (client.getpeername(), client.getsockname())
    )
    assert server.port.getHost() == ours
    assert (connection.transport.getHost(), connection.transport.getPeer()) == (ours, theirs)
    client.close()
    await connection.gone()
    if not tls or server.is_native:
        assert connection.transport.getPeer() == theirs


@pytest_twisted.ensureDeferred
async def test_ipv6_is_served(server):
    await server.listen(Echo, host="::1")
    client, connection = await server.connect()
    assert connection.transport.getHost() == IPv6Address("TCP", *client.getpeername())
    assert connection.transport.getPeer() == IPv6Address("TCP", *client.getsockname())
    client.sendall(b"six")
    assert await in_thread(read_exactly, client, 3) == b"six"


@pytest_twisted.ensureDeferred
async def test_an_ipv6_wildcard_takes_ipv4_clients_too(server):
    await server.listen(Echo, host="::")
    client = socket.create_connection(("127.0.0.1", server.port.getHost().port), SECONDS)
    server.clients.append(client)
    client.sendall(b"four")
    assert await in_thread(read_exactly, client, 4) == b"four"


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_socket_options_are_set_and_told(server, tls):
    await server.listen(tls=tls)
    _, connection = await server.connect()
    transport = connection.transport
    for enabled in (True, False, False, True, True):
        transport.setTcpNoDelay(enabled)
        assert bool(transport.getTcpNoDelay()) is enabled
        transport.setTcpKeepAlive(enabled)
        assert bool(transport.getTcpKeepAlive()) is enabled


@pytest_twisted.ensureDeferred
async def test_small_pieces_leave_at_once_by_default(native):
    await native.listen()
    _, connection = await native.connect()
    assert connection.transport.getTcpNoDelay() is True


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_a_transport_says_whether_it_is_inside_tls(server, tls):
    await server.listen(tls=tls)
    _, connection = await server.connect()
    assert ISSLTransport.providedBy(connection.transport) is tls
    if tls:
        assert connection.transport.getPeerCertificate() is None
        assert connection.transport.negotiatedProtocol is None


# Ports


@forgotten_sockets
@collected
@pytest_twisted.ensureDeferred
async def test_a_busy_port_fails_at_once_and_starts_no_factory(server):
    first = await server.listen()
    second = Factory.forProtocol(Recorder)
    second.noisy = False
    endpoint = server.endpoint(port=server.port.getHost().port)
    with pytest.raises(CannotListenError):
        await endpoint.listen(second)
    assert first.numPorts == 1
    if server.is_native:  # Twisted's is started and stays so
        assert second.numPorts == 0


@forgotten_sockets
@collected
@pytest_twisted.ensureDeferred
async def test_an_address_that_is_not_ours_cannot_be_listened_on(server):
    with pytest.raises(CannotListenError):
        await server.endpoint(host="192.0.2.1").listen(Factory())


@pytest_twisted.ensureDeferred
async def test_a_port_that_stops_is_free_and_its_connections_go_on(server):
    factory = await server.listen(Echo)
    client, _ = await server.connect()
    number = server.port.getHost().port
    await maybeDeferred(server.port.stopListening)
    assert factory.numPorts == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", number), SECONDS)
    client.sendall(b"still here")
    assert await in_thread(read_exactly, client, 10) == b"still here"
    again = await server.endpoint(port=number).listen(factory)
    server.ports.append(again)
    assert again.getHost().port == number
    await maybeDeferred(server.port.stopListening)  # a second time


@pytest_twisted.ensureDeferred
async def test_a_client_that_is_gone_before_it_is_accepted_disturbs_nobody(server, logged):
    await server.listen(Echo)
    for _ in range(3):
        client = server.dial()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
    client = server.dial()
    client.sendall(b"alive")
    assert await in_thread(read_exactly, client, 5) == b"alive"
    assert logged == []


@pytest_twisted.ensureDeferred
async def test_a_unix_socket_has_its_mode_and_is_removed(server, tmp_path):
    path = tmp_path / "s"
    await server.listen(Echo, path=str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    client, connection = await server.connect()
    client.sendall(b"local")
    assert await in_thread(read_exactly, client, 5) == b"local"
    transport = connection.transport
    names = transport.getHost().name, transport.getPeer().name
    assert names == (os.fsencode(path), None)
    assert server.port.getHost().name == os.fsencode(path)
    client.close()
    assert isinstance(await connection.gone(), ConnectionDone)
    await maybeDeferred(server.port.stopListening)
    assert not path.exists()


@forgotten_sockets
@collected
@pytest_twisted.ensureDeferred
async def test_a_unix_socket_that_is_in_use_is_left_alone(server, tmp_path):
    path = str(tmp_path / "s")
    await server.listen(Echo, path=path)
    with pytest.raises(CannotListenError):
        await server.endpoint(path=path).listen(Factory())
    client, _ = await server.connect()
    client.sendall(b"mine")
    assert await in_thread(read_exactly, client, 4) == b"mine"


@forgotten_sockets
@collected
@pytest_twisted.ensureDeferred
async def test_a_file_that_is_no_socket_is_left_alone(server, tmp_path):
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(CannotListenError):
        await server.endpoint(path=str(path)).listen(Factory())
    assert path.read_text() == "precious"


@pytest_twisted.ensureDeferred
async def test_a_unix_socket_that_a_killed_server_left_is_replaced(native, tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    await native.listen(Echo, path=path)
    client, _ = await native.connect()
    client.sendall(b"new")
    assert await in_thread(read_exactly, client, 3) == b"new"


# TLS


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest_twisted.ensureDeferred
async def test_tls_of_this_version_is_spoken(server, version):
    await server.listen(Echo, tls=True)
    client, _ = await server.connect(minimum_version=version, maximum_version=version)
    client.sendall(b"secret")
    assert await in_thread(read_exactly, client, 6) == b"secret"
    assert client.version() == version.name.replace("_", ".")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")
@pytest_twisted.ensureDeferred
async def test_tls_under_1_2_is_refused(server):
    await server.listen(Echo, tls=True)
    context = server.client_context(
        minimum_version=ssl.TLSVersion.TLSv1_1, maximum_version=ssl.TLSVersion.TLSv1_1
    )
    context.set_ciphers("ALL:@SECLEVEL=0")
    client = server.dial()
    with pytest.raises(ssl.SSLError):
        await in_thread(lambda: context.wrap_socket(client, server_hostname="localhost"))


def speak_http(client):
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    read_all(client)


def leave(client):
    client.sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a ClientHello
    client.close()


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    leave(client)


def leave_at_once(client):
    client.close()


@pytest.mark.parametrize("client_does", [speak_http, leave, reset, leave_at_once])
@pytest_twisted.ensureDeferred
async def test_a_handshake_that_fails_is_quiet(server, client_does, logged, caplog):
    await server.listen(Echo, tls=True)
    client = server.dial()
    await in_thread(client_does, client)
    other = server.dial()
    context = server.client_context()
    client = await in_thread(lambda: context.wrap_socket(other, server_hostname="localhost"))
    server.clients.append(client)
    client.sendall(b"next")
    assert await in_thread(read_exactly, client, 4) == b"next"
    assert logged == []
    assert [r.getMessage() for r in caplog.records if r.name == "asyncio"] == []


@pytest_twisted.ensureDeferred
async def test_a_client_that_never_begins_tls_is_disconnected(native, monkeypatch, caplog):
    monkeypatch.setattr(loop_port, "TLS_HANDSHAKE_SECONDS", 0.1)
    factory = await native.listen(tls=True)
    client = native.dial()
    assert await in_thread(read_all, client) == b""
    assert factory.made.pending == []
    assert [r.getMessage() for r in caplog.records if r.name == "asyncio"] == []


@pytest_twisted.ensureDeferred
async def test_a_client_that_does_not_end_tls_is_disconnected(native, monkeypatch):
    monkeypatch.setattr(loop_port, "TLS_SHUTDOWN_SECONDS", 0.1)
    await native.listen(tls=True)
    client, connection = await native.connect()
    connection.transport.loseConnection()
    assert type(await connection.gone()) is ConnectionLost
    client.close()


# Programs that fail


class Failing(Recorder):
    error = KeyError("surprise")

    def dataReceived(self, data):
        raise self.error


@pytest.mark.parametrize(
    "error", [KeyError("surprise"), FileNotFoundError("a"), ConnectionResetError("of mine")]
)
@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_a_protocol_that_raises_is_logged_once_and_loses_its_connection(
    server, tls, error, logged, caplog
):
    await server.listen(Failing, tls=tls)
    client, connection = await server.connect()
    connection.error = error
    client.sendall(b"x")
    reason = await connection.gone()
    if tls and not server.is_native:
        assert type(reason) is ConnectionLost
    else:
        assert reason is error
    await turns(3)
    assert connection.reasons == [reason]
    assert logged == [error]
    assert [r.getMessage() for r in caplog.records if r.name == "asyncio"] == []


class FailingAtTheEnd(Recorder):
    def connectionLost(self, reason):
        super().connectionLost(reason)
        raise KeyError("at the end")


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_a_protocol_that_raises_at_its_end_is_logged_once(native, tls, logged, caplog):
    await native.listen(FailingAtTheEnd, tls=tls)
    client, connection = await native.connect()
    client.close()
    await connection.gone()
    await turns(3)
    assert [str(error) for error in logged] == ["'at the end'"]
    assert [r.getMessage() for r in caplog.records if r.name == "asyncio"] == []


class FailingAtFirst(Recorder):
    def connectionMade(self):
        super().connectionMade()
        raise KeyError("at first")


class FailingFactory(Factory):
    def buildProtocol(self, addr):
        raise KeyError("at first")


class RefusingFactory(Factory):
    def buildProtocol(self, addr):
        return None


@pytest_twisted.ensureDeferred
async def test_a_protocol_that_raises_at_its_beginning_loses_its_connection(native, logged):
    await native.listen(FailingAtFirst)
    client, connection = await native.connect()
    assert str(await connection.gone()) == "'at first'"
    assert await in_thread(read_all, client) == b""
    assert [str(error) for error in logged] == ["'at first'"]


@pytest_twisted.ensureDeferred
async def test_a_factory_that_raises_is_logged_and_the_client_is_closed(native, logged):
    await native.listen(factory=FailingFactory())
    assert await in_thread(read_all, native.dial()) == b""
    assert [str(error) for error in logged] == ["'at first'"]


@pytest_twisted.ensureDeferred
async def test_a_client_that_the_factory_refuses_is_closed(server, logged):
    await server.listen(factory=RefusingFactory())
    assert await in_thread(read_all, server.dial()) == b""
    assert logged == []


@pytest.mark.asyncio_reactor
@pytest_twisted.ensureDeferred
async def test_what_fails_on_the_loop_besides_goes_where_it_went_before(native, logged):
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    seen = []
    loop.set_exception_handler(lambda _loop, context: seen.append(context["message"]))
    try:
        await native.listen()
        loop.call_exception_handler({"message": "not ours"})
        assert (seen, logged) == (["not ours"], [])
    finally:
        loop.set_exception_handler(before)


# twisted.web on them


class Large(Resource):
    isLeaf = True

    def render_GET(self, request):
        return b"g" * 300_000

    def render_POST(self, request):
        return str(len(request.content.read())).encode() + request.path


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_a_web_site_answers_large_requests(server, tls):
    await server.listen(factory=Site(Large()), tls=tls)
    host = server.port.getHost()

    def talk():
        if tls:
            client = http.client.HTTPSConnection(
                "localhost", host.port, timeout=SECONDS, context=server.client_context()
            )
        else:
            client = http.client.HTTPConnection("127.0.0.1", host.port, timeout=SECONDS)
        try:
            for _ in range(2):
                client.request("GET", "/")
                assert client.getresponse().read() == b"g" * 300_000
                client.request("POST", "/p", body=b"p" * 300_000)
                assert client.getresponse().read() == b"300000/p"
        finally:
            client.close()

    await in_thread(talk)
    await turns(5)


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_a_web_site_answers_pipelined_requests_in_their_order(server, tls):
    await server.listen(factory=Site(Large()), tls=tls)
    client = server.dial()
    if tls:
        context = server.client_context()
        context.set_alpn_protocols(["spdy/1", "http/1.1"])
        client = await in_thread(lambda: context.wrap_socket(client, server_hostname="localhost"))
        server.clients.append(client)
        assert client.selected_alpn_protocol() == "http/1.1"
    posts = b"".join(
        b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n%s\r\nx"
        % (i, b"Connection: close\r\n" if i == 49 else b"")
        for i in range(50)
    )
    client.sendall(posts)
    bodies = [
        part.rsplit(b"\r\n")[-1]
        for part in (await in_thread(read_all, client)).split(b"HTTP/1.1 ")
    ]
    assert [body.strip() for body in bodies[1:]] == [b"1/%d" % i for i in range(50)]


# Endpoint strings


def described(endpoint):
    """Return what an endpoint of ours listens on."""
    assert type(endpoint) is LoopServerEndpoint, endpoint
    return {name: value for name, value in vars(endpoint._where).items() if name != "_inode"}


@pytest.mark.asyncio_reactor
@pytest.mark.parametrize(
    ("string", "expected"),
    [
        ("tcp:8080", ("", 8080, 1024)),
        ("tcp:port=8080:interface=127.0.0.1:backlog=7", ("127.0.0.1", 8080, 7)),
        ("tcp:8080:127.0.0.1:7", ("127.0.0.1", 8080, 7)),
        (r"tcp:8080:interface=\:\:1", ("::1", 8080, 1024)),
        ("tcp6:8080", ("::", 8080, 1024)),
        (r"tcp6:8080:7:\:\:1", ("::1", 8080, 7)),
        ("native:tcp:8080", ("", 8080, 1024)),
    ],
)
def test_tcp_strings_are_served_by_the_loop(string, expected):
    found = described(endpoint_from_string(install_reactor(), string))
    assert (found["_host"], found["_port"], found["backlog"]) == expected


@pytest.mark.asyncio_reactor
@pytest.mark.parametrize(
    ("string", "path", "mode", "backlog", "is_locked"),
    [
        ("unix:/run/a.sock", "/run/a.sock", 0o666, 1024, True),
        ("unix:address=/a:mode=600:backlog=7:lockfile=0", "/a", 0o600, 7, False),
        ("unix:/a:600:7:0", "/a", 0o600, 7, False),
        (r"unix:/a\:b\=c\\:mode=600", "/a:b=c\\", 0o600, 1024, True),
    ],
)
def test_unix_strings_are_served_by_the_loop(string, path, mode, backlog, is_locked):
    found = described(endpoint_from_string(install_reactor(), string))
    assert (found["_path"], found["_mode"], found["backlog"]) == (path, mode, backlog)
    assert (found["_lock"] is not None) is is_locked


@pytest.mark.parametrize("string", ["tcp:8080:speed=fast", "tcp", "unix", "tcp:1:2:3:4:5"])
def test_arguments_that_nobody_knows_are_refused(string):
    with pytest.raises(TypeError):
        endpoint_from_string(install_reactor(), string)


@pytest.mark.parametrize("string", ["nonsense:1", "tcp:many", "native:nonsense:1"])
def test_values_that_nobody_knows_are_refused(string):
    with pytest.raises(ValueError, match=r"nonsense|many"):
        endpoint_from_string(install_reactor(), string)


def test_arguments_that_only_twisted_knows_go_to_twisted(tls_files):
    chain, key = tls_files
    string = f"ssl:0:privateKey={key}:certKey={chain}:sslmethod=TLS_METHOD"
    with pytest.warns(DeprecationWarning, match="method"):
        endpoint = endpoint_from_string(install_reactor(), string)
    assert type(endpoint) is SSL4ServerEndpoint


@pytest.mark.parametrize(
    ("string", "expected"),
    [
        ("ssl:8443", True),
        ("native:ssl:8443", True),
        ("haproxy:ssl:8443", True),
        ("tcp:8080", False),
        ("unix:ssl", False),
        ("native", False),
    ],
)
def test_a_string_says_whether_its_endpoint_is_inside_tls(string, expected):
    assert is_inside_tls(string) is expected


def test_tls_cannot_be_asked_for_twice(tls_files):
    with pytest.raises(ImproperlyConfigured, match="twice"):
        endpoint_from_string(install_reactor(), "ssl:0", tls=TLSFiles(*tls_files))


@pytest.fixture
def split_files(tls_files, tmp_path):
    """A certificate, that of its authority, and the key, each in its own file."""
    chain, key = tls_files
    mark = b"-----BEGIN CERTIFICATE-----"
    own, authority = (mark + part for part in chain.read_bytes().split(mark)[1:])
    (tmp_path / "own.pem").write_bytes(own)
    (tmp_path / "authority.pem").write_bytes(authority)
    return tmp_path / "own.pem", tmp_path / "authority.pem", key


# Twisted's own `ssl:` gives pyOpenSSL objects that are on their way out.
@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
@pytest.mark.parametrize("prefix", ["ssl", "native:ssl"])
@pytest_twisted.ensureDeferred
async def test_a_string_names_the_files_of_tls(split_files, tls_files, prefix):
    own, authority, key = split_files
    string = f"{prefix}:0:interface=127.0.0.1:privateKey={key}:certKey={own}"
    endpoint = endpoint_from_string(install_reactor(), f"{string}:extraCertChain={authority}")
    factory = Factory.forProtocol(Echo)
    factory.noisy = False
    factory.made = DeferredQueue()
    port = await endpoint.listen(factory)
    context = ssl.create_default_context(cafile=str(authority))

    def talk():
        address = ("127.0.0.1", port.getHost().port)
        with (
            socket.create_connection(address, SECONDS) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as client,
        ):
            client.sendall(b"hi")
            return read_exactly(client, 2), chain_length(client)

    assert await in_thread(talk) == (b"hi", 2)
    await (await bounded(factory.made.get())).gone()
    await maybeDeferred(port.stopListening)


def chain_length(client):
    return len(client._sslobj.get_unverified_chain())  # public from Python 3.13 on


@pytest_twisted.ensureDeferred
async def test_a_service_inside_tls_logs_wss(tls_files, caplog):
    chain, key = tls_files
    strings = {
        f"native:ssl:0:interface=127.0.0.1:privateKey={key}:certKey={chain}": "wss",
        "native:tcp:0:interface=127.0.0.1": "ws",
    }
    for string, scheme in strings.items():
        with caplog.at_level("INFO", "aiorest-ws"):
            service = Application(router=SimpleRouter()).service(listen=string, log_level="info")
            service.startService()
            port = await bounded(service.listening)
        assert f" {scheme}://127.0.0.1:{port.getHost().port}/" in caplog.text
        await service.stopService()


@pytest.mark.parametrize("method", ["ssl_context", "twisted_options"])
def test_files_that_cannot_be_used_are_named(tls_files, tmp_path, method):
    chain, key = tls_files
    (tmp_path / "empty.pem").touch()
    for files in (
        TLSFiles(chain, tmp_path / "absent.pem"),
        TLSFiles(tmp_path / "absent.pem", key),
        TLSFiles(key, key),
        TLSFiles(chain, key, tmp_path / "absent.pem"),
        TLSFiles(chain, key, tmp_path / "empty.pem"),
    ):
        with pytest.raises(ImproperlyConfigured) as raised:
            getattr(files, method)()
        words = f"The certificate '{files.certificate}' and the key '{files.key}' cannot be used: "
        assert str(raised.value).startswith(words)
        assert len(str(raised.value)) > len(words) + 3


@pytest_twisted.ensureDeferred
async def test_a_native_string_is_known_to_twisted(tmp_path):
    reactor = install_reactor()
    endpoint = NativeParser().parseStreamServer(reactor, "tcp", "0", interface="127.0.0.1")
    kind = LoopServerEndpoint if hasattr(reactor, "_asyncioEventloop") else TCP4ServerEndpoint
    assert type(endpoint) is kind
    for arguments in (("tcp", "0", "a", "b", "c"), ("nonsense", "1"), ()):
        with pytest.raises(ValueError, match="native:"):
            NativeParser().parseStreamServer(reactor, *arguments)


@pytest.mark.parametrize("reactor", ["asyncio", "epoll"])
def test_twist_serves_a_directory_by_a_native_string(tmp_path, reactor):
    (tmp_path / "page.txt").write_text("a page")
    path = tmp_path / "s"
    options = [f"--reactor={reactor}", "--log-format=text"]
    command = [sys.executable, "-m", "twisted", *options, "web", "--path", "."]
    with subprocess.Popen(
        [*command, "--listen", f"native:unix:{path}:lockfile=0"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        alarm = threading.Timer(SECONDS, process.kill)
        alarm.start()
        seen = []
        try:
            for line in process.stdout:
                seen.append(line)
                if "Starting reactor" in line:
                    break
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(SECONDS)
                client.connect(str(path))
                client.sendall(b"GET /page.txt HTTP/1.0\r\n\r\n")
                assert read_all(client).endswith(b"\r\n\r\na page"), seen
            process.send_signal(signal.SIGTERM)
            seen += process.stdout
        finally:
            process.kill()
            alarm.cancel()
    assert not path.exists()
    served_by_the_loop = any("Site listens on" in line for line in seen)
    assert served_by_the_loop is (reactor == "asyncio"), seen


@pytest_twisted.ensureDeferred
async def test_a_lock_file_keeps_a_second_server_away(tmp_path):
    reactor, path = install_reactor(), str(tmp_path / "s")
    first = await unix_endpoint(reactor, path, lockfile=True).listen(Factory())
    with pytest.raises(CannotListenError):
        await unix_endpoint(reactor, path, lockfile=True).listen(Factory())
    await maybeDeferred(first.stopListening)
    assert list(tmp_path.iterdir()) == []
    again = await unix_endpoint(reactor, path, lockfile=True).listen(Factory())
    await maybeDeferred(again.stopListening)


# Python's own loop


@pytest.mark.asyncio_reactor
@pytest.mark.skipif("AIOREST_WS_TEST_LOOP" in os.environ, reason="this is that run")
def test_all_this_holds_on_the_loop_of_python_itself():
    here = Path(__file__)
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--reactor=asyncio", "-q", "-p", "no:cacheprovider"),
            *(str(here), "-k", "native"),
        ],
        cwd=here.parents[3],
        env={**os.environ, "AIOREST_WS_TEST_LOOP": "asyncio"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout
