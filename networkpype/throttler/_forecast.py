"""When requests will be admitted, if those before them are.

A request that is admitted at `t` consumes in [t, t + interval). Its due time is the earliest `t`
at which that exceeds no limit, given what has counted, what is held (as if it counted from now),
and the due times of the requests before it.
"""

import bisect
import math
from collections.abc import Collection, Iterator

from networkpype.throttler._window import Cost, Window, end_of

__all__ = ("EarliestDue", "Forecast", "Outlook")


class _Plan:
    """The future usage of one window: what has counted, and what is planned."""

    def __init__(self, window: Window, now: float) -> None:
        self._limit = window.limit
        self._interval = window.interval
        self._counted = window.usage(now) - window.held
        self._open_at = max(now, window.frozen_until)
        # The entries of the window: when each ends, and what is used from then. A log may be long,
        # so it is read only as far as needed.
        self._unread: Iterator[tuple[float, int]] = window.endings()
        self._last_end = window.last_end()
        self._ends: list[float] = []
        self._counted_from: list[int] = []
        # `_planned[i]` is planned from `_times[i]` until `_times[i + 1]`.
        self._times: list[float] = [-math.inf]
        self._planned: list[int] = [0]
        if window.held:
            self.add(window.held, now)

    def add(self, weight: int, start: float) -> None:
        """Plan an admission at `start`."""
        first = self._split(start)
        last = self._split(end_of(start, self._interval))
        for index in range(first, last):
            self._planned[index] += weight

    def due(self, weight: int, earliest: float) -> float:
        """Return the earliest moment for `weight` that moves nothing that is planned."""
        room = self._limit - weight
        when = max(earliest, self._open_at)
        while True:
            index = bisect.bisect_right(self._times, when) - 1
            while self._counted_at(when) + self._planned[index] > room:
                when = self._next_change(when, index)
                index = bisect.bisect_right(self._times, when) - 1
            obstacle = self._obstacle(when, index + 1, room)
            if obstacle is None:
                return when
            when = obstacle

    def _obstacle(self, when: float, index: int, room: int) -> float | None:
        """Return when a planned admission would not fit beside one at `when`."""
        end = end_of(when, self._interval)
        for later in range(index, len(self._times)):
            moment = self._times[later]
            if moment >= end:
                return None
            if self._counted_at(moment) + self._planned[later] > room:
                return moment
        return None

    def _counted_at(self, when: float) -> int:
        if when >= self._last_end:
            return 0
        index = bisect.bisect_right(self._ends, when)
        while index == len(self._ends) and self._read_end():
            index += self._ends[index] <= when
        return self._counted_from[index - 1] if index else self._counted

    def _next_change(self, when: float, index: int) -> float:
        """Return the first moment after `when` at which usage changes."""
        planned = self._times[index + 1] if index + 1 < len(self._times) else math.inf
        position = bisect.bisect_right(self._ends, when)
        counted = self._ends[position] if position < len(self._ends) else math.inf
        return min(planned, counted)

    def _read_end(self) -> bool:
        entry = next(self._unread, None)
        if entry is None:
            return False
        end, weight = entry
        before = self._counted_from[-1] if self._counted_from else self._counted
        self._ends.append(end)
        self._counted_from.append(before - weight)
        return True

    def _split(self, moment: float) -> int:
        """Return the index of `moment` in `_times`, where it is added if it is missing."""
        index = bisect.bisect_left(self._times, moment)
        if index == len(self._times) or self._times[index] != moment:
            self._times.insert(index, moment)
            self._planned.insert(index, self._planned[index - 1])
        return index


class Forecast:
    """Plan admissions one after another; each leaves those before it where they are."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._plans: dict[Window, _Plan] = {}
        # Of equal requests, the later one is not due before the earlier one.
        self._last_due: dict[Cost, float] = {}

    def due(self, cost: Cost) -> float:
        """Return the due time of a request after those that are planned."""
        plans = [(self._plan(window), weight) for window, weight in cost]
        when = self._last_due.get(cost, self._now)
        is_settled = False
        while not is_settled:
            is_settled = True
            for plan, weight in plans:
                due = plan.due(weight, when)
                if due > when:
                    when, is_settled = due, False
        return when

    def plan(self, cost: Cost) -> None:
        """Plan a request at its due time."""
        when = self.due(cost)
        self._last_due[cost] = when
        for window, weight in cost:
            self._plans[window].add(weight, when)

    def admit(self, cost: Cost) -> None:
        """Take note of a request that is admitted now; plans made later find it in the windows."""
        for window, weight in cost:
            plan = self._plans.get(window)
            if plan is not None:
                plan.add(weight, self._now)

    def _plan(self, window: Window) -> _Plan:
        plan = self._plans.get(window)
        if plan is None:
            plan = self._plans[window] = _Plan(window, self._now)
        return plan


class EarliestDue:
    """The moments before which no waiter of a window is due.

    They spare most requests a forecast: what has expired by then is in nobody's way.
    """

    def __init__(self, now: float) -> None:
        self._now = now
        self._moments: dict[Window, float] = {}

    def of(self, cost: Cost) -> float:
        """Return a moment before which `cost` is not due."""
        moments = []
        for window, weight in cost:
            moment = window.fits_at(weight, self._now)
            held_until = end_of(self._now, window.interval)
            moments.append(held_until if moment == math.inf else moment)
        return max(moments, default=self._now)

    def add(self, cost: Cost, due: float) -> None:
        """Add a waiter that is not due before `due`."""
        for window, _ in cost:
            self._moments[window] = min(due, self._moments.get(window, math.inf))

    def is_after(self, cost: Cost) -> bool:
        """Return whether `cost`, if it counts from now, expires before any waiter is due."""
        return all(
            window not in self._moments
            or end_of(self._now, window.interval) <= self._moments[window]
            for window, _ in cost
        )


class Outlook:
    """Judge which waiters are due, from the first one to the last."""

    def __init__(self, windows: Collection[Window], now: float) -> None:
        self._windows = windows
        self._now = now
        self._earliest = EarliestDue(now)
        # Made only if there is room for a waiter that those before it may need.
        self._forecast: Forecast | None = None
        self._unplanned: list[Cost] = []

    def judge(self, cost: Cost) -> tuple[float, float]:
        """Return when a waiter is due, and when to judge again if nothing else happens."""
        now = self._now
        if not all(window.has_room(weight, now) for window, weight in cost):
            due = self._earliest.of(cost)
            self._earliest.add(cost, due)
            return due, max(window.fits_at(weight, now) for window, weight in cost)
        if self._earliest.is_after(cost):
            return now, now
        if self._forecast is None:
            self._forecast = Forecast(now)
        for before in self._unplanned:
            self._forecast.plan(before)
        self._unplanned.clear()
        due = wake = self._forecast.due(cost)
        if due > now:
            self._earliest.add(cost, due)
            if any(window.held for window in self._windows):
                # The due times before it move with what is held, past what expires.
                wake = min(due, *(window.next_end(now) for window in self._windows))
        return due, wake

    def admit(self, cost: Cost) -> None:
        """Go on without a waiter that is admitted now."""
        if self._forecast is not None:
            self._forecast.admit(cost)

    def keep(self, cost: Cost) -> None:
        """Go on behind a waiter that stays."""
        self._unplanned.append(cost)
