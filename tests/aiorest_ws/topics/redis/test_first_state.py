"""What a new subscriber begins with, in memory and on Redis: the newest messages, a snapshot."""

import asyncio
import json
import random

import pytest
import pytest_twisted

from aiorest_ws import BaseAPIException, Request, SimpleRouter
from aiorest_ws.awaiting import start
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.topics import Snapshot
from support.waiting import until

pytestmark = pytest.mark.asyncio_reactor

BROKERS = ["memory", pytest.param("redis", marks=pytest.mark.redis)]


@pytest.fixture(params=BROKERS)
def topics_url(request):
    return "memory" if request.param == "memory" else request.getfixturevalue("redis_url")


async def served(network, router, topics="memory", count=1):
    factories = [RequestHandlerFactory(router=router, topics=topics) for _ in range(count)]
    clients = [await network.connect(await network.serve(factory=one)) for one in factories]
    for one in factories:
        await one.topics.start()
    return factories, clients


async def subscribe(client, topic="news", **keys):
    return await answered(client, {"method": "SUBSCRIBE", "url": topic, "id": 1, **keys})


async def answered(client, message):
    """Return the answer to a message; pushes may come before it."""
    client.send(message)
    while "topic" in (reply := json.loads(await client.receive())):
        pass
    return reply


async def received(client, count):
    return [json.loads(await client.receive()) for _ in range(count)]


# The newest messages


@pytest.mark.parametrize("published", [0, 1, 5, 200])
@pytest.mark.parametrize("last", [0, 1, 3, 100, 10**9])
@pytest_twisted.ensureDeferred
async def test_the_newest_messages_come_first(network, topics_url, published, last):
    router = SimpleRouter()
    router.register_topic("news", history=150)
    [factory], [client] = await served(network, router, topics_url)
    for number in range(1, published + 1):
        await factory.publish("news", number)
    expected = min(last, published, 150)
    told = (await subscribe(client, since={"last": last}))["data"]
    assert told["offset"] == published - expected
    await factory.publish("news", "next")
    pushes = await received(client, expected + 1)
    assert [push["offset"] for push in pushes] == [*range(told["offset"] + 1, published + 2)]
    assert [push["data"] for push in pushes] == [
        *range(published - expected + 1, published + 1),
        "next",
    ]


@pytest.mark.parametrize(
    "since",
    [
        {"last": -1},
        {"last": 1.5},
        {"last": True},
        {"last": "1"},
        {"last": None},
        {"last": 1, "offset": 1},
        {"last": 1, "epoch": "a", "offset": 1},
    ],
)
@pytest_twisted.ensureDeferred
async def test_another_last_is_malformed(network, since):
    router = SimpleRouter()
    router.register_topic("news")
    _, [client] = await served(network, router)
    assert (await subscribe(client, since=since))["status"] == 400


# Snapshots


@pytest.mark.parametrize("is_coroutine", [False, True])
@pytest.mark.parametrize("since", [None, {"last": 2}, {"epoch": "before", "offset": 1}])
@pytest_twisted.ensureDeferred
async def test_the_answer_has_the_snapshot(network, topics_url, since, is_coroutine):
    router = SimpleRouter(permission_classes=())
    topic = router.topic("news/{name}")

    if is_coroutine:

        @topic.snapshot
        async def state(request: Request, name: str):
            await asyncio.sleep(0)
            return {"of": name}

    else:

        @topic.snapshot
        def state(request: Request, name: str):
            return {"of": name}

    _, [client] = await served(network, router, topics_url)
    keys = {} if since is None else {"since": since}
    told = (await subscribe(client, "news/a", **keys))["data"]
    assert told["snapshot"] == {"of": "news/a"}
    await topic.publish(1, name="a")
    pushes = await received(client, 2 if since and "epoch" in since else 1)
    assert pushes[-1]["data"] == 1
    assert pushes[0].get("gap") is (True if len(pushes) == 2 else None)


@pytest.mark.logs_errors
@pytest.mark.parametrize(("exc", "status"), [(BaseAPIException("no"), 400), (ValueError(), 500)])
@pytest_twisted.ensureDeferred
async def test_a_snapshot_that_fails_leaves_no_subscription(network, exc, status):
    router = SimpleRouter()
    topic = router.topic("news")

    @topic.snapshot
    def state(request: Request, name: str):
        raise exc

    [factory], [client] = await served(network, router)
    assert (await subscribe(client))["status"] == status
    assert not factory.topics.names


@pytest_twisted.ensureDeferred
async def test_a_call_that_is_cancelled_meanwhile_leaves_no_subscription(network):
    router, begun = SimpleRouter(), []
    topic = router.topic("news")

    @topic.snapshot
    async def state(request: Request, name: str):
        begun.append(name)
        await asyncio.Event().wait()

    [factory], [client] = await served(network, router)
    client.send({"method": "SUBSCRIBE", "url": "news", "id": 1})
    await until(lambda: begun)
    assert json.loads(await client.ask({"method": "CANCEL", "id": 1}))["status"] == 499
    await until(lambda: not factory.topics.names)


@pytest.mark.parametrize("has_position", [True, False])
@pytest.mark.parametrize("servers", [1, 2])
@pytest_twisted.ensureDeferred
async def test_a_snapshot_and_the_pushes_after_it_are_complete(
    network, topics_url, servers, has_position
):
    """Whatever is published while it is made, in many random orders."""
    if topics_url == "memory" and servers == 2:
        pytest.skip("memory is of one process")
    chance = random.Random(servers + has_position)
    router, state = SimpleRouter(), {}
    router.register_topic("news/{name}", history=1000)
    [route] = router.topics

    @route.topic.snapshot
    async def snapshot(request: Request, name: str):
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        total, position = state[name]
        value = total
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        return Snapshot(value, position) if has_position else value

    factories, clients = await served(network, router, topics_url, servers)
    for run in range(125 if topics_url == "memory" else 25):
        name = f"news/{run}"
        first = await factories[0].publish(name, 0)
        state[name] = (0, first)
        count = chance.randrange(1, 12)

        async def publish(name=name, count=count):
            for number in range(1, count + 1):
                position = await factories[-1].publish(name, number)
                state[name] = (number, position)
                for _ in range(chance.randrange(3)):
                    await asyncio.sleep(0)

        publishing = start(publish())
        told = (await subscribe(clients[0], name))["data"]
        seen = {*range(told["snapshot"] + 1)}
        while max(seen) < count:
            push = json.loads(await clients[0].receive())
            if push.get("topic") == name:
                assert not push.get("gap")
                if has_position:
                    assert push["data"] not in seen
                seen.add(push["data"])
        assert seen == {*range(count + 1)}
        await publishing
        await answered(clients[0], {"method": "UNSUBSCRIBE", "url": name})
