"""A Redis that is away: what is lost with it, and what is never doubled."""

import asyncio
import logging
import socket
import threading
import time

import pytest
from redis.asyncio.client import Pipeline

from aiorest_ws.exceptions import TopicsUnavailable
from aiorest_ws.topics import connect
from aiorest_ws.topics.broker import Position
from aiorest_ws.topics.redis.broker import RedisBroker
from aiorest_ws.topics.redis.scripts import PUBLISH
from aiorest_ws.topics.redis.sender import MAX_WAITING_BYTES, Sender
from aiorest_ws.transports import install_reactor
from support.reactors import asyncio_test
from support.redis_topics import KEPT, publish
from support.waiting import until

SECONDS = 30


@asyncio_test
async def test_a_server_does_not_start_without_its_redis(redis_server):
    server = redis_server()
    server.kill()
    broker = RedisBroker(f"redis://:secret@127.0.0.1:{server.port}", install_reactor())
    with pytest.raises(TopicsUnavailable) as told:
        await broker.start(None)
    assert f"127.0.0.1:{server.port}" in str(told.value)
    assert "secret" not in str(told.value) + repr(broker)


@asyncio_test
async def test_after_a_restart_without_data_a_topic_is_another_one(brokers, redis_server):
    server = redis_server()
    broker, heard = await brokers(server.url("p"))
    broker.follow("orders/1", KEPT)
    before = await publish(broker)
    await until(lambda: heard.messages)
    server.kill()
    with pytest.raises(TopicsUnavailable):
        await publish(broker)
    server.start()
    after = await publish(broker, b"2", wait=SECONDS)
    assert after.epoch != before.epoch
    assert after.offset == 1
    await until(lambda: heard.resyncs)
    assert (await broker.head("orders/1")) == after


@asyncio_test
async def test_after_a_restart_with_its_data_nothing_is_lost(brokers, redis_server):
    server = redis_server("--appendonly", "yes", "--appendfsync", "always")
    broker, heard = await brokers(server.url("p"))
    broker.follow("orders/1", KEPT)
    for index in range(5):
        await publish(broker, b"%d" % index)
    await until(lambda: len(heard.messages) == 5)
    server.kill()
    waiting = [asyncio.create_task(publish(broker, b"%d" % n, wait=SECONDS)) for n in (5, 6)]
    await asyncio.sleep(0.3)
    server.start()
    await asyncio.gather(*waiting)
    await until(lambda: len(heard.messages) == 7)
    assert [message.offset for message in heard.messages] == list(range(1, 8))
    assert len({message.epoch for message in heard.messages}) == 1
    assert heard.resyncs == 0


@asyncio_test
async def test_what_redis_has_lost_is_not_taken_for_something_else(brokers, redis_server):
    # It comes back as it was before the last message, and then has another one in its place.
    server = redis_server("--appendonly", "yes", "--appendfsync", "always")
    broker, heard = await brokers(server.url("p"))
    broker.follow("orders/1", KEPT)
    broker.follow("orders/2", KEPT)
    other_topic = await publish(broker, topic="orders/2")
    first = await publish(broker, b'"first"')
    await until(lambda: len(heard.messages) == 2)
    server.ask("SAVE")
    saved = {path: path.read_bytes() for path in server.directory.rglob("*.aof")}
    lost = await publish(broker, b'"lost"')
    await until(lambda: len(heard.messages) == 3)
    server.kill()
    for path, content in saved.items():
        path.write_bytes(content)
    server.start()
    # Somebody publishes before this process is back: the numbers are as high as they were.
    with connect(server.url("p")) as publisher:
        other = await asyncio.to_thread(publisher.publish, "orders/1", "other")
    assert (other.epoch, other.offset) == (first.epoch, lost.offset)
    await until(lambda: heard.resyncs)
    head = await broker.head("orders/1")
    assert head.epoch != first.epoch
    # Nobody can tell what the other topic has lost.
    assert (await broker.head("orders/2")).epoch != other_topic.epoch
    assert (await publish(broker)) == Position(head.epoch, head.offset + 1)
    await until(lambda: heard.messages[-1].epoch == head.epoch)


@asyncio_test
async def test_a_publication_whose_answer_was_lost_is_not_made_twice(
    brokers, redis_url, monkeypatch
):
    broker, heard = await brokers(redis_url)
    execute = Sender._execute
    cut = []

    async def answer_is_lost(self, calls):
        results = await execute(self, calls)
        published = [
            result for call, result in zip(calls, results, strict=False) if call.script is PUBLISH
        ]
        if published and not cut:
            cut.extend(published)
            raise ConnectionError("cut behind the server")
        return results

    monkeypatch.setattr(Sender, "_execute", answer_is_lost)
    position = await publish(broker, b"7", wait=SECONDS)
    assert position.offset == cut[0][1] == 1
    assert (await publish(broker, b"8")).offset == 2
    await until(lambda: len(heard.messages) == 2)
    assert [message.data for message in heard.messages] == [b"7", b"8"]


@asyncio_test
async def test_a_redis_that_hangs_does_not_hang_a_publisher(brokers, redis_server, monkeypatch):
    # Above what a reader waits for news.
    monkeypatch.setattr("aiorest_ws.topics.redis.url.REPLY_SECONDS", 1.5)
    server = redis_server()
    broker, heard = await brokers(server.url("p"))
    monkeypatch.undo()
    server.pause()
    with pytest.raises(TopicsUnavailable):
        await publish(broker)
    with pytest.raises(TopicsUnavailable):
        await publish(broker)
    waiting = asyncio.create_task(publish(broker, b"2", wait=SECONDS))
    await asyncio.sleep(0.2)
    server.go_on()
    await waiting
    await until(lambda: any(message.data == b"2" for message in heard.messages))
    assert [one.offset for one in heard.messages] == list(range(1, len(heard.messages) + 1))


@asyncio_test
async def test_what_waits_for_redis_is_bounded(brokers, redis_server):
    server = redis_server()
    broker, _ = await brokers(server.url("p"))
    server.pause()
    big = b"1" * (1 << 20)
    waiting = [asyncio.create_task(publish(broker, big)) for _ in range(40)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    refused = [one for one in waiting if one.done()]
    assert len(refused) >= 40 - MAX_WAITING_BYTES // len(big)
    assert all("Too much waits" in str(one.exception()) for one in refused)
    server.go_on()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert (await publish(broker)).offset == 40 - len(refused) + 1


@asyncio_test
async def test_there_is_one_line_when_redis_goes_and_one_when_it_is_back(
    brokers, redis_server, caplog
):
    server = redis_server()
    caplog.set_level(logging.INFO, logger="aiorest-ws")
    await brokers(server.url("p"))
    for _ in range(2):
        server.kill()
        await until(lambda: caplog.messages and "is lost" in caplog.messages[-1])
        await asyncio.sleep(0.5)
        server.start()
        await until(lambda: "is back" in caplog.messages[-1])
    said = [text.split(",")[0] for text in caplog.messages if "Redis" in text]
    assert said == ["topics: Redis is lost", "topics: Redis is back"] * 2


@asyncio_test
async def test_a_redis_that_is_away_is_not_stormed(brokers, redis_server):
    server = redis_server()
    broker, _heard = await brokers(server.url("p"))
    server.kill()
    attempts = []

    def count(listening):
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            attempts.append(time.monotonic())
            connection.close()

    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", server.port))
        listening.listen()
        counter = threading.Thread(target=count, args=(listening,))
        counter.start()
        end = time.monotonic() + 3
        failed = 0
        while time.monotonic() < end:
            try:
                await publish(broker)
            except TopicsUnavailable:
                failed += 1
            await asyncio.sleep(0.002)
        listening.shutdown(socket.SHUT_RDWR)
    counter.join()
    # Two that try, each after 0.05 s at least, and 0.1, 0.2, 0.4, 0.8...
    assert 2 <= len(attempts) <= 16
    assert failed > len(attempts)


@asyncio_test
async def test_who_was_away_for_too_long_is_told_to_look_again(brokers, redis_url, monkeypatch):
    broker, heard = await brokers(redis_url)
    await publish(broker)
    await until(lambda: heard.messages)
    # As if the bus had been trimmed past what this one has read.
    broker._reader._number = -5
    await publish(broker)
    await until(lambda: heard.resyncs)
    await publish(broker)
    await until(lambda: heard.messages[-1].offset == 3)


@asyncio_test
async def test_a_connection_that_is_lost_while_it_is_made_is_an_outage(
    brokers, redis_server, monkeypatch
):
    server = redis_server()
    broker, _ = await brokers(server.url("p"))
    await publish(broker)

    async def lost(self, **_):
        monkeypatch.undo()
        raise AttributeError("'NoneType' object has no attribute 'writelines'")

    monkeypatch.setattr(Pipeline, "execute", lost)
    # Nothing is logged as an error, and the publication is repeated.
    assert (await publish(broker, b"2", wait=SECONDS)).offset == 2
