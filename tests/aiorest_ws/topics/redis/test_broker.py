"""Topics on a real Redis: what is kept, what is lost with it, and what is never doubled."""

import asyncio
import functools
import logging
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from aiorest_ws.exceptions import ImproperlyConfigured, TopicsUnavailable, UnknownTopic
from aiorest_ws.topics import connect
from aiorest_ws.topics.broker import Position, Retention
from aiorest_ws.topics.redis.broker import RedisBroker
from aiorest_ws.topics.redis.scripts import PUBLISH
from aiorest_ws.topics.redis.sender import MAX_WAITING_BYTES, Sender
from aiorest_ws.topics.redis.url import RedisURL
from aiorest_ws.transports import install_reactor
from support.reactors import asyncio_test
from support.waiting import until

SECONDS = 30
KEPT = Retention(256, 1 << 20, 300)


def publish(broker, data=b"1", topic="orders/1", key=None, kept=KEPT, wait=0.0):
    return broker.publish(topic, data, key=key, retention=kept, wait_seconds=wait)


async def offsets_kept(broker, topic="orders/1"):
    replay = await broker.replay(topic, Position("", 0), messages=10_000, size=1 << 30)
    return [message.offset for message in replay.messages]


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


# When Redis is away


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


# Who is there


@asyncio_test
async def test_all_processes_know_who_is_there(brokers, redis_url):
    first, heard = await brokers(redis_url)
    second, heard_there = await brokers(redis_url)
    await first.enter("room", "ann", b'{"n":1}', is_announced=True)
    await second.enter("room", "bob", b"null", is_announced=True)
    await second.enter("room", "eve", b"null", is_announced=False)
    everybody = {"ann": b'{"n":1}', "bob": b"null", "eve": b"null"}
    assert await first.members("room") == await second.members("room") == everybody
    await second.leave("room", "bob")
    await second.leave("room", "eve")
    await second.leave("room", "bob")
    assert await first.members("room") == {"ann": b'{"n":1}'}
    await until(lambda: len(heard.notes) == len(heard_there.notes) == 3)
    assert heard.notes == heard_there.notes
    assert heard.notes == [
        ("join", "room", "ann", b'{"n":1}'),
        ("join", "room", "bob", b"null"),
        ("leave", "room", "bob"),
    ]


@asyncio_test
async def test_who_was_in_a_process_that_stops_is_gone(brokers, redis_url):
    first, heard = await brokers(redis_url)
    second, _ = await brokers(redis_url)
    await second.enter("room", "bob", b"null", is_announced=True)
    await second.stop()
    assert await first.members("room") == {}
    await until(lambda: ("leave", "room", "bob") in heard.notes)


KILLED = """
import asyncio, sys
from aiorest_ws.transports import install_reactor
reactor = install_reactor()
from aiorest_ws.awaiting import begun
from aiorest_ws.topics.redis.broker import RedisBroker

class Deaf:
    deliver = joined = left = lambda *arguments: None
    resync = lambda self: None

async def live():
    broker = RedisBroker(sys.argv[1], reactor, lease_seconds=1.0)
    await broker.start(Deaf())
    await broker.enter("room", "bob", b"null", is_announced=True)
    print("there", flush=True)

reactor.callLater(0, lambda: begun(live()).addErrback(lambda failure: reactor.stop()))
reactor.run()
"""


@asyncio_test
async def test_who_was_in_a_process_that_is_killed_is_gone_with_its_lease(brokers, redis_url):
    broker, heard = await brokers(redis_url, lease_seconds=1.0)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), redis_url], stdout=subprocess.PIPE
    )
    try:
        assert await asyncio.to_thread(process.stdout.readline) == b"there\n"
        assert await broker.members("room") == {"bob": b"null"}
        await asyncio.sleep(1.5)
        assert await broker.members("room") == {"bob": b"null"}  # it renews its lease
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    await until(lambda: ("leave", "room", "bob") in heard.notes)
    assert await broker.members("room") == {}
    assert [note[0] for note in heard.notes] == ["join", "leave"]


@asyncio_test
async def test_redis_is_told_again_who_is_there_when_it_has_forgotten(brokers, redis_server):
    server = redis_server()
    broker, _ = await brokers(server.url("p"), lease_seconds=1.0)
    await broker.enter("room", "ann", b"null", is_announced=False)
    server.kill()
    server.start()
    end = time.monotonic() + SECONDS
    while True:
        assert time.monotonic() < end
        try:
            if await broker.members("room") == {"ann": b"null"}:
                break
        except TopicsUnavailable:
            pass
        await asyncio.sleep(0.02)


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


# From other processes


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


# Where it is


def test_a_url_may_be_of_a_unix_socket():
    client = RedisURL("unix:///run/redis.sock?db=3&prefix=p").client(is_async=False)
    assert client.connection_pool.connection_kwargs["path"] == "/run/redis.sock"
    assert client.connection_pool.connection_kwargs["db"] == 3


def test_a_url_tells_no_password():
    for url in (
        "redis://ann:secret@127.0.0.1:1/0",
        "redis+sentinel://ann:secret@127.0.0.1:1,127.0.0.1:2/main/3",
    ):
        assert "secret" not in repr(RedisURL(url))
        assert "127.0.0.1" in repr(RedisURL(url))


@pytest.mark.parametrize(
    "url", ["redis+sentinel://h:1/", "redis+sentinel:///main", "redis+sentinel://h:x/main"]
)
def test_a_url_of_sentinels_names_them_and_a_service(url):
    with pytest.raises(ImproperlyConfigured):
        RedisURL(url)


@asyncio_test
async def test_sentinels_know_where_redis_is(brokers, redis_server, tmp_path):
    server = redis_server()
    config = tmp_path / "sentinel.conf"
    config.write_text(f"sentinel monitor main 127.0.0.1 {server.port} 1\n")
    port = _free_port()
    command = ["redis-server", str(config), "--sentinel", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            url = f"redis+sentinel://127.0.0.1:{port}/main/0?prefix=p"
            end = time.monotonic() + SECONDS
            while True:
                assert time.monotonic() < end
                try:
                    broker, heard = await brokers(url)
                    break
                except TopicsUnavailable:
                    await asyncio.sleep(0.05)
            await publish(broker)
            await until(lambda: heard.messages)
        finally:
            process.kill()


def _free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_the_process_needs_the_asyncio_reactor():
    class Other:
        pass

    with pytest.raises(ImproperlyConfigured, match="asyncio reactor, this is Other"):
        RedisBroker("redis://127.0.0.1", Other())


def test_without_its_client_the_way_to_install_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ImproperlyConfigured, match=r'pip install "\.\[redis\]"'):
        RedisURL("redis://127.0.0.1")
