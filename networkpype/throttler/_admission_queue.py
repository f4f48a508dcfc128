"""Which requests are admitted, and when.

A waiter stands in the queue of each window that it consumes. It is admitted as soon as it is first
in all of these queues and fits into all windows. Queues are ordered by rank, which never changes:
the order is the same in all queues, and the first of all waiters is first wherever it stands, so
there is no deadlock. State never changes across an await.

One timer serves all waiters. It is set for the earliest moment at which a first waiter fits.
"""

import asyncio
import heapq
import itertools
import math
import time
from collections.abc import Callable, Iterable
from typing import Final

from networkpype.exceptions import ConfigurationError
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
        # In order of arrival.
        self._waiters: dict[Waiter, None] = {}
        # Waiters that are first in all their queues, and the times at which they fit.
        self._due: dict[Waiter, float] = {}

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
        """Hold `cost` if it fits now and nothing waits for any of its windows."""
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
        for window, weight in cost:
            first = self._first(window)
            if first is not None and first.rank <= rank:
                return False
            if not window.has_room(weight, now):
                return False
        return True

    async def wait(self, limit_id: str, cost: Cost, priority: float, now: float) -> Cost:
        """Wait for admission; return the cost that is held.

        It differs from `cost` if the limits have changed. Raises the exception that
        `update_costs` set.
        """
        loop = asyncio.get_running_loop()
        waiter = Waiter(
            limit_id, cost, self.rank(priority, now), next(self._sequence), loop.create_future()
        )
        generation = self.generation
        self._waiters[waiter] = None
        self._enqueue(waiter)
        self.admit_waiters(cost, now)
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
        has_waiters = False
        for window, weight in cost:
            window.count(weight, start, now)
            if window.queue:
                has_waiters = True
        if has_waiters:
            # Only now is it known when this weight becomes free.
            self.admit_waiters(cost, now)

    def refund(self, cost: Cost, now: float) -> None:
        """Release the hold of `cost` without counting it."""
        for window, weight in cost:
            window.refund(weight)
        self.admit_waiters(cost, now)

    def update_costs(self, find: Callable[[str], Cost | Exception]) -> None:
        """Move each waiter to the queues of its new cost, or set an exception on it."""
        for window in self.windows.values():
            window.queue.clear()
            window.waiting = 0
        self._due.clear()
        for waiter in list(self._waiters):
            if not waiter.is_waiting():
                self._remove(waiter)
                continue
            found = find(waiter.limit_id)
            if isinstance(found, Exception):
                self._remove(waiter)
                waiter.future.set_exception(found)
            else:
                waiter.cost = found
                self._enqueue(waiter)
                if not found:
                    # It consumes nothing now, so it stands in no queue.
                    self._admit_waiter(waiter)
        if self._waiters:
            self.admit_waiters(((window, 0) for window in self.windows.values()), self.time())
        if not self._due:
            self._cancel_timer()

    def waiters_before(self, rank: float) -> list[Waiter]:
        """Return, in order, the waiters that go before a request of this rank."""
        before = [
            waiter for waiter in self._waiters if waiter.is_waiting() and waiter.rank <= rank
        ]
        before.sort(key=_sort_key)
        return before

    def admit_waiters(self, cost: Iterable[tuple[Window, int]], now: float) -> None:
        """Admit all waiters that fit, after the windows of `cost` have changed."""
        if not self._waiters or self._loop is None or self._loop.is_closed():
            return
        changed = [window for window, _ in cost]
        while changed:
            waiter = self._first(changed.pop())
            if waiter is None or not self._is_first_in_all_queues(waiter):
                continue
            if all(window.has_room(weight, now) for window, weight in waiter.cost):
                self._admit_waiter(waiter)
                changed += [window for window, _ in waiter.cost]
                continue
            due = max(window.fits_at(weight, now) for window, weight in waiter.cost)
            if due == math.inf:
                self._due.pop(waiter, None)
            else:
                self._due[waiter] = due
                self._schedule_timer(due)

    def _is_open(self, cost: Cost, now: float) -> bool:
        for window, weight in cost:
            # These comparisons avoid the call for nearly every request.
            if window.queue or (
                (window.used + weight > window.limit or window.frozen_until > now)
                and not window.has_room(weight, now)
            ):
                return False
        return True

    def _first(self, window: Window) -> Waiter | None:
        queue = window.queue
        while queue:
            waiter = queue[0][2]
            if waiter.is_waiting():
                return waiter
            heapq.heappop(queue)
        return None

    def _is_first_in_all_queues(self, waiter: Waiter) -> bool:
        return all(self._first(window) is waiter for window, _ in waiter.cost)

    def _enqueue(self, waiter: Waiter) -> None:
        for window, _ in waiter.cost:
            heapq.heappush(window.queue, (waiter.rank, waiter.sequence, waiter))
            window.waiting += 1

    def _admit_waiter(self, waiter: Waiter) -> None:
        waiter.stage = Stage.ADMITTED
        del self._waiters[waiter]
        self._due.pop(waiter, None)
        for window, weight in waiter.cost:
            window.hold(weight)
            window.waiting -= 1
        waiter.future.set_result(None)
        if not self._due:
            self._cancel_timer()

    def _abandon(self, waiter: Waiter) -> None:
        if waiter.stage is Stage.ADMITTED:
            self.refund(waiter.cost, self.time())
        elif waiter.stage is Stage.WAITING:
            self._remove(waiter)
            for window, _ in waiter.cost:
                window.waiting -= 1
                self._compact_queue(window)
            self.admit_waiters(waiter.cost, self.time())

    def _remove(self, waiter: Waiter) -> None:
        waiter.stage = Stage.GONE
        del self._waiters[waiter]
        self._due.pop(waiter, None)
        if not self._due:
            self._cancel_timer()

    def _compact_queue(self, window: Window) -> None:
        """Remove cancelled waiters from a queue when they are the majority."""
        if not window.waiting:
            window.queue.clear()
        elif len(window.queue) > 2 * window.waiting + 16:
            window.queue = [entry for entry in window.queue if entry[2].is_waiting()]
            heapq.heapify(window.queue)

    def _schedule_timer(self, when: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= when:
                # It may fire early; it is then set again.
                return
            self._timer.cancel()
        if self._loop is not None:
            self._timer = self._loop.call_at(when, self._on_timer)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        now = self.time()
        ready = [waiter for waiter, when in self._due.items() if when <= now]
        for waiter in ready:
            # `admit_waiters` adds it again if it is still first.
            del self._due[waiter]
        for waiter in ready:
            self.admit_waiters(waiter.cost, now)
        if self._due:
            when = min(self._due.values())
            self._schedule_timer(when if ready else max(when, now + _MIN_TIMER_DELAY_SECONDS))

    def _change_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        old = self._loop
        if old is not None and not old.is_closed():
            if old.is_running() or any(waiter.is_waiting() for waiter in self._waiters):
                raise ConfigurationError("The throttler is in use by another event loop.")
            self._cancel_timer()
        was_monotonic = old is None or _is_clock_monotonic(old)
        last_time = self._last_time
        self._loop = loop
        self._is_clock_coarse = _is_clock_coarse(loop)
        self._timer = None
        self._waiters.clear()
        self._due.clear()
        self.generation += 1
        now = self.time()
        shift = 0.0
        if last_time > -math.inf and not (was_monotonic and _is_clock_monotonic(loop)):
            # The two clocks cannot be compared: treat the change of loops as taking no time.
            shift = now - last_time
        for window in self.windows.values():
            window.change_clock(shift, now)


def _sort_key(waiter: Waiter) -> tuple[float, int]:
    return waiter.rank, waiter.sequence


def _is_clock_coarse(loop: asyncio.AbstractEventLoop) -> bool:
    # uvloop rounds the monotonic clock down to whole milliseconds, so entries would start up to
    # 1 ms too early.
    return type(loop).__module__.partition(".")[0] in {"uvloop", "winloop"}


def _is_clock_monotonic(loop: asyncio.AbstractEventLoop) -> bool:
    is_stock = type(loop).time is asyncio.BaseEventLoop.time and "time" not in vars(loop)
    return is_stock or _is_clock_coarse(loop)
