"""Who may go, and when.

A waiter stands in the queue of every window that it consumes, and is admitted as soon as it is the
first in all of them and fits into all of them. Queues are ordered by rank, and the rank never
changes, so the order is the same in all queues and the first of all waiters is the first wherever
it stands: there is no deadlock. All state changes happen between two awaits.

One timer for all: it is set for the earliest moment at which the first of some queue fits.
"""

import asyncio
import enum
import heapq
import itertools
import math
import time
from collections.abc import Callable, Iterable
from typing import Final

from networkpype.exceptions import ConfigurationError
from networkpype.throttler._window import Window

__all__ = ("Route", "Turnstile", "Waiter")

Route = tuple[tuple[Window, int], ...]
"""What a request consumes: windows and weights."""

# A timer that was early (clocks and timers of a loop may be of different grain) is not set again
# for less than this, or it would spin.
_LEAST_REARM_SECONDS: Final = 0.001


class _Stage(enum.Enum):
    WAITING = enum.auto()
    ADMITTED = enum.auto()
    GONE = enum.auto()


class Waiter:
    """One request in the queues."""

    __slots__ = ("future", "limit_id", "rank", "route", "sequence", "stage")

    def __init__(
        self,
        limit_id: str,
        route: Route,
        rank: float,
        sequence: int,
        future: asyncio.Future[None],
    ) -> None:
        self.limit_id = limit_id
        self.route = route
        self.rank = rank
        self.sequence = sequence
        self.future = future
        self.stage = _Stage.WAITING

    def is_waiting(self) -> bool:
        # A cancelled future belongs to a task that has not yet had its turn to leave.
        return self.stage is _Stage.WAITING and not self.future.cancelled()


class Turnstile:
    """Admit requests to windows.

    What is admitted is held; then it is counted, from now or from an earlier moment, or refunded.
    Of one event loop at a time. When that is gone the next one may take over: `epoch` is then
    another one, and what was held in the one before counts from the take-over.
    """

    def __init__(self, aging_seconds: float) -> None:
        self.windows: dict[str, Window] = {}
        self.epoch = 0
        self._aging_seconds = aging_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_clock_coarse = False
        self._last_time = -math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._sequence = itertools.count()
        # In the order of their arrival.
        self._waiters: dict[Waiter, None] = {}
        # Those that are first in all their queues, and when they fit.
        self._due: dict[Waiter, float] = {}

    def now(self) -> float:
        """Return the time of the running loop, which becomes the loop of this turnstile.

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
        """Return the time, without a look at the running loop."""
        loop = self._loop
        now = time.monotonic() if loop is None or self._is_clock_coarse else loop.time()
        self._last_time = now
        return now

    def rank(self, priority: float, now: float) -> float:
        """Return the place in the queues of one that arrives now; the lowest goes first.

        One level of priority is worth `aging_seconds` of waiting.
        """
        rank = now - priority * self._aging_seconds
        if not math.isfinite(rank):
            raise ConfigurationError(f"priority must be finite, not {priority!r}.")
        return rank

    def admit(self, route: Route, now: float) -> bool:
        """Hold what `route` consumes if that is possible now and nobody waits for any of it."""
        if not self._is_open(route, now):
            return False
        for window, weight in route:
            window.used += weight
            window.held += weight
        return True

    def admit_and_count(self, route: Route, now: float) -> bool:
        """As `admit` and `count` in one, at half the price."""
        if not self._is_open(route, now):
            return False
        for window, weight in route:
            window.used += weight
            window.log.append((now, weight))
        return True

    def take(self, route: Route, now: float) -> None:
        """Consume and count from now; whether there is room has been asked before."""
        for window, weight in route:
            window.hold(weight)
        self.count(route, now, now)

    def would_admit(self, route: Route, rank: float, now: float) -> bool:
        """Return whether one of this rank would not have to wait."""
        for window, weight in route:
            first = self._first(window)
            if first is not None and first.rank <= rank:
                return False
            if not window.has_room(weight, now):
                return False
        return True

    async def wait(self, limit_id: str, route: Route, priority: float, now: float) -> Route:
        """Stand in the queues of `route` until admitted; return what is held then.

        That is another route if the limits were changed meanwhile. Raises the exception that
        `reroute` sent the waiter away with.
        """
        loop = asyncio.get_running_loop()
        waiter = Waiter(
            limit_id, route, self.rank(priority, now), next(self._sequence), loop.create_future()
        )
        epoch = self.epoch
        self._waiters[waiter] = None
        self._enqueue(waiter)
        self.serve(route, now)
        try:
            await waiter.future
        except BaseException:
            # Cancelled: in the queue, or after the admission and before its turn to run.
            if epoch == self.epoch:
                self._leave(waiter)
            raise
        return waiter.route

    def count(self, route: Route, start: float, now: float) -> None:
        """Let what is held of `route` count from `start`."""
        is_awaited = False
        for window, weight in route:
            window.count(weight, start, now)
            if window.queue:
                is_awaited = True
        if is_awaited:
            # It is known only now when this weight will be free again.
            self.serve(route, now)

    def refund(self, route: Route, now: float) -> None:
        """Give back what is held of `route`."""
        for window, weight in route:
            window.refund(weight)
        self.serve(route, now)

    def reroute(self, find: Callable[[str], Route | Exception]) -> None:
        """Put every waiter in the queues of its new route, or send it away with an exception."""
        for window in self.windows.values():
            window.queue.clear()
            window.waiting = 0
        self._due.clear()
        for waiter in list(self._waiters):
            if not waiter.is_waiting():
                self._send_away(waiter)
                continue
            found = find(waiter.limit_id)
            if isinstance(found, Exception):
                self._send_away(waiter)
                waiter.future.set_exception(found)
            else:
                waiter.route = found
                self._enqueue(waiter)
                if not found:
                    # It consumes nothing any more: no queue will come to it.
                    self._admit_waiter(waiter)
        if self._waiters:
            self.serve(((window, 0) for window in self.windows.values()), self.time())
        if not self._due:
            self._disarm()

    def waiters_before(self, rank: float) -> list[Waiter]:
        """Return those that go before one of this rank that arrives now, in their order."""
        before = [
            waiter for waiter in self._waiters if waiter.is_waiting() and waiter.rank <= rank
        ]
        before.sort(key=_place)
        return before

    def serve(self, route: Iterable[tuple[Window, int]], now: float) -> None:
        """Admit whoever can be, after something about the windows of `route` has changed."""
        if not self._waiters or self._loop is None or self._loop.is_closed():
            return
        changed = [window for window, _ in route]
        while changed:
            waiter = self._first(changed.pop())
            if waiter is None or not self._is_first_everywhere(waiter):
                continue
            if all(window.has_room(weight, now) for window, weight in waiter.route):
                self._admit_waiter(waiter)
                changed += [window for window, _ in waiter.route]
                continue
            due = max(window.fits_at(weight, now) for window, weight in waiter.route)
            if due == math.inf:
                self._due.pop(waiter, None)
            else:
                self._due[waiter] = due
                self._arm(due)

    def _is_open(self, route: Route, now: float) -> bool:
        for window, weight in route:
            # The comparisons spare nearly every request the call.
            if window.queue or (
                (window.used + weight > window.limit or window.frozen_until > now)
                and not window.has_room(weight, now)
            ):
                return False
        return True

    def _first(self, window: Window) -> Waiter | None:
        queue = window.queue
        while queue:
            waiter: Waiter = queue[0][2]
            if waiter.is_waiting():
                return waiter
            heapq.heappop(queue)
        return None

    def _is_first_everywhere(self, waiter: Waiter) -> bool:
        return all(self._first(window) is waiter for window, _ in waiter.route)

    def _enqueue(self, waiter: Waiter) -> None:
        for window, _ in waiter.route:
            heapq.heappush(window.queue, (waiter.rank, waiter.sequence, waiter))
            window.waiting += 1

    def _admit_waiter(self, waiter: Waiter) -> None:
        waiter.stage = _Stage.ADMITTED
        del self._waiters[waiter]
        self._due.pop(waiter, None)
        for window, weight in waiter.route:
            window.hold(weight)
            window.waiting -= 1
        waiter.future.set_result(None)
        if not self._due:
            self._disarm()

    def _leave(self, waiter: Waiter) -> None:
        if waiter.stage is _Stage.ADMITTED:
            self.refund(waiter.route, self.time())
        elif waiter.stage is _Stage.WAITING:
            self._send_away(waiter)
            for window, _ in waiter.route:
                window.waiting -= 1
                self._sweep(window)
            self.serve(waiter.route, self.time())

    def _send_away(self, waiter: Waiter) -> None:
        waiter.stage = _Stage.GONE
        del self._waiters[waiter]
        self._due.pop(waiter, None)
        if not self._due:
            self._disarm()

    def _sweep(self, window: Window) -> None:
        """Keep a queue from filling with waiters that gave up behind one that stays."""
        if not window.waiting:
            window.queue.clear()
        elif len(window.queue) > 2 * window.waiting + 16:
            window.queue = [entry for entry in window.queue if entry[2].is_waiting()]
            heapq.heapify(window.queue)

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= when:
                # It rings too early at worst, and is then set again.
                return
            self._timer.cancel()
        if self._loop is not None:
            self._timer = self._loop.call_at(when, self._on_timer)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        now = self.time()
        ready = [waiter for waiter, when in self._due.items() if when <= now]
        for waiter in ready:
            # Put back by `serve` if it is still first.
            del self._due[waiter]
        for waiter in ready:
            self.serve(waiter.route, now)
        if self._due:
            when = min(self._due.values())
            self._arm(when if ready else max(when, now + _LEAST_REARM_SECONDS))

    def _change_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        old = self._loop
        if old is not None and not old.is_closed():
            if old.is_running() or any(waiter.is_waiting() for waiter in self._waiters):
                raise ConfigurationError("The throttler is in use by another event loop.")
            self._disarm()
        was_monotonic = old is None or _is_clock_monotonic(old)
        last_time = self._last_time
        self._loop = loop
        self._is_clock_coarse = _is_clock_coarse(loop)
        self._timer = None
        self._waiters.clear()
        self._due.clear()
        self.epoch += 1
        now = self.time()
        shift = 0.0
        if last_time > -math.inf and not (was_monotonic and _is_clock_monotonic(loop)):
            # How long it took from loop to loop cannot be told: no time has passed.
            shift = now - last_time
        for window in self.windows.values():
            window.change_clock(shift, now)


def _place(waiter: Waiter) -> tuple[float, int]:
    return waiter.rank, waiter.sequence


def _is_clock_coarse(loop: asyncio.AbstractEventLoop) -> bool:
    # uvloop's clock is the monotonic one in whole milliseconds, rounded down: entries would count
    # from up to 1 ms too early.
    return type(loop).__module__.partition(".")[0] in {"uvloop", "winloop"}


def _is_clock_monotonic(loop: asyncio.AbstractEventLoop) -> bool:
    is_stock = type(loop).time is asyncio.BaseEventLoop.time and "time" not in vars(loop)
    return is_stock or _is_clock_coarse(loop)
