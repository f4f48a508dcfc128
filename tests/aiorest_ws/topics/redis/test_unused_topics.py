"""Nothing stays in Redis of a topic that has neither messages nor subscribers."""

import asyncio
import json
import subprocess
import sys

import pytest
from redis import Redis

from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.topics.broker import Position
from support.reactors import asyncio_test
from support.redis_topics import KEPT, publish
from support.waiting import until

NAMES = [f"rooms/{number}" for number in range(60)]


def keys_of_topics(server, prefix="p"):
    """All keys but those that an application has one of each."""
    with Redis(port=server.port) as client:
        keys = [key.decode() for key in client.keys(f"{prefix}:*")]
    kinds = ("topic", "meta", "members", "process")
    return sorted(key for key in keys if key.split(":")[1] in kinds)


def served(server, **options):
    router = SimpleRouter()
    router.register_topic("rooms/{name}", **options)
    return RequestHandlerFactory(router=router, topics=server.url("p"))


def subscribe(client, name):
    client.send({"method": "SUBSCRIBE", "url": name, "id": name})


async def cancel(client):
    """Each SUBSCRIBE is cancelled before it is answered."""
    for name in NAMES:
        subscribe(client, name)
        client.send({"method": "CANCEL", "id": name})
    for _ in NAMES:
        await client.receive()


async def leave_at_once(client):
    """The connection is lost before a SUBSCRIBE is answered."""
    for name in NAMES:
        subscribe(client, name)
    client.transport.loseConnection()
    await client.closed


async def abort(client):
    for name in NAMES:
        subscribe(client, name)
    await client.receive()
    client.transport.abortConnection()


async def unsubscribe_at_once(client):
    for name in NAMES:
        subscribe(client, name)
        client.send({"method": "UNSUBSCRIBE", "url": name})
    for _ in range(2 * len(NAMES)):
        await client.receive()


async def subscribe_again_and_close(client):
    for name in NAMES:
        subscribe(client, name)
        subscribe(client, name)
    for _ in range(len(NAMES)):
        await client.receive()
    client.sendClose(1000)
    await client.closed


async def resume(client):
    """Positions that were never those of the topics."""
    for number, name in enumerate(NAMES):
        since = {"epoch": "0" * 16, "offset": number}
        client.send({"method": "SUBSCRIBE", "url": name, "since": since})
    await client.receive()
    client.sendClose(1000)
    await client.closed


@pytest.mark.parametrize(
    ("go", "presence"),
    [
        (cancel, False),
        (leave_at_once, True),
        (abort, False),
        (unsubscribe_at_once, True),
        (subscribe_again_and_close, True),
        (resume, False),
    ],
)
@asyncio_test
async def test_nothing_stays_of_topics_that_clients_have_asked_for(
    network, redis_server, go, presence
):
    server = redis_server()
    factory = served(server, presence=presence)
    port = await network.serve(factory=factory)
    await factory.topics.start()
    try:
        client = await network.connect(port)
        await go(client)
        client.transport.abortConnection()
        await until(lambda: not factory.countConnections)
        # Scripts are sent in order: what was sent before this one has run.
        await factory.topics.broker.head("rooms/0")
        await until(lambda: not keys_of_topics(server))
    finally:
        await factory.topics.stop()


@asyncio_test
async def test_a_topic_keeps_its_epoch_from_its_first_subscriber_on(network, redis_server):
    server = redis_server()
    factory = served(server)
    port = await network.serve(factory=factory)
    await factory.topics.start()
    try:
        client, other = await network.connect(port), await network.connect(port)
        told = json.loads(await client.ask({"method": "SUBSCRIBE", "url": "rooms/1"}))["data"]
        with Redis(port=server.port) as redis:
            # As if the next period had begun: new topics get another epoch.
            assert redis.hget("p:meta:rooms/1", "epoch") == told["epoch"].encode()
            redis.hset("p:meta:rooms/1", "epoch", "of-before")
        await other.ask({"method": "SUBSCRIBE", "url": "rooms/2"})
        position = await factory.publish("rooms/1", 1)
        assert position == Position("of-before", 1)
    finally:
        await factory.topics.stop()


@asyncio_test
async def test_a_topic_is_the_same_for_all_who_ask_before_its_first_message(brokers, redis_url):
    (first, _), (second, heard) = await brokers(redis_url), await brokers(redis_url)
    heads = [await broker.head("orders/1") for broker in (first, second, first)]
    await first.enter("orders/1", "ann", b"null", is_announced=False)
    heads.append(await second.head("orders/1"))
    await first.leave("orders/1", "ann")
    heads.append((await second.replay("orders/1", heads[0], messages=9, size=9)).head)
    assert {head.offset for head in heads} == {0}
    # Unless a new period has begun meanwhile.
    assert len({head.epoch for head in heads}) <= 2
    position = await publish(first)
    assert position.offset == 1
    await until(lambda: heard.messages)
    assert (await second.head("orders/1")) == position


@asyncio_test
async def test_a_topic_that_has_lost_its_history_has_another_epoch(brokers, redis_server):
    """The epoch of new topics changes sooner than a topic is forgotten."""
    server = redis_server()
    broker, _ = await brokers(server.url("p"))
    with Redis(port=server.port) as redis:
        for topic, kept in (("orders/1", KEPT), ("orders/2", KEPT)):
            await publish(broker, topic=topic, kept=kept)
            # More than the half hour for which new topics get the same epoch.
            assert redis.pttl(f"p:meta:{topic}") > 1800 * 1000
        await broker.enter("orders/3", "ann", b"null", is_announced=False)
        assert redis.pttl("p:meta:orders/3") > 1800 * 1000


KILLED = """
import asyncio, sys
from aiorest_ws.topics.redis.broker import RedisBroker
from aiorest_ws.transports import install_reactor

class Nobody:
    def joined(self, *_): pass
    left = resync = deliver = joined

async def main(reactor):
    broker = RedisBroker(sys.argv[1], reactor, lease_seconds=1.0)
    await broker.start(Nobody())
    for number in range(20):
        await broker.head(f"rooms/{number}")
        await broker.enter(f"rooms/{number}", "ann", b"null", is_announced=number % 2 == 0)
    print("entered", flush=True)
    await asyncio.sleep(60)

reactor = install_reactor()
reactor._asyncioEventloop.run_until_complete(main(reactor))
"""


@asyncio_test
async def test_nothing_stays_of_the_topics_of_a_process_that_was_killed(brokers, redis_server):
    server = redis_server()
    broker, heard = await brokers(server.url("p"), lease_seconds=1.0)
    await publish(broker, topic="rooms/7")
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, server.url("p")], stdout=subprocess.PIPE
    )
    try:
        assert await asyncio.to_thread(process.stdout.readline) == b"entered\n"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert len(keys_of_topics(server)) > 20
    left = ["p:meta:rooms/7", "p:topic:rooms/7"]
    await until(lambda: keys_of_topics(server) == left)
    await until(lambda: sum(kind == "leave" for kind, *_ in heard.notes) == 10)
