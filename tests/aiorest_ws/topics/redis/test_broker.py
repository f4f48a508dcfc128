"""Topics on a real Redis: what is published, kept and replayed."""

import asyncio
import sys

import pytest

from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.topics import connect
from aiorest_ws.topics.broker import Position, Retention
from aiorest_ws.topics.redis.broker import RedisBroker
from aiorest_ws.topics.redis.url import RedisURL
from support.reactors import asyncio_test
from support.redis_topics import KEPT, offsets_kept, publish
from support.waiting import until

# What is published


@asyncio_test
async def test_offsets_have_no_gap_whoever_publishes(brokers, redis_url):
    first, heard = await brokers(redis_url)
    second, heard_there = await brokers(redis_url)
    await first.declare({"orders/{id}": KEPT})
    publisher = connect(redis_url)

    def from_elsewhere():
        return [publisher.publish("orders/1", index).offset for index in range(50)]

    elsewhere = asyncio.create_task(asyncio.to_thread(from_elsewhere))
    positions = await asyncio.gather(
        *(publish(broker, b"%d" % index) for index in range(50) for broker in (first, second))
    )
    offsets = [one.offset for one in positions] + await elsewhere
    publisher.close()
    assert sorted(offsets) == list(range(1, 151))
    assert len({one.epoch for one in positions}) == 1
    await until(lambda: len(heard.messages) == len(heard_there.messages) == 150)
    for one in (heard, heard_there):
        assert [message.offset for message in one.messages] == list(range(1, 151))


@asyncio_test
async def test_one_process_publishes_in_the_order_of_its_calls(brokers, redis_url):
    broker, heard = await brokers(redis_url)
    await asyncio.gather(*(publish(broker, b"%d" % index) for index in range(1000)))
    await until(lambda: len(heard.messages) == 1000)
    assert [int(message.data) for message in heard.messages] == list(range(1000))


@asyncio_test
async def test_data_and_key_arrive_as_they_were(brokers, redis_url):
    broker, heard = await brokers(redis_url)
    data = '{"a":"\\u0000 ü € \\r\\n"}'.encode()
    for key in (None, "", "k€y"):
        await publish(broker, data, key=key)
    await until(lambda: len(heard.messages) == 3)
    assert [(one.data, one.key) for one in heard.messages] == [
        (data, None),
        (data, ""),
        (data, "k€y"),
    ]
    replay = await broker.replay("orders/1", Position("", 0), messages=10, size=1000)
    assert [(one.data, one.key, one.body) for one in replay.messages] == [
        (one.data, one.key, one.body) for one in heard.messages
    ]


# What is kept


@asyncio_test
async def test_a_number_of_messages_is_kept(brokers, redis_url):
    broker, _ = await brokers(redis_url)
    for _ in range(10):
        await publish(broker, kept=Retention(4, 1 << 20, 300))
    assert await offsets_kept(broker) == [7, 8, 9, 10]


@asyncio_test
async def test_a_number_of_bytes_is_kept(brokers, redis_url):
    broker, _ = await brokers(redis_url)
    for size in (100, 100, 150, 100):
        await publish(broker, b"1" * size, kept=Retention(100, 300, 300))
    assert await offsets_kept(broker) == [3, 4]


@asyncio_test
async def test_what_is_too_old_is_not_kept(brokers, redis_url):
    broker, _ = await brokers(redis_url)
    short = Retention(100, 1 << 20, 0.2)
    await publish(broker, kept=short)
    assert await offsets_kept(broker) == [1]
    await asyncio.sleep(0.3)
    assert await offsets_kept(broker) == []
    head = await broker.head("orders/1")
    assert (await publish(broker, kept=short)) == Position(head.epoch, 2)  # it is the same topic
    assert await offsets_kept(broker) == [2]


@asyncio_test
async def test_nothing_is_kept_if_nothing_is_asked_for(brokers, redis_url, shared_redis):
    broker, heard = await brokers(redis_url)
    await publish(broker, kept=Retention(0, 1 << 20, 300))
    assert await offsets_kept(broker) == []
    await until(lambda: heard.messages)
    prefix = redis_url.partition("prefix=")[2]
    assert shared_redis.ask("EXISTS", f"{prefix}:topic:orders/1") == b":0"


@asyncio_test
async def test_a_replay_comes_in_pieces(brokers, redis_url):
    broker, _ = await brokers(redis_url)
    for _ in range(10):
        await publish(broker, b"1" * 100)
    head = await broker.head("orders/1")

    async def offsets(after, **bounds):
        replay = await broker.replay("orders/1", Position(head.epoch, after), **bounds)
        assert replay.head == head
        return [message.offset for message in replay.messages]

    assert await offsets(3, messages=4, size=10_000) == [4, 5, 6, 7]
    assert await offsets(3, messages=4, size=250) == [4, 5]
    assert await offsets(3, messages=4, size=1) == [4]
    assert await offsets(10, messages=4, size=1000) == []
    assert await offsets(11, messages=2, size=1000) == [1, 2]  # ahead: all that is there
    other = await broker.replay("orders/1", Position("other", 5), messages=2, size=1000)
    assert [message.offset for message in other.messages] == [1, 2]


# Rates


@asyncio_test
async def test_processes_share_a_rate(brokers, redis_url):
    first, _ = await brokers(redis_url)
    second, _ = await brokers(redis_url)
    per_second = 3 / 3600
    assert [await one.admit("ann", per_second) for one in (first, second)] == [True, False]
    assert await second.admit("bob", per_second)
    assert [await first.admit("eve", 2) for _ in range(3)] == [True, True, False]
    await asyncio.sleep(0.6)
    assert await second.admit("eve", 2)


# Where it is


def test_the_process_needs_the_asyncio_reactor():
    class Other:
        pass

    with pytest.raises(ImproperlyConfigured, match="asyncio reactor, this is Other"):
        RedisBroker("redis://127.0.0.1", Other())


def test_without_its_client_the_way_to_install_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ImproperlyConfigured, match=r'pip install "\.\[redis\]"'):
        RedisURL("redis://127.0.0.1")
