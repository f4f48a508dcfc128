"""Producers of a connection, and the connection as a producer."""

import os
import socket
from io import BytesIO

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import deferLater
from twisted.protocols.basic import FileSender

from aiorest_ws.transports import install_reactor
from aiorest_ws.transports.loop_transport import HIGH_WATER_BYTES
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
    received = await in_thread(read_all, client)
    if not tls or server.is_native:  # Twisted's TLS cuts off the end, 3 times in 100
        assert received == content
    assert content.startswith(received)
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
