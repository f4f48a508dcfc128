"""What a Redis that is away for a while must not do to order, to numbers and to who is there."""

import asyncio
import functools

import pytest
from redis import Redis

from aiorest_ws.exceptions import ImproperlyConfigured, TopicsUnavailable
from aiorest_ws.topics import connect
from aiorest_ws.topics.broker import Retention
from aiorest_ws.topics.redis.broker import publish_arguments
from aiorest_ws.topics.redis.scripts import BUS_ENTRIES, PUBLISH, SETTLE, Keys
from aiorest_ws.topics.redis.sender import Sender
from support.reactors import asyncio_test
from support.waiting import until

SECONDS = 30
KEPT = Retention(256, 1 << 20, 300)
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


async def known_of(ask):
    """Return what a broker answers when it can be reached."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                return await ask()
            except TopicsUnavailable:
                await asyncio.sleep(0.01)


def publish(broker, data=b"1", topic="orders/1", kept=KEPT, wait=0.0):
    return broker.publish(topic, data, key=None, retention=kept, wait_seconds=wait)


# What is published


@asyncio_test
async def test_what_waits_for_redis_keeps_its_order(brokers, redis_server):
    server = redis_server(*DURABLE)
    broker, heard = await brokers(server.url("p"))
    await publish(broker, b"0")
    server.kill()
    waiting = [
        asyncio.create_task(publish(broker, b"%d" % index, wait=SECONDS)) for index in range(1, 51)
    ]
    await until(lambda: broker._sender._next_attempt)
    server.start()
    await asyncio.gather(*waiting)
    await until(lambda: len(heard.messages) == 51)
    assert [int(message.data) for message in heard.messages] == list(range(51))


@asyncio_test
async def test_what_is_still_under_way_on_a_connection_that_was_given_up_is_not_made(
    brokers, redis_server, monkeypatch
):
    # Above what a reader waits for news.
    monkeypatch.setattr("aiorest_ws.topics.redis.url.REPLY_SECONDS", 1.5)
    server = redis_server()
    broker, heard = await brokers(server.url("p"))
    server.pause()
    # More than the kernel takes in one go: Redis reads the rest after the second attempt.
    big = b" " * 100_000
    waiting = [
        asyncio.create_task(publish(broker, b"%d%b" % (index, big), wait=2 * SECONDS))
        for index in range(100)
    ]
    await until(lambda: broker._sender._next_attempt)
    server.go_on()
    await asyncio.gather(*waiting)
    with Redis(port=server.port) as redis:
        # The sender, the reader and this one: all that the others have sent has been read.
        await until(lambda: redis.info("clients")["connected_clients"] == 3)
    last = await publish(broker, b"100")
    await until(lambda: heard.messages[-1].offset == last.offset)
    assert [int(message.data) for message in heard.messages] == list(range(101))


@asyncio_test
async def test_what_was_looked_for_in_vain_is_not_made_when_it_arrives_late(brokers, redis_url):
    broker, heard = await brokers(redis_url)
    keys = Keys(redis_url.partition("prefix=")[2])
    made = publish_arguments(keys, "orders/1", b"1", key=None, retention=KEPT, nonce="made")
    late = publish_arguments(keys, "orders/1", b"2", key=None, retention=KEPT, nonce="late")
    with Redis.from_url(redis_url.partition("?")[0]) as redis:
        position = redis.eval(PUBLISH.text, 5, *made)
        settled = redis.eval(SETTLE.text, 1, keys.bus, keys.prefix, "made", "late")
        assert settled == [position, []]
        assert redis.eval(PUBLISH.text, 5, *late) == []
    assert (await publish(broker, b"3")).offset == 2
    await until(lambda: heard.messages[-1:] and heard.messages[-1].data == b"3")
    assert [message.data for message in heard.messages] == [b"1", b"3"]


@asyncio_test
async def test_a_full_bus_is_searched_once_for_all_that_wait(brokers, redis_server):
    server = redis_server("--appendonly", "yes", "--appendfsync", "no")
    broker, _ = await brokers(server.url("p"))
    for _ in range(10):
        await asyncio.gather(*(publish(broker, b"1" * 100) for _ in range(1000)))
    execute, failed = Sender._execute, []

    async def answer_is_lost(self, calls):
        results = await execute(self, calls)
        if not failed:
            failed.extend(calls)
            raise ConnectionError("cut behind the server")
        return results

    broker._sender._execute = functools.partial(answer_is_lost, broker._sender)
    positions = await asyncio.gather(*(publish(broker, b"2", wait=20) for _ in range(1000)))
    assert failed
    assert [one.offset for one in positions] == list(range(10_001, 11_001))


@asyncio_test
async def test_it_works_at_once_when_redis_is_back(brokers, redis_server):
    server = redis_server(*DURABLE)
    broker, _ = await brokers(server.url("p"))
    await publish(broker)
    server.kill()
    with pytest.raises(TopicsUnavailable):
        await publish(broker)
    # As after a long time without.
    broker._sender._next_attempt = asyncio.get_running_loop().time() + 2 * SECONDS
    server.start()
    assert (await known_of(lambda: publish(broker))).offset == 2


@pytest.mark.logs_errors
@asyncio_test
async def test_nobody_waits_for_ever_for_what_fails_in_an_unexpected_way(brokers, redis_url):
    broker, _ = await brokers(redis_url)

    async def fail(calls):
        raise AttributeError("planted")

    broker._sender._execute = fail
    async with asyncio.timeout(SECONDS):
        with pytest.raises(TopicsUnavailable):
            await publish(broker)


@pytest.mark.logs_errors
@asyncio_test
async def test_the_bus_is_read_on_after_an_entry_that_is_none_of_ours(
    brokers, redis_url, shared_redis
):
    broker, heard = await brokers(redis_url)
    prefix = redis_url.partition("prefix=")[2]
    shared_redis.ask("HINCRBY", f"{prefix}:bus-meta", "n", "1")
    assert shared_redis.ask("XADD", f"{prefix}:bus", "1-0", "foo", "bar") == b"$3"
    await publish(broker)
    await until(lambda: heard.messages)


# What is kept


@asyncio_test
async def test_a_topic_lives_as_long_as_its_history_whoever_asks(brokers, redis_url):
    broker, _ = await brokers(redis_url)
    await publish(broker, kept=Retention(10, 1 << 20, 86_400))
    head = await broker.head("orders/1")
    await broker.replay("orders/1", head, messages=1, size=1)
    prefix = redis_url.partition("prefix=")[2]
    with Redis.from_url(redis_url.partition("?")[0]) as redis:
        history = redis.pttl(f"{prefix}:topic:orders/1")
        assert redis.pttl(f"{prefix}:meta:orders/1") > history > 0


# Who is there


@asyncio_test
async def test_who_leaves_while_redis_is_away_is_not_there_when_it_is_back(brokers, redis_server):
    server = redis_server(*DURABLE)
    broker, heard = await brokers(server.url("p"), lease_seconds=1.0)
    for member in ("ann", "bob"):
        await broker.enter("room", member, b"null", is_announced=True)
    server.kill()
    await broker.leave("room", "ann")
    server.start()
    await until(lambda: ("leave", "room", "ann") in heard.notes)
    assert await known_of(lambda: broker.members("room")) == {"bob": b"null"}


@asyncio_test
async def test_nobody_is_said_to_leave_because_redis_was_away_for_longer_than_a_lease(
    brokers, redis_server
):
    server = redis_server()
    (first, heard), (second, _) = [
        await brokers(server.url("p"), lease_seconds=2.0) for _ in range(2)
    ]
    await first.enter("room", "ann", b"null", is_announced=True)
    await second.enter("room", "bob", b"null", is_announced=True)
    server.pause()
    await asyncio.sleep(2.5)  # all leases are over
    server.go_on()
    everybody = {"ann": b"null", "bob": b"null"}
    async with asyncio.timeout(SECONDS):
        while await known_of(lambda: first.members("room")) != everybody:
            await asyncio.sleep(0.01)
    await asyncio.sleep(5)  # leases are cleared up after again
    assert [kind for kind, *_ in heard.notes] == ["join", "join"]
    assert await first.members("room") == everybody


@asyncio_test
async def test_who_was_taken_for_gone_is_said_to_be_there_again(brokers, redis_server):
    server = redis_server()
    broker, heard = await brokers(server.url("p"), lease_seconds=1.0)
    await broker.enter("room", "ann", b"null", is_announced=True)
    await until(lambda: broker._valid_since)
    # As another process does it when this one has not said anything for longer than its lease.
    other, _ = await brokers(server.url("p"), lease_seconds=1.0)
    with Redis(port=server.port) as redis:
        redis.zadd("p:processes", {broker._process: 0})
    await other._renew(other._sender, 1.0, may_remove=True)
    await until(lambda: len(heard.notes) == 3)
    assert [kind for kind, *_ in heard.notes] == ["join", "leave", "join"]
    assert await known_of(lambda: other.members("room")) == {"ann": b"null"}


# Where it is


@pytest.mark.parametrize(
    "url", ["redis://:p4ss/word@h:6379", "redis+sentinel://:p4ss/word@h:1/main"]
)
def test_what_is_wrong_with_a_url_is_told_without_its_password(url):
    with pytest.raises(ImproperlyConfigured) as told:
        connect(url)
    assert "p4ss" not in str(told.value)


@asyncio_test
async def test_a_member_that_leaves_does_no_harm_when_the_bus_forgets_it(
    brokers, redis_url, monkeypatch
):
    broker, heard = await brokers(redis_url)
    for _ in range(3):
        await broker.enter("room", "ann", b"null", is_announced=True)
        await broker.leave("room", "ann")
    await asyncio.gather(*(publish(broker) for _ in range(BUS_ENTRIES)))
    assert (await publish(broker)).offset == BUS_ENTRIES + 1
    await until(lambda: heard.messages and heard.messages[-1].offset == BUS_ENTRIES + 1)


@pytest.mark.logs_errors
@asyncio_test
async def test_one_publication_that_is_refused_is_no_harm_to_others(brokers, redis_server):
    server = redis_server()
    broker, _ = await brokers(server.url("p"))
    server.ask("SET", "p:meta:orders/1", "of somebody else")
    refused = asyncio.create_task(publish(broker, wait=SECONDS))
    with pytest.raises(TopicsUnavailable):
        await refused
    assert (await publish(broker, topic="orders/2")).offset == 1


@asyncio_test
async def test_topics_that_were_only_asked_for_are_forgotten(brokers, redis_server):
    server = redis_server()
    broker, _ = await brokers(server.url("p"))
    for index in range(10):
        topic = f"orders/{index}"
        await broker.head(topic)
        await broker.enter(topic, "ann", b"null", is_announced=False)
        await broker.leave(topic, "ann")
    await publish(broker, topic="orders/5")
    with Redis(port=server.port) as client:
        assert client.keys("p:meta:*") == [b"p:meta:orders/5"]
