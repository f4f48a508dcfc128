"""Clients that do not read what is published: what waits for them, and what the policies do."""

import json

import pytest
import pytest_twisted
from twisted.internet.task import deferLater

from aiorest_ws.awaiting import start
from aiorest_ws.decorators import endpoint
from aiorest_ws.limits import Limits
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter
from support.waiting import until

PUSH_BYTES = 100_000
SIZE = 10_000
FITTING = PUSH_BYTES // (SIZE + 300)


def served(policy, views=(), **limits):
    router = SimpleRouter()
    router.register_topic("t/{name}", policy=policy)
    for view in views:
        router.register_endpoint(view)
    return RequestHandlerFactory(
        router=router, limits=Limits(**{"push_bytes": PUSH_BYTES, **limits})
    )


async def subscribed(network, factory, port, topic="t/1"):
    client = await network.connect(port)
    await client.ask({"method": "SUBSCRIBE", "url": topic})
    return client


async def stalled(network, policy, **limits):
    """Return a client that has stopped reading, and its connection, with nothing waiting yet."""
    factory = served(policy, **limits)
    port = await network.serve(factory=factory)
    client = await subscribed(network, factory, port)
    [connection] = factory.connections
    client.transport.pauseProducing()
    number = 0
    quiet, unsent = 0, -1
    # Twisted's own transports say so before the buffers of the system are full.
    while quiet < 10:
        while not connection.is_write_paused:
            number += 1
            await factory.publish("t/1", [number, "x" * SIZE], key="k")
        await deferLater(network.reactor, 0.005)
        before, unsent = unsent, connection.unsent_bytes
        quiet = quiet + 1 if connection.is_write_paused and unsent == before else 0
    return factory, port, client, connection


async def pushes_to(client, offset):
    found = []
    while not found or found[-1]["offset"] < offset:
        found.append(json.loads(await client.receive()))
    return found


def check_complete(pushes, first=1):
    """All of it in order, each message once, or a gap before what is next."""
    expected = first
    for push in pushes:
        if push.get("gap"):
            assert push["offset"] >= expected
        else:
            assert push["offset"] == expected
        expected = push["offset"] + 1


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("policy", ["drop_oldest", "block"])
async def test_the_oldest_are_dropped_and_the_client_is_told(network, policy):
    factory, port, client, connection = await stalled(network, policy)
    other = await subscribed(network, factory, port)
    unsent = connection.unsent_bytes
    pushes = []
    for number in range(100):
        head = await factory.publish("t/1", [number, "x" * SIZE])
        pushes.append(json.loads(await other.receive()))
    assert connection.topic_subscriptions.queued_bytes <= PUSH_BYTES
    assert connection.unsent_bytes <= unsent
    # The others are not disturbed.
    check_complete(pushes, head.offset - 99)
    assert not any("gap" in push for push in pushes)
    client.transport.resumeProducing()
    pushes = await pushes_to(client, head.offset)
    check_complete(pushes)
    # The system may have taken more in between, so that there are several.
    gap = max(place for place, push in enumerate(pushes) if push.get("gap"))
    assert len(pushes) - gap - 1 in range(FITTING - 2, FITTING + 3)  # the newest are kept
    await until(lambda: not connection.topic_subscriptions.queued_bytes)
    head = await factory.publish("t/1", 1)
    assert json.loads(await client.receive())["offset"] == head.offset


@pytest_twisted.ensureDeferred
async def test_a_gap_is_told_even_if_nothing_follows_it(network):
    factory, _, client, _ = await stalled(network, "drop_oldest", push_bytes=SIZE)
    head = await factory.publish("t/1", "x" * (2 * SIZE))  # never fits
    client.transport.resumeProducing()
    pushes = await pushes_to(client, head.offset)
    check_complete(pushes)
    assert pushes[-1] == {
        "event_name": None,
        "topic": "t/1",
        "epoch": head.epoch,
        "offset": head.offset,
        "gap": True,
    }


@pytest_twisted.ensureDeferred
async def test_latest_keeps_the_newest_of_each_key(network):
    factory, _, client, connection = await stalled(network, "latest")
    for number in range(50):
        for key in ("a", "b"):
            head = await factory.publish("t/1", [key, number], key=key)
    assert connection.topic_subscriptions.queued_bytes < 2 * SIZE
    client.transport.resumeProducing()
    pushes = await pushes_to(client, head.offset)
    check_complete(pushes)
    assert [push["data"] for push in pushes[-2:]] == [["a", 49], ["b", 49]]
    assert pushes[-3]["gap"]


@pytest_twisted.ensureDeferred
async def test_disconnect_closes_with_1008(network):
    factory, port, client, connection = await stalled(network, "disconnect")
    other = await subscribed(network, factory, port)
    for _ in range(FITTING - 1):
        await factory.publish("t/1", "x" * SIZE)
    assert connection.state == connection.STATE_OPEN
    for _ in range(3):
        head = await factory.publish("t/1", "x" * SIZE)
    assert connection.state != connection.STATE_OPEN
    assert factory.limit_hits == {"push_bytes": 1}
    client.transport.resumeProducing()
    await client.closed
    assert client.close[1] == 1008
    assert len(await pushes_to(other, head.offset)) == FITTING + 2
    await until(lambda: [c.topic_subscriptions.names for c in factory.connections] == [("t/1",)])


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("how", ["reads", "goes", "unsubscribes"])
async def test_a_publisher_that_asks_waits_until_the_client_reads_or_goes(network, how):
    factory, port, client, connection = await stalled(network, "block")
    other = await subscribed(network, factory, port)
    waiting = []
    while not waiting:
        publishing = factory.publish("t/1", "x" * SIZE, block=True)
        if not publishing.called:
            waiting.append(publishing)
    queued = connection.topic_subscriptions.queued_bytes
    assert PUSH_BYTES - 2 * SIZE < queued <= PUSH_BYTES
    waiting += [factory.publish("t/1", "x" * SIZE, block=True) for _ in range(20)]
    for _ in range(5):
        await deferLater(network.reactor, 0)
    assert not any(one.called for one in waiting)
    assert connection.topic_subscriptions.queued_bytes == queued
    if how == "goes":
        client.transport.abortConnection()
        await client.closed
    elif how == "unsubscribes":
        connection.unsubscribe("t/1")
    else:
        client.transport.resumeProducing()
    offsets = [(await one).offset for one in waiting]
    assert offsets == list(range(offsets[0], offsets[0] + 21))
    check_complete(pushes := await pushes_to(other, offsets[-1]), pushes[0]["offset"])
    if how == "reads":
        pushes = await pushes_to(client, offsets[-1])
        check_complete(pushes)
        assert not any("gap" in push for push in pushes)
    elif how == "unsubscribes":
        assert not connection.topic_subscriptions.queued_bytes
        client.transport.resumeProducing()


@pytest_twisted.ensureDeferred
async def test_a_publisher_that_is_cancelled_publishes_nothing(network):
    factory, _, client, connection = await stalled(network, "block")
    publishing = None
    while publishing is None or publishing.called:
        publishing = factory.publish("t/1", "x" * SIZE, block=True)
    before = (await start(factory.topics.broker.head("t/1"))).offset
    publishing.addErrback(lambda failure: None)
    publishing.cancel()
    await publishing
    client.transport.resumeProducing()
    await until(lambda: not connection.is_write_paused)
    assert (await factory.publish("t/1", 1)).offset == before + 1


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_what_a_view_publishes_to_its_own_client_is_bounded_too(network):
    @endpoint("/flood", "GET")
    def flood(request):
        for number in range(4000):
            request.factory.publish("t/1", [number, "x" * 5000])

    factory = served("drop_oldest", views=[flood], unsent_bytes=4_000_000)
    client = await subscribed(network, factory, await network.serve(factory=factory))
    # Two that come together, as a client sends them that does not wait.
    frames = []
    write = client.transport.write
    client.transport.write = frames.append
    client.send({"method": "GET", "url": "/flood"})
    client.send({"method": "GET", "url": "/flood"})
    client.transport.write = write
    write(b"".join(frames))
    pushes, answers = [], 0
    while answers < 2 or not pushes or pushes[-1]["offset"] < 8000:
        told = json.loads(await client.receive())
        if "topic" in told:
            pushes.append(told)
        else:
            answers += 1
    check_complete(pushes)
    assert not factory.limit_hits
