"""The past of one limit.

An entry made at `s` counts in the half-open interval [s, s + interval). Where floating point
cannot represent the end, it is rounded up, never down: no window is exceeded even by an ulp.
"""

import heapq
import math
from collections import deque
from collections.abc import Iterator
from typing import Any

__all__ = ("Window", "end_of")


def end_of(start: float, interval: float) -> float:
    """Return the earliest float that is not before `start + interval`."""
    end = start + interval
    # The rounding error of the sum, exact (Knuth, TAOCP 2, 4.2.2, theorem B).
    of_interval = end - start
    error = (start - (end - of_interval)) + (interval - of_interval)
    return math.nextafter(end, math.inf) if error > 0 else end


class Window:
    """How much of one limit is used, and when it is free again.

    `used` is what is held, in the log and in the corrections. Entries that are over may still be
    among it: they are forgotten when their room is wanted.
    """

    __slots__ = (
        "configured_limit",
        "corrections",
        "frozen_until",
        "held",
        "interval",
        "limit",
        "limit_id",
        "log",
        "queue",
        "shared_limit",
        "used",
        "waiting",
    )

    def __init__(self, limit_id: str) -> None:
        self.limit_id = limit_id
        self.configured_limit = 0
        self.shared_limit = 0
        self.limit = 0
        self.interval = 0.0
        self.used = 0
        self.held = 0
        # (start, weight), by start.
        self.log: deque[tuple[float, int]] = deque()
        # (end, weight), a heap: what a server says that others used.
        self.corrections: list[tuple[float, int]] = []
        self.frozen_until = -math.inf
        # (rank, sequence, waiter), a heap that may contain waiters that are gone.
        self.queue: list[tuple[float, int, Any]] = []
        self.waiting = 0

    def is_over(self, start: float, now: float) -> bool:
        """Whether an entry made at `start` has left the window that ends now."""
        age = now - start
        # Rounding keeps order, so the difference decides unless it is rounded onto the interval.
        if age != self.interval:
            return age > self.interval
        return now >= end_of(start, self.interval)

    def has_room(self, weight: int, now: float) -> bool:
        """Whether `weight` fits now; forgets as much of the past as that takes."""
        if now < self.frozen_until:
            return False
        target = self.limit - weight
        if self.used > target:
            self._forget(now, target)
        return self.used <= target

    def usage(self, now: float) -> int:
        """Return what is used now, holds included."""
        self._forget(now, -1)
        return self.used

    def is_idle(self, now: float) -> bool:
        """Return whether there is nothing to remember."""
        return self.usage(now) == 0 and now >= self.frozen_until

    def hold(self, weight: int) -> None:
        self.used += weight
        self.held += weight

    def refund(self, weight: int) -> None:
        """Undo a hold."""
        self.used -= weight
        self.held -= weight

    def count(self, weight: int, start: float, now: float) -> None:
        """Make an entry out of a hold, as if made at `start`."""
        if self.is_over(start, now):
            self.refund(weight)
            return
        self.held -= weight
        log = self.log
        later = []
        while log and log[-1][0] > start:
            later.append(log.pop())
        log.append((start, weight))
        while later:
            log.append(later.pop())

    def correct(self, weight: int, end: float) -> None:
        """Use up `weight` until `end`."""
        self.used += weight
        heapq.heappush(self.corrections, (end, weight))

    def fits_at(self, weight: int, now: float) -> float:
        """Return when `weight` fits if nothing is added; infinity while a hold is in the way."""
        when = max(now, self.frozen_until)
        missing = self.used + weight - self.limit
        if missing <= 0:
            return when
        for end, leaving in self.endings():
            missing -= leaving
            if missing <= 0:
                return max(when, end)
        return math.inf

    def endings(self) -> Iterator[tuple[float, int]]:
        """Yield (end, weight) of everything but holds, by end."""
        interval = self.interval
        log = ((end_of(start, interval), weight) for start, weight in self.log)
        if not self.corrections:
            return log
        return heapq.merge(log, sorted(self.corrections))

    def change_clock(self, shift: float, restart_holds_at: float) -> None:
        """Move the past to another clock; what is held becomes an entry."""
        self.log = deque((start + shift, weight) for start, weight in self.log)
        self.corrections = [(end + shift, weight) for end, weight in self.corrections]
        self.frozen_until += shift
        self.queue.clear()
        self.waiting = 0
        if self.held:
            self.log.append((restart_holds_at, self.held))
            self.held = 0

    def _forget(self, now: float, target: int) -> None:
        """Forget what is over, oldest first, until at most `target` is used."""
        log = self.log
        while self.used > target and log and self.is_over(log[0][0], now):
            self.used -= log.popleft()[1]
        corrections = self.corrections
        while self.used > target and corrections and corrections[0][0] <= now:
            self.used -= heapq.heappop(corrections)[1]
