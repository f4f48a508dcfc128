"""Redis is away while the load goes on: nothing hangs, grows or storms, and nothing is lost."""

import contextlib
import json
import re
import time

import pytest

from soak.processes import (
    cores,
    eventually,
    raise_file_limit,
    reset_peak,
    resident_peak,
    workers_of,
)
from soak.redis_server import Proxy, RedisServer, require_redis
from soak.scale import IS_FULL, IS_SMOKE, number

pytestmark = [pytest.mark.soak, pytest.mark.redis]

WORKERS = 2
SUBSCRIBERS = number("outage_subscribers", 60, 300)
TOPICS = number("outage_topics", 10, 100)
RATE = 200
OUTAGE_SECONDS = number("outage_seconds", 3, 30)
BEFORE_SECONDS = 2
AFTER_SECONDS = 10 if IS_FULL else 3
# Redis has so long for an answer: in a shorter pause nobody fails.
PATIENCE_SECONDS = 5
START_SECONDS = 120
END_SECONDS = 240

PUBLISHERS = 8
WAITING = 2
# A waiting publisher is to see the end of it.
WAIT_SECONDS = 120
# A full outage offers 48 MiB, and a message is held three or four times on its way: kept, they
# would be far more than this. What fills in the beginning is 64 calls in flight on each of eight
# connections, and what waits behind them. In the second half nothing is added to that.
FILLING_BYTES = 8 * 1024
GROWTH_BYTES = 96 * 1024 * 1024
LATE_GROWTH_BYTES = 12 * 1024 * 1024

# What may be: a call is sent, nothing comes for five seconds, and a connection has 64 calls in
# flight, so that its next ones wait for that.
ANSWER_SECONDS = 25
# Each process has two connections, with pauses that grow to five seconds.
ATTEMPTS = WORKERS * (15 + OUTAGE_SECONDS)


def paused(redis):
    redis.pause()
    yield
    redis.go_on()


def killed(redis):
    redis.kill()
    yield
    redis.start()


@pytest.fixture
def redis(tmp_path):
    require_redis()
    with contextlib.closing(RedisServer(tmp_path, cores()[0])) as server:
        yield server


def connections_received(redis):
    found = re.search(rb"total_connections_received:(\d+)", redis.command("INFO stats"))
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("outage", [killed] if IS_SMOKE else [paused, killed])
def test_outage_of_redis_loses_nothing_and_nothing_hangs(family, redis, say, outage):
    raise_file_limit(SUBSCRIBERS + 500)
    with Proxy(redis.port) as proxy:
        server = family.server(
            application="soak.delivery_app:application",
            arguments=["--workers", str(WORKERS)],
            env={"AIOREST_WS_SOAK_TOPICS": proxy.url},
        )
        eventually(
            lambda: len(workers_of(server.pid)) == WORKERS, START_SECONDS, server.error_text
        )
        options = {
            "subscribers": SUBSCRIBERS,
            "topics": TOPICS,
            "rate": RATE,
            "seconds": BEFORE_SECONDS + OUTAGE_SECONDS + AFTER_SECONDS,
            "publishers": PUBLISHERS,
            "waiting": WAITING,
            "wait_seconds": WAIT_SECONDS,
            "filling_bytes": FILLING_BYTES,
            "answer_seconds": OUTAGE_SECONDS + ANSWER_SECONDS,
            "settle_seconds": 120.0,
        }
        clients = family.client("delivery", server.port, json.dumps(options))
        clients.result(START_SECONDS)
        clients.tell("publish")
        time.sleep(BEFORE_SECONDS)
        workers = workers_of(server.pid)
        before = [resident_peak(pid) for pid in workers]
        for pid in workers:
            reset_peak(pid)
        connections = connections_received(redis)
        begun = time.monotonic()
        phases = outage(redis)
        next(phases)
        time.sleep(OUTAGE_SECONDS / 2)
        peaks = [resident_peak(pid) for pid in workers]
        for pid in workers:
            reset_peak(pid)
        half = [resident_peak(pid) for pid in workers]
        time.sleep(OUTAGE_SECONDS / 2)
        late_growth = [resident_peak(pid) - then for pid, then in zip(workers, half, strict=True)]
        attempts = proxy.attempts(begun)
        next(phases, None)
        told = clients.result(options["seconds"] + END_SECONDS)
        received = connections_received(redis) - (connections if outage is paused else 0)
        growth = [
            max(peak, resident_peak(pid)) - then
            for pid, peak, then in zip(workers, peaks, before, strict=True)
        ]
        say(
            attempts_to_connect=attempts,
            received=received,
            growth=growth,
            late_growth=late_growth,
            **told,
        )
        assert not told["faults"], told
        assert workers_of(server.pid) == workers, server.error_text()[-2000:]
    # The proof of the proof: it was an outage, for those that subscribed, too.
    assert told["slowest_waiting"] >= OUTAGE_SECONDS - 1, told
    if outage is killed or OUTAGE_SECONDS > 2 * PATIENCE_SECONDS:
        assert told["published 503"] > 0, told
        assert told["SUBSCRIBE 503"] > 0, told
        assert attempts > 0
    assert told["confirmed"] > RATE * BEFORE_SECONDS * 0.5, told
    # Those that asked to wait have waited; the others were told soon.
    assert "waited 503" not in told, told
    assert told["slowest_answer"] <= ANSWER_SECONDS, told
    # Of what was answered with an error, some may have been published.
    unsure = told.get("published 503", 0) + told.get("publishes lost", 0)
    assert told["confirmed"] <= told["heads"] <= told["confirmed"] + unsure, told
    assert attempts <= ATTEMPTS
    # With those that came when it was back, and the questions of this test.
    assert received <= ATTEMPTS + 10 * WORKERS
    assert max(growth) <= GROWTH_BYTES, growth
    if IS_FULL:
        assert max(late_growth) <= LATE_GROWTH_BYTES, late_growth
    assert "Traceback" not in server.error_text(), server.error_text()[-2000:]
