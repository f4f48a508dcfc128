"""Our transports beside Twisted's: bytes, ends, and addresses."""

import os
import socket

import pytest
import pytest_twisted
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, ISSLTransport
from zope.interface import implementer

from support.transports import (
    BIG,
    RESET,
    SECONDS,
    Echo,
    Recorder,
    bounded,
    close,
    in_thread,
    read_all,
    read_exactly,
    turns,
    with_and_without_tls,
)


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
