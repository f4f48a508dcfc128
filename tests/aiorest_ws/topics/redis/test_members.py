"""Members on a real Redis: who is there."""

import asyncio
import signal
import subprocess
import sys
import textwrap
import time

from aiorest_ws.exceptions import TopicsUnavailable
from support.reactors import asyncio_test
from support.waiting import until

SECONDS = 30


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
from aiorest_ws.awaiting import start
from aiorest_ws.topics.redis.broker import RedisBroker

class Deaf:
    deliver = joined = left = lambda *arguments: None
    resync = lambda self: None

async def live():
    broker = RedisBroker(sys.argv[1], reactor, lease_seconds=1.0)
    await broker.start(Deaf())
    await broker.enter("room", "bob", b"null", is_announced=True)
    print("there", flush=True)

reactor.callLater(0, lambda: start(live()).addErrback(lambda failure: reactor.stop()))
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
