"""A Redis that is full refuses what adds data, before anything has changed; the rest goes on."""

import asyncio

import pytest
from redis import Redis

from aiorest_ws.exceptions import TopicsUnavailable
from aiorest_ws.topics import connect
from aiorest_ws.topics.broker import Retention
from support.reactors import asyncio_test
from support.redis_topics import KEPT, offsets_kept, publish
from support.waiting import until

NOTHING = Retention(0, 1 << 20, 300)


class Full:
    """A Redis at its `maxmemory`, with a topic and a member."""

    def __init__(self, server, broker):
        self.server, self.broker = server, broker
        self.client = Redis(port=server.port)

    def fill(self):
        self.client.config_set("maxmemory", 1)

    def make_room(self):
        self.client.config_set("maxmemory", 0)

    def dump(self):
        """All that is stored, except leases, which are renewed."""
        keys = sorted(set(self.client.keys("*")) - {b"p:processes"})
        return {key: self.client.dump(key) for key in keys}


async def to_a_new_topic(full):
    await publish(full.broker, b"1" * 1000, topic="orders/new")


async def to_many_new_topics(full):
    await asyncio.gather(
        *(publish(full.broker, b"1" * 1000, topic=f"orders/new-{number}") for number in range(50))
    )


async def to_a_topic_with_messages(full):
    await publish(full.broker, topic="orders/1")


async def to_a_topic_without_history(full):
    await publish(full.broker, topic="orders/new", kept=NOTHING)


async def to_an_empty_topic_with_subscribers(full):
    await publish(full.broker, topic="orders/empty")


async def from_a_script(full):
    with connect(full.server.url("p")) as publisher:
        await asyncio.to_thread(publisher.publish, "orders/new", "1" * 1000)


async def enter_a_new_topic(full):
    await full.broker.enter("orders/new", "bob", b"null", is_announced=True)


async def enter_a_topic(full):
    await full.broker.enter("orders/1", "bob", b"1" * 100, is_announced=False)


async def take_from_an_allowance(full):
    await full.broker.admit("ann", 5)


async def look(full):
    await full.broker.head("orders/1")


def lose_the_bus(full):
    full.client.delete("p:bus-meta")


def forget_a_topic(full):
    """Let a topic be one of a Redis that has lost its last data."""
    full.client.hset("p:meta:orders/1", "bus", "another")


def do_nothing(full):
    pass


@pytest.mark.parametrize(
    ("add", "prepare"),
    [
        (to_a_new_topic, do_nothing),
        (to_a_new_topic, lose_the_bus),
        (to_many_new_topics, do_nothing),
        (to_a_topic_with_messages, do_nothing),
        (to_a_topic_with_messages, forget_a_topic),
        (to_a_topic_without_history, do_nothing),
        (to_an_empty_topic_with_subscribers, do_nothing),
        (from_a_script, do_nothing),
        (from_a_script, lose_the_bus),
        (enter_a_new_topic, do_nothing),
        (enter_a_topic, do_nothing),
        (enter_a_topic, forget_a_topic),
        (take_from_an_allowance, do_nothing),
        (look, lose_the_bus),
    ],
)
@asyncio_test
async def test_what_adds_data_is_refused_before_anything_has_changed(
    brokers, redis_server, add, prepare
):
    server = redis_server()
    broker, _ = await brokers(server.url("p"))
    full = Full(server, broker)
    await broker.declare({"orders/{id}": KEPT})
    await publish(broker, topic="orders/1")
    await broker.enter("orders/empty", "ann", b"null", is_announced=True)
    prepare(full)
    full.fill()
    before = full.dump()
    with pytest.raises(TopicsUnavailable):
        await add(full)
    assert full.dump() == before
    full.make_room()
    assert (await publish(broker, topic="orders/2", wait=30)).offset == 1


@asyncio_test
async def test_a_full_redis_is_read_and_cleaned_up(brokers, redis_server):
    server = redis_server()
    (broker, heard), (dying, _) = [
        await brokers(server.url("p"), lease_seconds=1.0) for _ in range(2)
    ]
    full = Full(server, broker)
    position = await publish(broker, topic="orders/1")
    for number in range(3):
        await broker.enter(f"orders/{number}", "ann", b"null", is_announced=True)
        await dying.enter(f"orders/{number}", "bob", b"null", is_announced=True)
    full.fill()
    assert await broker.head("orders/1") == position
    assert await offsets_kept(broker, "orders/1") == [1]
    assert (await broker.head("orders/new")).offset == 0
    assert set(await broker.members("orders/1")) == {"ann", "bob"}
    await broker.leave("orders/0", "ann")
    await dying.stop()
    await until(lambda: sum(kind == "leave" for kind, *_ in heard.notes) == 4)
    assert set(await broker.members("orders/1")) == {"ann"}
    # The lease is renewed, so nobody takes this process for dead.
    await asyncio.sleep(2)
    assert set(await broker.members("orders/2")) == {"ann"}
    for number in (1, 2):
        await broker.leave(f"orders/{number}", "ann")
    await until(lambda: not full.client.keys("p:members:*") + full.client.keys("p:meta:*[02]"))


@asyncio_test
async def test_the_members_of_a_dead_process_are_removed_from_a_full_redis(brokers, redis_server):
    server = redis_server()
    broker, heard = await brokers(server.url("p"), lease_seconds=1.0)
    full = Full(server, broker)
    await until(lambda: full.client.zcard("p:processes"))
    living = set(full.client.zrange("p:processes", 0, -1))
    other, _ = await brokers(server.url("p"), lease_seconds=60.0)
    await other.enter("orders/1", "bob", b"null", is_announced=True)
    await until(lambda: full.client.zcard("p:processes") == 2)
    [process] = set(full.client.zrange("p:processes", 0, -1)) - living
    full.client.zadd("p:processes", {process: 1})  # as if it had not renewed its lease
    full.fill()
    await until(lambda: ("leave", "orders/1", "bob") in heard.notes)
    assert await broker.members("orders/1") == {}
