"""The timers that connections share."""

import pytest
from twisted.internet.task import Clock

from aiorest_ws.connection.timer_wheel import TimerWheel


@pytest.fixture
def clock():
    clock = Clock()
    clock.advance(1000.1)
    return clock


@pytest.fixture
def fired():
    return []


@pytest.mark.parametrize("delay", [0, 0.01, 0.25, 1, 5.3, 20])
def test_a_call_is_never_early_and_at_most_a_quarter_of_a_second_late(clock, fired, delay):
    begun = clock.seconds()
    TimerWheel(clock).call_later(delay, lambda: fired.append(clock.seconds() - begun))
    clock.pump([0.01] * int((delay + 0.5) * 100))
    (after,) = fired
    assert delay <= after + 1e-6
    assert after <= delay + 0.27


def test_calls_of_one_slot_share_a_timer_of_the_reactor(clock, fired):
    wheel = TimerWheel(clock)
    for number in range(1000):
        wheel.call_later(5, lambda number=number: fired.append(number))
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(6)
    assert fired == list(range(1000))
    assert not clock.getDelayedCalls()


def test_a_cancelled_call_is_not_made(clock, fired):
    wheel = TimerWheel(clock)
    kept, cancelled = (wheel.call_later(1, lambda n=n: fired.append(n)) for n in (1, 2))
    cancelled.cancel()
    cancelled.cancel()
    clock.advance(2)
    assert fired == [1]
    kept.cancel()


def test_a_call_can_cancel_another_of_its_slot_and_make_a_new_one(clock, fired):
    wheel = TimerWheel(clock)

    def first():
        fired.append("first")
        second.cancel()
        wheel.call_later(1, lambda: fired.append("third"))

    wheel.call_later(1, first)
    second = wheel.call_later(1, lambda: fired.append("second"))
    clock.advance(2)
    assert fired == ["first"]
    clock.advance(2)
    assert fired == ["first", "third"]


@pytest.mark.logs_errors
def test_a_call_that_fails_is_logged_and_the_others_are_made(clock, fired, caplog):
    wheel = TimerWheel(clock)
    wheel.call_later(1, lambda: 1 / 0)
    wheel.call_later(1, lambda: fired.append("other"))
    clock.advance(2)
    assert fired == ["other"]
