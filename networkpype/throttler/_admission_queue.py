"""Which requests are admitted, and when.

Waiters stand in one line, ordered by rank, which never changes. A waiter is admitted at its due
time (see `_forecast`): one that can go without moving the due time of a waiter before it goes at
once. State never changes across an await.

Due times are judged again whenever something changes. One timer serves all waiters. It is set for
the earliest moment at which one may go although nothing else has happened.
"""

import asyncio
import bisect
import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from networkpype.exceptions import ConfigurationError
from networkpype.throttler._forecast import EarliestDue, Forecast, Outlook
from networkpype.throttler._window import Cost, Stage, Waiter, Window

__all__ = ("AdmissionQueue",)

# A loop's timers may be coarser than its clock, so a timer may fire early. This is the shortest
# delay after which it is set again; with none, it would spin.
_MIN_TIMER_DELAY_SECONDS: Final = 0.001


class AdmissionQueue:
    """Admit requests to windows.

    An admitted request holds capacity. The hold is then counted, from now or from an earlier
    moment, or refunded. Serves one event loop at a time. When that loop is closed, the next one
    takes over: `generation` increases, and what was held counts from the change of loops.
    """

    def __init__(self, aging_seconds: float) -> None:
        self.windows: dict[str, Window] = {}
        self.generation = 0
        self._aging_seconds = aging_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_clock_coarse = False
        self._last_time = -math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._sequence = itertools.count()
        # (rank, sequence, waiter), sorted.
        self._line: list[tuple[float, int, Waiter]] = []
        # How many waiters have the same cost: of these, none goes before the first.
        self._equals: Counter[Cost] = Counter()

    def now(self) -> float:
        """Return the time of the running loop, and make it the loop of this queue.

        Without a running loop, return the time of the last one.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self.time()
        if loop is not self._loop:
            self._change_loop(loop)
        self._last_time = now = time.monotonic() if self._is_clock_coarse else loop.time()
        return now

    def time(self) -> float:
        """Return the time without checking which loop is running."""
        loop = self._loop
        now = time.monotonic() if loop is None or self._is_clock_coarse else loop.time()
        self._last_time = now
        return now

    def rank(self, priority: float, now: float) -> float:
        """Return the rank of a request that arrives now; the lowest rank goes first.

        One level of priority equals `aging_seconds` of waiting.
        """
        rank = now - priority * self._aging_seconds
        if not math.isfinite(rank):
            raise ConfigurationError(f"priority must be finite, not {priority!r}.")
        return rank

    def try_hold(self, cost: Cost, now: float) -> bool:
        """Hold `cost` if it fits now and nothing waits for any of its windows.

        Otherwise it may still be admitted at once: `wait` decides.
        """
        if not self._is_open(cost, now):
            return False
        for window, weight in cost:
            window.used += weight
            window.held += weight
        return True

    def try_consume(self, cost: Cost, now: float) -> bool:
        """Do what `try_hold` and `count` do, in half the time."""
        if not self._is_open(cost, now):
            return False
        for window, weight in cost:
            window.used += weight
            window.log.append((now, weight))
        return True

    def consume(self, cost: Cost, now: float) -> None:
        """Count `cost` from now; the caller has checked that it fits."""
        for window, weight in cost:
            window.hold(weight)
        self.count(cost, now, now)

    def would_admit(self, cost: Cost, rank: float, now: float) -> bool:
        """Return whether a request of this rank would be admitted without waiting."""
        if not all(window.has_room(weight, now) for window, weight in cost):
            return False
        earliest = EarliestDue(now)
        before = {waiter.cost for waiter in self._waiters_before(rank)}
        for other in before:
            earliest.add(other, earliest.of(other))
        return earliest.is_after(cost) or self.due(cost, rank, now) <= now

    def due(self, cost: Cost, rank: float, now: float) -> float:
        """Return the due time of a request of this rank that arrives now."""
        forecast = Forecast(now)
        for waiter in self._waiters_before(rank):
            forecast.plan(waiter.cost)
        return forecast.due(cost)

    async def wait(
        self, limit_id: str, weight: int, cost: Cost, priority: float, now: float
    ) -> Cost:
        """Wait for admission; return the cost that is held.

        It differs from `cost` if the limits have changed. Raises the exception that
        `update_costs` set.
        """
        loop = asyncio.get_running_loop()
        rank = self.rank(priority, now)
        waiter = Waiter(limit_id, weight, cost, rank, next(self._sequence), loop.create_future())
        generation = self.generation
        bisect.insort(self._line, (waiter.rank, waiter.sequence, waiter))
        self._add_to_windows(waiter)
        self.admit_waiters(now)
        try:
            await waiter.future
        except BaseException:
            # Cancelled while waiting, or after the admission but before the task has run.
            if generation == self.generation:
                self._abandon(waiter)
            raise
        return waiter.cost

    def count(self, cost: Cost, start: float, now: float) -> None:
        """Count the hold of `cost` from `start`."""
        for window, weight in cost:
            window.count(weight, start, now)
        if self._line:
            # Only now is it known when this weight becomes free.
            self.admit_waiters(now)

    def refund(self, cost: Cost, now: float) -> None:
        """Release the hold of `cost` without counting it."""
        for window, weight in cost:
            window.refund(weight)
        self.admit_waiters(now)

    def update_costs(self, find: Callable[[str, int], Cost | Exception]) -> None:
        """Give each waiter its new cost, or set an exception on it."""
        for window in self.windows.values():
            window.waiting = 0
        self._equals.clear()
        line, self._line = self._line, []
        for entry in line:
            waiter = entry[2]
            found = find(waiter.limit_id, waiter.weight) if waiter.is_waiting() else None
            if isinstance(found, tuple):
                waiter.cost = found
                self._line.append(entry)
                self._add_to_windows(waiter)
                continue
            waiter.stage = Stage.GONE
            if found is not None:
                waiter.future.set_exception(found)
        self.admit_waiters(self.time())

    def admit_waiters(self, now: float) -> None:
        """Admit all waiters that are due, and set the timer for the next one."""
        if self._loop is None or self._loop.is_closed():
            return
        outlook = Outlook(self.windows.values(), now)
        wake_at = math.inf
        # Of equal waiters, those behind one that stays stay too.
        staying: set[Cost] = set()
        passed = 0
        for _, _, waiter in self._line:
            passed += 1
            cost = waiter.cost
            if waiter.future.cancelled():
                self._remove(waiter)
                continue
            if cost not in staying:
                due, wake = outlook.judge(cost)
                if due <= now:
                    outlook.admit(cost)
                    self._admit(waiter)
                    continue
                wake_at = min(wake_at, wake)
                staying.add(cost)
                if len(staying) == len(self._equals):
                    break
            outlook.keep(cost)
        self._line[:passed] = [
            entry for entry in self._line[:passed] if entry[2].stage is Stage.WAITING
        ]
        self._set_timer(wake_at)

    def _is_open(self, cost: Cost, now: float) -> bool:
        for window, weight in cost:
            # These comparisons avoid the call for nearly every request.
            if window.waiting or (
                (window.used + weight > window.limit or window.frozen_until > now)
                and not window.has_room(weight, now)
            ):
                return False
        return True

    def _add_to_windows(self, waiter: Waiter) -> None:
        self._equals[waiter.cost] += 1
        for window, _ in waiter.cost:
            window.waiting += 1

    def _waiters_before(self, rank: float) -> Iterator[Waiter]:
        """Yield, in order, the waiters that go before a request of this rank."""
        for _, _, waiter in self._line[: bisect.bisect_left(self._line, (rank, math.inf))]:
            if waiter.is_waiting():
                yield waiter

    def _remove_from_windows(self, waiter: Waiter) -> None:
        if self._equals[waiter.cost] == 1:
            del self._equals[waiter.cost]
        else:
            self._equals[waiter.cost] -= 1
        for window, _ in waiter.cost:
            window.waiting -= 1

    def _admit(self, waiter: Waiter) -> None:
        """Admit a waiter; the caller takes it out of the line."""
        waiter.stage = Stage.ADMITTED
        for window, weight in waiter.cost:
            window.hold(weight)
        self._remove_from_windows(waiter)
        waiter.future.set_result(None)

    def _remove(self, waiter: Waiter) -> None:
        """Forget a waiter; the caller takes it out of the line."""
        waiter.stage = Stage.GONE
        self._remove_from_windows(waiter)

    def _abandon(self, waiter: Waiter) -> None:
        if waiter.stage is Stage.ADMITTED:
            self.refund(waiter.cost, self.time())
        elif waiter.stage is Stage.WAITING:
            del self._line[bisect.bisect_left(self._line, (waiter.rank, waiter.sequence))]
            self._remove(waiter)
            self.admit_waiters(self.time())

    def _set_timer(self, when: float) -> None:
        timer = self._timer
        if timer is not None:
            if timer.when() <= when < math.inf:
                # It may fire early; it is then set again.
                return
            timer.cancel()
            self._timer = None
        if when < math.inf and self._loop is not None:
            self._timer = self._loop.call_at(when, self._on_timer, when)

    def _on_timer(self, when: float) -> None:
        self._timer = None
        now = self.time()
        if now < when and self._loop is not None:
            self._timer = self._loop.call_at(
                max(when, now + _MIN_TIMER_DELAY_SECONDS), self._on_timer, when
            )
        else:
            self.admit_waiters(now)

    def _change_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        old = self._loop
        if old is not None and not old.is_closed():
            if old.is_running() or any(waiter.is_waiting() for _, _, waiter in self._line):
                raise ConfigurationError("The throttler is in use by another event loop.")
            self._set_timer(math.inf)
        was_monotonic = old is None or _is_clock_monotonic(old)
        last_time = self._last_time
        self._loop = loop
        self._is_clock_coarse = _is_clock_coarse(loop)
        self._timer = None
        self._line.clear()
        self._equals.clear()
        self.generation += 1
        now = self.time()
        shift = 0.0
        if last_time > -math.inf and not (was_monotonic and _is_clock_monotonic(loop)):
            # The two clocks cannot be compared: treat the change of loops as taking no time.
            shift = now - last_time
        for window in self.windows.values():
            window.change_clock(shift, now)


def _is_clock_coarse(loop: asyncio.AbstractEventLoop) -> bool:
    # uvloop rounds the monotonic clock down to whole milliseconds, so entries would start up to
    # 1 ms too early.
    return type(loop).__module__.partition(".")[0] in {"uvloop", "winloop"}


def _is_clock_monotonic(loop: asyncio.AbstractEventLoop) -> bool:
    is_stock = type(loop).time is asyncio.BaseEventLoop.time and "time" not in vars(loop)
    return is_stock or _is_clock_coarse(loop)
