"""The throttler against the model in throttler_model.py.

AIOREST_WS_THROTTLER_EXAMPLES says how many runs of up to 50 steps each; `tox -e throttler` makes
20,000 steps.
"""

import dataclasses
import math
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import Phase
from throttler_model import AGING_SECONDS, ThrottlerMachine, end_of, run_machine

from networkpype.throttler import _window
from networkpype.throttler._admission_queue import AdmissionQueue
from networkpype.throttler._forecast import EarliestDue, Forecast, _Plan
from networkpype.throttler._window import Cost, Stage, Waiter, Window
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler, Hold

pytestmark = pytest.mark.property

EXAMPLES = int(os.environ.get("AIOREST_WS_THROTTLER_EXAMPLES", "110"))


def test_throttler_does_what_the_model_does() -> None:
    class Counted(ThrottlerMachine):
        steps = 0

    run_machine(Counted, EXAMPLES, phases=(Phase.generate, Phase.shrink))
    assert Counted.steps >= 36 * EXAMPLES


# What follows are throttlers that are broken on purpose, each in one point: the proof that the
# comparison above can fail, and that the steps get to where it matters.


def one_more_than_the_limit(patch: pytest.MonkeyPatch) -> None:
    def grown(machine: ThrottlerMachine, limits: list[RateLimit]) -> list[RateLimit]:
        return [dataclasses.replace(each, limit=each.limit + 1) for each in limits]

    patch.setattr(ThrottlerMachine, "to_throttler", grown)


def one_less_than_the_limit(patch: pytest.MonkeyPatch) -> None:
    def shrunk(machine: ThrottlerMachine, limits: list[RateLimit]) -> list[RateLimit]:
        return [
            dataclasses.replace(each, limit=each.limit - (each.limit_id == "deep"))
            for each in limits
        ]

    patch.setattr(ThrottlerMachine, "to_throttler", shrunk)


def no_wake_up_after_a_cancellation(patch: pytest.MonkeyPatch) -> None:
    abandon = AdmissionQueue._abandon

    def leave_silently(queue: AdmissionQueue, waiter: Waiter) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(AdmissionQueue, "admit_waiters", lambda *_: None)
            abandon(queue, waiter)

    patch.setattr(AdmissionQueue, "_abandon", leave_silently)


def no_wake_up_after_a_refund(patch: pytest.MonkeyPatch) -> None:
    def refund_silently(queue: AdmissionQueue, cost: Cost, now: float) -> None:
        for window, weight in cost:
            window.refund(weight)

    patch.setattr(AdmissionQueue, "refund", refund_silently)


def no_refund(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AdmissionQueue, "refund", lambda *_: None)


def no_refund_when_cancelled_after_admission(patch: pytest.MonkeyPatch) -> None:
    abandon = AdmissionQueue._abandon

    def leave_if_waiting(queue: AdmissionQueue, waiter: Waiter) -> None:
        if waiter.stage is Stage.WAITING:
            abandon(queue, waiter)

    patch.setattr(AdmissionQueue, "_abandon", leave_if_waiting)


def low_priority_first(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AdmissionQueue, "rank", lambda _, priority, now: now + priority * AGING_SECONDS)


def last_come_first_served(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AdmissionQueue, "rank", lambda _, priority, now: -now - priority * AGING_SECONDS)


def no_aging(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AdmissionQueue, "rank", lambda _, priority, now: now - priority * 1e6)


def nobody_overtakes(patch: pytest.MonkeyPatch) -> None:
    due = Forecast.due

    def late(forecast: Forecast, cost: Cost) -> float:
        when = due(forecast, cost)
        return when + 0.05 if forecast._plans and when <= forecast._now else when

    patch.setattr(Forecast, "due", late)


def whoever_fits_goes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(EarliestDue, "is_after", lambda *_: True)


def only_those_without_room_are_protected(patch: pytest.MonkeyPatch) -> None:
    """Do not wait for limits that the first one does not use."""
    add = EarliestDue.add

    def add_full(earliest: EarliestDue, cost: Cost, due: float) -> None:
        now = earliest._now
        add(earliest, tuple(each for each in cost if not each[0].has_room(each[1], now)), due)

    patch.setattr(EarliestDue, "add", add_full)


def only_the_first_is_protected(patch: pytest.MonkeyPatch) -> None:
    plan = Forecast.plan

    def plan_first(forecast: Forecast, cost: Cost) -> None:
        if not forecast._plans:
            plan(forecast, cost)

    patch.setattr(Forecast, "plan", plan_first)


def due_times_before_are_moved(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_Plan, "_obstacle", lambda *_: None)


def due_times_before_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    add = _Plan.add

    def add_present(plan: _Plan, weight: int, start: float) -> None:
        if start <= plan._open_at:
            add(plan, weight, start)

    patch.setattr(_Plan, "add", add_present)


def what_is_held_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    init = _Plan.__init__

    def forget(plan: _Plan, window: Window, now: float) -> None:
        held = window.held
        window.refund(held)
        init(plan, window, now)
        window.hold(held)

    patch.setattr(_Plan, "__init__", forget)


def what_is_frozen_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    init = _Plan.__init__

    def forget(plan: _Plan, window: Window, now: float) -> None:
        init(plan, window, now)
        plan._open_at = now

    patch.setattr(_Plan, "__init__", forget)


def estimates_forget_those_before(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AdmissionQueue, "_waiters_before", lambda *_: iter(()))


def light_requests_overtake_heavy_ones(patch: pytest.MonkeyPatch) -> None:
    def try_hold(_: object, cost: Cost, now: float) -> bool:
        if not all(window.has_room(weight, now) for window, weight in cost):
            return False
        for window, weight in cost:
            window.hold(weight)
        return True

    patch.setattr(AdmissionQueue, "try_hold", try_hold)


def windows_are_closed(patch: pytest.MonkeyPatch) -> None:
    def end_after(start: float, interval: float) -> float:
        return math.nextafter(end_of(start, interval), math.inf)

    patch.setattr(_window, "end_of", end_after)
    patch.setattr(
        _window.Window,
        "is_expired",
        lambda window, start, now: now >= end_after(start, window.interval),
    )


def wakes_up_late(patch: pytest.MonkeyPatch) -> None:
    set_timer = AdmissionQueue._set_timer
    patch.setattr(AdmissionQueue, "_set_timer", lambda queue, when: set_timer(queue, when + 0.01))


def holds_count_from_admission(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Hold, "count", Hold.count_from_admission)


def sent_requests_are_refunded(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Hold, "mark_sent", lambda _: None)


def links_of_links_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    def direct(limit_id: str, by_id: dict[str, RateLimit]) -> dict[str, int]:
        links = by_id[limit_id].linked_limits
        return {limit_id: by_id[limit_id].weight, **{each.limit_id: each.weight for each in links}}

    patch.setattr("networkpype.throttler.throttler.consumption", direct)


def new_limits_wake_nobody(patch: pytest.MonkeyPatch) -> None:
    update_costs = AdmissionQueue.update_costs

    def update_silently(queue: AdmissionQueue, find: Any) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(AdmissionQueue, "admit_waiters", lambda *_: None)
            update_costs(queue, find)

    patch.setattr(AdmissionQueue, "update_costs", update_silently)


def new_limits_forget_the_past(patch: pytest.MonkeyPatch) -> None:
    configure = AsyncThrottler._configure_windows

    def configure_new(throttler: AsyncThrottler) -> None:
        throttler._admission_queue.windows.clear()
        configure(throttler)

    patch.setattr(AsyncThrottler, "_configure_windows", configure_new)


def server_is_not_heard(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AsyncThrottler, "observe", lambda *_: None)


@pytest.mark.parametrize(
    "break_throttler",
    [
        one_more_than_the_limit,
        one_less_than_the_limit,
        no_wake_up_after_a_cancellation,
        no_wake_up_after_a_refund,
        no_refund,
        no_refund_when_cancelled_after_admission,
        low_priority_first,
        last_come_first_served,
        no_aging,
        nobody_overtakes,
        whoever_fits_goes,
        only_those_without_room_are_protected,
        only_the_first_is_protected,
        due_times_before_are_moved,
        due_times_before_are_forgotten,
        what_is_held_is_forgotten,
        what_is_frozen_is_forgotten,
        estimates_forget_those_before,
        light_requests_overtake_heavy_ones,
        windows_are_closed,
        wakes_up_late,
        holds_count_from_admission,
        sent_requests_are_refunded,
        links_of_links_are_forgotten,
        new_limits_wake_nobody,
        new_limits_forget_the_past,
        server_is_not_heard,
    ],
)
def test_model_finds_what_is_wrong_with_a_broken_throttler(
    break_throttler: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_throttler(monkeypatch)
    with pytest.raises(AssertionError):
        run_machine(ThrottlerMachine, 300, phases=(Phase.generate,))
