"""The sliding window of one limit, and the requests that wait for it.

An entry made at `s` counts in the half-open interval [s, s + interval). If floating point cannot
represent the end, the end is rounded up: no window is exceeded, not even by an ulp.
"""

import asyncio
import enum
import heapq
import math
from collections import deque
from collections.abc import Iterator, Mapping

from networkpype.exceptions import ConfigurationError, UnknownLimitError

__all__ = ("Cost", "Costs", "Stage", "Waiter", "Window", "cost_of", "end_of")


def end_of(start: float, interval: float) -> float:
    """Return the earliest float that is not before `start + interval`."""
    end = start + interval
    # The exact rounding error of the sum (Knuth, TAOCP 2, 4.2.2, theorem B).
    of_interval = end - start
    error = (start - (end - of_interval)) + (interval - of_interval)
    return math.nextafter(end, math.inf) if error > 0 else end


class Stage(enum.Enum):
    """The life of a waiter."""

    WAITING = enum.auto()
    ADMITTED = enum.auto()
    GONE = enum.auto()


class Waiter:
    """One request that waits for the windows of its cost."""

    __slots__ = ("cost", "future", "limit_id", "rank", "sequence", "stage", "weight")

    def __init__(
        self,
        limit_id: str,
        weight: int,
        cost: "Cost",
        rank: float,
        sequence: int,
        future: asyncio.Future[None],
    ) -> None:
        self.limit_id = limit_id
        self.weight = weight
        self.cost = cost
        self.rank = rank
        self.sequence = sequence
        self.future = future
        self.stage = Stage.WAITING

    def is_waiting(self) -> bool:
        # The task of a cancelled future has not run yet, so the waiter is still in line.
        return self.stage is Stage.WAITING and not self.future.cancelled()


class Window:
    """How much of one limit is used, and when that becomes free again.

    `used` is the sum of the holds, the log and the corrections. It may include expired entries:
    they are removed only when their room is needed.
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
        # (end, weight), a heap: usage by others, as reported by a server.
        self.corrections: list[tuple[float, int]] = []
        self.frozen_until = -math.inf
        # The number of waiters that consume this limit.
        self.waiting = 0

    def is_expired(self, start: float, now: float) -> bool:
        """Return whether an entry made at `start` has left the window that ends now."""
        age = now - start
        # Rounding keeps the order, so the difference decides unless it equals the interval.
        if age != self.interval:
            return age > self.interval
        return now >= end_of(start, self.interval)

    def has_room(self, weight: int, now: float) -> bool:
        """Return whether `weight` fits now; remove expired entries as needed."""
        if now < self.frozen_until:
            return False
        target = self.limit - weight
        if self.used > target:
            self._expire(now, target)
        return self.used <= target

    def usage(self, now: float) -> int:
        """Return what is used now, including holds."""
        self._expire(now, -1)
        return self.used

    def is_idle(self, now: float) -> bool:
        """Return whether nothing is used and the window is not frozen."""
        return self.usage(now) == 0 and now >= self.frozen_until

    def hold(self, weight: int) -> None:
        self.used += weight
        self.held += weight

    def refund(self, weight: int) -> None:
        """Release a hold without counting it."""
        self.used -= weight
        self.held -= weight

    def count(self, weight: int, start: float, now: float) -> None:
        """Turn a hold into an entry made at `start`."""
        if self.is_expired(start, now):
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
        """Add `weight` to the usage until `end`."""
        self.used += weight
        heapq.heappush(self.corrections, (end, weight))

    def fits_at(self, weight: int, now: float) -> float:
        """Return when `weight` fits if nothing is added; infinity if that depends on a hold."""
        when = max(now, self.frozen_until)
        missing = self.used + weight - self.limit
        if missing <= 0:
            return when
        for end, leaving in self.endings():
            missing -= leaving
            if missing <= 0:
                return max(when, end)
        return math.inf

    def last_end(self) -> float:
        """Return when the last of the entries ends."""
        ends = [end for end, _ in self.corrections]
        if self.log:
            ends.append(end_of(self.log[-1][0], self.interval))
        return max(ends, default=-math.inf)

    def next_end(self, now: float) -> float:
        """Return the first moment after `now` at which something expires or unfreezes."""
        self._expire(now, -1)
        moments = [self.corrections[0][0]] if self.corrections else []
        if self.log:
            moments.append(end_of(self.log[0][0], self.interval))
        if self.frozen_until > now:
            moments.append(self.frozen_until)
        return min(moments, default=math.inf)

    def endings(self) -> Iterator[tuple[float, int]]:
        """Yield (end, weight) of everything except holds, by end."""
        interval = self.interval
        log = ((end_of(start, interval), weight) for start, weight in self.log)
        if not self.corrections:
            return log
        return heapq.merge(log, sorted(self.corrections))

    def change_clock(self, shift: float, restart_holds_at: float) -> None:
        """Shift all times to another clock; holds become entries."""
        self.log = deque((start + shift, weight) for start, weight in self.log)
        self.corrections = [(end + shift, weight) for end, weight in self.corrections]
        self.frozen_until += shift
        self.waiting = 0
        if self.held:
            self.log.append((restart_holds_at, self.held))
            self.held = 0

    def _expire(self, now: float, target: int) -> None:
        """Remove expired entries, oldest first, until at most `target` is used."""
        log = self.log
        while self.used > target and log and self.is_expired(log[0][0], now):
            self.used -= log.popleft()[1]
        corrections = self.corrections
        while self.used > target and corrections and corrections[0][0] <= now:
            self.used -= heapq.heappop(corrections)[1]


Cost = tuple[tuple[Window, int], ...]
"""What a request consumes: windows and weights."""

Costs = Mapping[str, Cost]
"""Costs by limit id."""


def cost_of(limit_id: str, costs: Costs, weight: int = 1) -> Cost:
    """Return what a request under `limit_id` consumes, which counts as `weight` requests.

    Raises UnknownLimitError, and ConfigurationError for a weight that can never fit.
    """
    try:
        cost = costs[limit_id]
    except KeyError:
        raise UnknownLimitError(f"Rate limit not found for ID: {limit_id}") from None
    if weight == 1:
        return cost
    if not isinstance(weight, int) or weight < 0:
        raise ConfigurationError(
            f"The weight of a request must be a whole number, at least 0, not {weight!r}."
        )
    for window, single in cost:
        if single * weight > window.limit:
            raise ConfigurationError(
                f"A request of weight {weight} under limit {limit_id!r} consumes "
                f"{single * weight} of {window.limit_id!r}, which allows {window.limit}."
            )
    return tuple((window, single * weight) for window, single in cost) if weight else ()
