"""`aiorest_ws.connection.slow_client`: the time that a client has to read what it was sent."""

from types import SimpleNamespace

import pytest
from twisted.internet.task import Clock

from aiorest_ws.connection.slow_client import SlowClientWatch
from aiorest_ws.connection.timer_wheel import TimerWheel
from aiorest_ws.limits import Limits

UNSENT_SECONDS = 8


class Connection:
    """A connection whose client has read `sent_bytes`."""

    def __init__(self, clock):
        limits = Limits(unsent_seconds=UNSENT_SECONDS)
        self.factory = SimpleNamespace(limits=limits, timer_wheel=TimerWheel(clock))
        self.sent_bytes = 1000
        self.aborted = []

    def abort_slow_client(self, limit, words):
        self.aborted.append(limit)


@pytest.fixture
def clock():
    return Clock()


def pass_seconds(clock, seconds):
    clock.pump([0.25] * int(seconds * 4 + 1))


def test_who_reads_nothing_is_aborted_when_its_time_is_over(clock):
    connection = Connection(clock)
    SlowClientWatch(connection)
    pass_seconds(clock, UNSENT_SECONDS - 1)
    assert connection.aborted == []
    pass_seconds(clock, 2)
    assert connection.aborted == ["unsent_seconds"]


def test_who_reads_slowly_is_not_aborted(clock):
    connection = Connection(clock)
    SlowClientWatch(connection)
    for _ in range(20):
        pass_seconds(clock, UNSENT_SECONDS / 2)
        connection.sent_bytes += 1
    assert connection.aborted == []
    pass_seconds(clock, UNSENT_SECONDS + 2)
    assert connection.aborted == ["unsent_seconds"]


def test_who_has_read_all_is_not_looked_at_any_more(clock):
    connection = Connection(clock)
    watch = SlowClientWatch(connection)
    watch.stop()
    pass_seconds(clock, 2 * UNSENT_SECONDS)
    assert connection.aborted == []
    assert clock.getDelayedCalls() == []
