"""A thousand subscribers come and go, and each has every message once, in order, or is told."""

import contextlib
import json
import os
import signal
import time

import pytest

from soak.processes import cores, eventually, raise_file_limit, workers_of
from soak.redis_server import RedisServer, require_redis
from soak.scale import IS_FULL, IS_SMOKE, number

pytestmark = [pytest.mark.soak, pytest.mark.redis]

SUBSCRIBERS = number("subscribers", 200, 1_000)
TOPICS = number("topics", 20, 100)
RATE = 200
SECONDS = number("delivery_seconds", 4, 60)
SPARE_FILES = 500
START_SECONDS = 120
END_SECONDS = 240
WORKERS = 2
KILLS = 2

# At a fifth of the topics, of a fifth of the messages, a smoke would hardly see an absence.
PACE = {} if IS_FULL else {"stay_seconds": 1.5, "away_seconds": 0.3, "long_seconds": 2.0}
FAULTS = {
    "skip_one": "a skipped offset",
    "replay_late": "a replay after a later message",
    "replay_twice": "a double",
    "conceal_gaps": "a missing gap",
    "lose_the_end": "a missing gap",
}
FAULTS_OF_SMOKE = ("skip_one", "replay_late")


def start(family, server, **options):
    raise_file_limit(SUBSCRIBERS + SPARE_FILES)
    given = {"subscribers": SUBSCRIBERS, "topics": TOPICS, "rate": RATE, "seconds": SECONDS}
    clients = family.client("delivery", server.port, json.dumps(given | PACE | options))
    assert clients.result(START_SECONDS)["subscribed"] == (given | options)["subscribers"]
    clients.tell("publish")
    return clients


def assert_complete(told, part=0.9):
    assert not told["faults"], told
    # The proof of the proof: much was published, by those who were told where, and much of it
    # came to those who had left in between, gaps included.
    assert told["confirmed"] >= part * RATE * SECONDS, told
    assert told["pushes"] >= told["confirmed"] * SUBSCRIBERS / TOPICS * 0.5, told
    assert told["left"] > SUBSCRIBERS, told
    assert told["UNSUBSCRIBE done"] > 0, told
    assert told["gaps"] > 0, told


def test_memory_gives_everything_once_and_in_order(family, say):
    server = family.server(application="soak.delivery_app:application")
    told = start(family, server).result(SECONDS + END_SECONDS)
    say(**told)
    assert_complete(told)
    assert told["confirmed"] == told["attempts"] == told["heads"], told
    assert not told.get("live gaps"), told
    assert not told.get("lost"), told
    assert "ERROR" not in server.error_text(), server.error_text()[-2000:]


@pytest.mark.parametrize("fault", FAULTS_OF_SMOKE if IS_SMOKE else FAULTS)
def test_planted_fault_is_found(family, fault):
    """The proof fails when the server is wrong."""
    server = family.server(
        application="soak.delivery_app:application", env={"AIOREST_WS_SOAK_FAULT": fault}
    )
    clients = start(
        family,
        server,
        subscribers=100,
        topics=20,
        seconds=60,  # at most; a few faults end it
        enough_faults=5,
        stay_seconds=0.7,
        away_seconds=0.3,
        long_seconds=1.2,
        long_part=0.6,
    )
    told = clients.result(END_SECONDS)
    assert any(FAULTS[fault] in found for found in told["faults"]), told


@pytest.fixture
def redis(tmp_path):
    require_redis()
    with contextlib.closing(RedisServer(tmp_path, cores()[0])) as server:
        yield server


def test_two_workers_and_redis_give_everything_though_workers_are_killed(family, redis, say):
    server = family.server(
        application="soak.delivery_app:application",
        arguments=["--workers", str(WORKERS)],
        env={"AIOREST_WS_SOAK_TOPICS": redis.url},
    )
    eventually(lambda: len(workers_of(server.pid)) == WORKERS, START_SECONDS, server.error_text)
    clients = start(family, server)
    for _ in range(KILLS):
        time.sleep(SECONDS / (KILLS + 1))  # the load goes on for longer than all of them
        before = workers_of(server.pid)
        os.kill(before[0], signal.SIGKILL)
        eventually(
            lambda before=before: (
                len(now := workers_of(server.pid)) == WORKERS and before[0] not in now
            ),
            START_SECONDS,
            server.error_text,
        )
    told = clients.result(SECONDS + END_SECONDS)
    say(**told)
    # Publishers are away, too, until they have found another worker.
    assert_complete(told, part=0.5)
    # Those of the workers that were killed.
    assert told["lost"] > 0, told
    # What was on its way to a worker that is killed may be published or not, nothing else may.
    unsure = told.get("publishes lost", 0)
    assert told["confirmed"] <= told["heads"] <= told["confirmed"] + unsure, told
