"""Publishing from other processes."""

import asyncio
import functools
import subprocess
import sys
import time

import pytest

from aiorest_ws.exceptions import ImproperlyConfigured, TopicsUnavailable, UnknownTopic
from aiorest_ws.topics import connect
from aiorest_ws.topics.broker import Retention
from support.reactors import asyncio_test
from support.redis_topics import KEPT, offsets_kept
from support.waiting import until

SECONDS = 30


@pytest.mark.parametrize("url", ["memory", "http://127.0.0.1", "127.0.0.1", "redis://h:port"])
def test_a_publisher_needs_a_redis(url):
    with pytest.raises(ImproperlyConfigured):
        connect(url)


@asyncio_test
async def test_a_publisher_knows_what_servers_have_registered(brokers, redis_url):
    with connect(redis_url) as publisher:
        publish_there = functools.partial(asyncio.to_thread, publisher.publish)
        assert (await publish_there("anything", 1)).offset == 1  # no server yet
        broker, _ = await brokers(redis_url)
        await broker.declare({"orders/{id}": Retention(2, 1000, 300), "news": KEPT})
        for index in range(4):
            await publish_there("orders/7", index)
        assert await offsets_kept(broker, "orders/7") == [3, 4]
        with pytest.raises(UnknownTopic):
            await publish_there("anything", 1)
        await broker.declare({"anything": KEPT})
        assert (await publish_there("anything", 1)).offset == 2
        with pytest.raises(ValueError, match="cannot be the name"):
            publisher.publish("orders/*", 1)


@asyncio_test
async def test_servers_tell_a_redis_that_has_forgotten_what_is_registered(brokers, redis_server):
    server = redis_server()
    broker, _ = await brokers(server.url("p"))
    await broker.declare({"orders/{id}": KEPT})
    server.kill()
    server.start()
    end = time.monotonic() + SECONDS
    while server.ask("EXISTS", "p:patterns") != b":1":
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


@asyncio_test
async def test_families_are_asked_in_the_order_of_the_router(brokers, redis_url):
    broker, _ = await brokers(redis_url)
    await broker.declare({"{z}/a": Retention(1, 1000, 300), "{a}/{b}": KEPT})
    with connect(redis_url) as publisher:
        for index in range(3):
            await asyncio.to_thread(publisher.publish, "x/a", index)
    assert await offsets_kept(broker, "x/a") == [3]


@asyncio_test
async def test_a_script_publishes(brokers, redis_url):
    _broker, heard = await brokers(redis_url)
    script = (
        "import sys; from aiorest_ws.topics import connect\n"
        f"with connect({redis_url!r}) as publisher:\n"
        "    print(publisher.publish('orders/1', {'a': 1}, key='k').offset)\n"
        "assert 'twisted.internet.reactor' not in sys.modules\n"
    )
    process = await asyncio.to_thread(
        functools.partial(
            subprocess.run, [sys.executable, "-c", script], capture_output=True, timeout=SECONDS
        )
    )
    assert (process.stdout, process.stderr) == (b"1\n", b"")
    await until(lambda: heard.messages)
    assert (heard.messages[0].data, heard.messages[0].key) == (b'{"a":1}', "k")


@asyncio_test
async def test_a_publisher_waits_for_redis_if_it_is_told_to(redis_server):
    server = redis_server("--appendonly", "yes", "--appendfsync", "always")
    with connect(server.url("p")) as publisher:
        assert publisher.publish("orders/1", 1).offset == 1
        server.kill()
        with pytest.raises(TopicsUnavailable):
            publisher.publish("orders/1", 2)
        waiting = asyncio.create_task(
            asyncio.to_thread(publisher.publish, "orders/1", 3, wait_seconds=SECONDS)
        )
        await asyncio.sleep(0.3)
        server.start()
        assert (await waiting).offset == 2
