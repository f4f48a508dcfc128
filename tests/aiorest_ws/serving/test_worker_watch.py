"""Which silent workers a supervisor logs, and which it ends: looks by hand, without processes."""

import pytest
from twisted.internet.task import Clock

from aiorest_ws.serving.worker_watch import WorkerWatch


class Worker:
    """A worker as the watch sees it."""

    def __init__(self, blocked_seconds=0.0):
        self.blocked_seconds = blocked_seconds
        self.is_ready = True
        self.is_stopping = False
        self.ready_at = 0.0
        self.silent_seconds = 0
        self.answers = False
        self.aborted_after = None

    def __str__(self):
        return "worker 3, pid 123"

    def has_answered(self):
        return self.answers

    def abort(self):
        self.aborted_after = self.silent_seconds
        self.is_stopping = True


@pytest.fixture
def clock():
    return Clock()


def watch(clock, *workers):
    watch = WorkerWatch(clock, workers)
    watch.start()
    return watch


def log_of(caplog):
    return [record.getMessage() for record in caplog.records]


def test_a_silent_worker_is_logged_once_and_when_it_answers_again(clock, caplog):
    worker = Worker()
    watch(clock, worker)
    clock.pump([1] * 30)
    assert log_of(caplog) == ["worker 3, pid 123 has not answered for 5 s"]
    worker.answers = True
    clock.pump([1] * 3)
    assert log_of(caplog)[1:] == ["worker 3, pid 123 answers again after 30 s"]
    assert worker.aborted_after is None


@pytest.mark.parametrize(("limit", "after"), [(1, 1), (2.5, 3), (12, 12)])
def test_a_silent_worker_is_ended_after_the_limit(clock, limit, after):
    worker = Worker(limit)
    watch(clock, worker)
    clock.pump([1] * 30)
    assert worker.aborted_after == after


def test_the_time_counts_anew_after_an_answer(clock):
    worker = Worker(3)
    watch(clock, worker)
    for _ in range(10):
        worker.answers = False
        clock.pump([1] * 2)
        worker.answers = True
        clock.pump([1])
    assert worker.aborted_after is None


@pytest.mark.parametrize("change", [{"is_ready": False}, {"is_stopping": True}])
def test_a_worker_that_starts_or_stops_is_not_ended(clock, change, caplog):
    worker = Worker(2)
    vars(worker).update(change)
    watch(clock, worker)
    clock.pump([1] * 30)
    assert worker.aborted_after is None
    assert log_of(caplog) == []


def test_a_worker_has_the_whole_time_from_when_it_listens(clock):
    worker = Worker(1)
    worker.ready_at = 3.9
    watch(clock, worker)
    clock.pump([1] * 4)
    assert worker.aborted_after is None
    clock.pump([1])
    assert worker.aborted_after == 1


@pytest.mark.parametrize("late_seconds", [2, 10, 86400])
def test_a_late_look_is_no_verdict(clock, late_seconds):
    worker = Worker(1)
    watch(clock, worker)
    clock.advance(late_seconds)
    assert worker.aborted_after is None
    worker.answers = True
    clock.pump([1] * 3)
    assert worker.aborted_after is None
    worker.answers = False
    clock.pump([1])
    assert worker.aborted_after == 1


def test_nobody_is_ended_when_the_server_stops(clock):
    worker = Worker(1)
    watching = watch(clock, worker)
    watching.stop()
    clock.pump([1] * 5)
    assert worker.aborted_after is None
    assert clock.getDelayedCalls() == []
