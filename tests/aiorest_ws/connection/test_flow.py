"""Clients that stop reading: the server stops reading from them, and aborts them in the end."""

import json
import logging

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from aiorest_ws.decorators import endpoint
from aiorest_ws.limits import Limits
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter
from support.waiting import until

MiB = 1024**2
SIZE = 256 * 1024


@endpoint("/large", "GET")
def large(request):
    return "x" * SIZE


@endpoint("/hello", "GET")
def hello(request):
    return "hello"


def served(**limits):
    router = SimpleRouter()
    router.register_endpoint(large)
    router.register_endpoint(hello)
    return RequestHandlerFactory(router=router, limits=Limits(**limits))


async def clogged(network, factory, calls=100):
    """Return a client that has asked for much and reads nothing, and its connection."""
    port = await network.serve(factory=factory)
    client = await network.connect(port)
    [connection] = factory.connections
    client.transport.pauseProducing()
    for number in range(calls):
        client.send({"method": "GET", "url": "/large", "id": number})
    await until(lambda: connection.is_write_paused)
    return client, connection


@pytest_twisted.ensureDeferred
async def test_who_does_not_read_is_not_read_from_and_loses_nothing(network):
    factory = served()
    client, connection = await clogged(network, factory)
    await deferLater(network.reactor, 0.1)
    answered = connection.trafficStats.outgoingWebSocketMessages
    assert answered < 100
    assert connection.unsent_bytes < 64 * 1024 + 65 * SIZE
    # Nobody else notices.
    other = await network.connect(network.ports[0].getHost().port)
    assert json.loads(await other.ask({"method": "GET", "url": "/hello"}))["data"] == "hello"
    assert connection.trafficStats.outgoingWebSocketMessages == answered
    client.transport.resumeProducing()
    ids = [json.loads(await client.receive())["id"] for _ in range(100)]
    assert ids == list(range(100))
    await until(lambda: not connection.is_write_paused)
    assert json.loads(await client.ask({"method": "GET", "url": "/hello"}))["data"] == "hello"
    assert connection._receive_limit > 0  # the short way is open again
    assert not factory.limit_hits


@pytest_twisted.ensureDeferred
async def test_who_is_too_far_behind_is_aborted_with_1008_in_its_reason(network, caplog):
    caplog.set_level(logging.INFO, "aiorest-ws")
    gone = Deferred()
    factory = served(unsent_bytes=1 * MiB)
    factory.disconnect_hooks.append(gone.callback)
    client, connection = await clogged(network, factory)
    # Replies and pushes count alike.
    while connection.state == connection.STATE_OPEN:
        connection.sendMessage(b"x" * SIZE)
    assert await gone is connection
    assert connection.close_reason.code == 1008
    assert connection.close_reason.reason.startswith("unsent_bytes: aborted, ")
    assert factory.limit_hits == {"unsent_bytes": 1}
    [line] = [r for r in caplog.records if getattr(r, "limit", None) == "unsent_bytes"]
    assert line.peer.startswith("tcp4:127.0.0.1:")
    client.transport.abortConnection()


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_who_reads_nothing_for_too_long_is_aborted(network):
    gone = Deferred()
    factory = served(unsent_seconds=0.5)
    factory.disconnect_hooks.append(gone.callback)
    client, connection = await clogged(network, factory)
    assert await gone is connection
    assert connection.close_reason.code == 1008
    assert factory.limit_hits == {"unsent_seconds": 1}
    client.transport.abortConnection()


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_who_falls_behind_and_catches_up_again_and_again_is_not_aborted(network):
    factory = served(unsent_seconds=0.5)
    client, connection = await clogged(network, factory)
    client.transport.resumeProducing()
    for _ in range(100):
        await client.receive()
    # Each of these is over the mark for a moment.
    end = network.reactor.seconds() + 1
    while network.reactor.seconds() < end:
        connection.pauseProducing()
        connection.resumeProducing()
        await deferLater(network.reactor, 0.01)
    assert not factory.limit_hits
    timers = sum(len(slot) for slot in factory._batched_timer._slots.values())
    assert timers <= 2  # a ping, and nothing of what is over


@pytest_twisted.ensureDeferred
async def test_of_all_together_the_largest_is_aborted(network):
    gone = []
    factory = served(unsent_bytes_in_all=4 * MiB)
    factory.disconnect_hooks.append(gone.append)
    port = await network.serve(factory=factory)
    clients = []
    connections = []
    for _ in range(3):
        clients.append(await network.connect(port))
        connections += [one for one in factory.connections if one not in connections]
        clients[-1].transport.pauseProducing()
    for connection in connections:
        while connection.unsent_bytes < 1.2 * MiB:
            connection.sendMessage(b"x" * SIZE)
    while not gone and connections[1].state == connections[1].STATE_OPEN:
        connections[1].sendMessage(b"x" * SIZE)
    await until(lambda: gone)
    assert gone == [connections[1]]
    assert factory.limit_hits == {"unsent_bytes_in_all": 1}
    for client in clients:
        client.transport.abortConnection()


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_many_that_let_a_little_wait_are_looked_at_too(network):
    # Below the mark nobody is told of what waits.
    factory = served(unsent_pause_bytes=MiB - 1, unsent_bytes_in_all=2 * MiB)
    port = await network.serve(factory=factory)
    clients = [await network.connect(port) for _ in range(4)]
    for client in clients:
        client.transport.pauseProducing()
    connections = list(factory.connections)
    for _ in range(3000):
        for connection in connections:
            room = 900 * 1024 - connection.unsent_bytes
            if connection.state == connection.STATE_OPEN and room > 0:
                connection.sendMessage(b"x" * 64 * 1024)
        if factory.limit_hits:
            break
        assert not any(connection.is_write_paused for connection in connections)
        await deferLater(network.reactor, 0.01)
    assert set(factory.limit_hits) == {"unsent_bytes_in_all"}
    await until(lambda: len(factory.connections) < 4)
    assert len(factory.connections) >= 2
    for client in clients:
        client.transport.resumeProducing()


@pytest_twisted.ensureDeferred
async def test_who_does_not_read_and_closes_is_not_kept(network):
    factory = served(closing_seconds=0.2)
    client, connection = await clogged(network, factory)
    connection.sendClose()
    await until(lambda: not factory.connections)
    client.transport.resumeProducing()


@pytest_twisted.ensureDeferred
async def test_a_producer_of_the_application_is_told_to_pause_and_to_go_on(network):
    told = []

    class Producer:
        def pauseProducing(self):
            told.append("pause")

        def resumeProducing(self):
            told.append("resume")

        def stopProducing(self):
            told.append("stop")

    factory = served()
    client, connection = await clogged(network, factory, calls=40)
    connection.registerProducer(Producer(), True)
    with pytest.raises(RuntimeError):
        connection.registerProducer(Producer(), True)
    assert told == ["pause"]
    client.transport.resumeProducing()
    for _ in range(40):
        await client.receive()
    await until(lambda: not connection.is_write_paused)
    assert told == ["pause", "resume"] * (len(told) // 2)
    before = list(told)
    client.sendClose()
    await client.closed
    await until(lambda: told == [*before, "stop"])


@pytest_twisted.ensureDeferred
async def test_a_pull_producer_of_the_application_is_asked(network):
    factory = served()
    port = await network.serve(factory=factory)
    client = await network.connect(port)
    [connection] = factory.connections

    class Puller:
        left = 5

        def resumeProducing(self):
            self.left -= 1
            connection.sendMessage(str(self.left).encode())
            if not self.left:
                connection.unregisterProducer()

        def stopProducing(self):
            pass

    connection.registerProducer(Puller(), False)
    assert [await client.receive() for _ in range(5)] == [b"4", b"3", b"2", b"1", b"0"]
    assert json.loads(await client.ask({"method": "GET", "url": "/hello"}))["data"] == "hello"


@pytest_twisted.ensureDeferred
async def test_a_pull_producer_waits_for_a_client_that_does_not_read(network):
    factory = served()
    client, connection = await clogged(network, factory, calls=40)
    asked = []

    class Puller:
        def resumeProducing(self):
            asked.append(connection.is_write_paused)
            connection.sendMessage(b"x" * SIZE)
            if len(asked) == 20:
                connection.unregisterProducer()

        def stopProducing(self):
            pass

    connection.registerProducer(Puller(), False)
    await deferLater(network.reactor, 0.1)
    assert asked == []
    client.transport.resumeProducing()
    for _ in range(60):
        await client.receive()
    assert asked == [False] * 20
    assert json.loads(await client.ask({"method": "GET", "url": "/hello"}))["data"] == "hello"


@pytest_twisted.ensureDeferred
async def test_a_client_that_is_gone_is_noticed_though_nothing_is_read_from_it(network):
    @endpoint("/wait", "GET")
    def wait(request):
        return Deferred()

    factory = served(calls_in_flight=1, waiting_bytes=1000, ping_seconds=0.3, pong_seconds=0.3)
    factory.router.register_endpoint(wait)
    port = await network.serve(factory=factory)
    client = await network.connect(port)
    client.send({"method": "GET", "url": "/wait"})
    for _ in range(1000):
        client.send({"method": "GET", "url": "/hello", "extra": "x" * 1000})
    [connection] = factory.connections
    await until(lambda: connection.queued_bytes >= 1000)
    client.transport.abortConnection()
    await until(lambda: not factory.connections)


# Pieces of messages


@pytest_twisted.ensureDeferred
async def test_a_message_in_very_many_pieces_is_kept_in_few(network):
    factory = served()
    port = await network.serve(factory=factory)
    client = await network.connect(port)
    [connection] = factory.connections
    client.sendFrame(1, b" ", fin=False)
    for _ in range(2000):
        client.sendFrame(0, b"", fin=False)
        client.sendFrame(0, b" ", fin=False)
    await until(lambda: getattr(connection, "message_data_total_length", 0) == 2001)
    assert len(connection.message_data) <= 257
    client.sendFrame(0, b'{"method":"GET","url":"/hello"}')
    assert json.loads(await client.receive())["data"] == "hello"


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_a_flood_of_pings_leaves_others_their_turn(network):
    port = await network.serve(factory=served())
    flood, other = await network.connect(port), await network.connect(port)
    pongs = []
    flood.onPong = pongs.append
    count = 20_000
    flood.transport.write(b"\x89\x80\x00\x00\x00\x00" * count)
    assert json.loads(await other.ask({"method": "GET", "url": "/hello"}))["data"] == "hello"
    assert len(pongs) < count
    await until(lambda: len(pongs) == count)
