"""Estimate how long a request waits."""

from collections import deque
from collections.abc import Iterable, Iterator

from networkpype.throttler._window import Cost, Window, end_of

__all__ = ("estimate_admission",)


class _SimulatedWindow:
    """Simulate one window while waiters are admitted one after another."""

    def __init__(self, window: Window, now: float) -> None:
        self._limit = window.limit
        self._interval = window.interval
        self._used = window.used
        self._past: Iterator[tuple[float, int]] = window.endings()
        self._next = next(self._past, None)
        self._added: deque[tuple[float, int]] = deque()
        if window.held:
            self._added.append((end_of(now, self._interval), window.held))
        self.last_admission = max(now, window.frozen_until)

    def fits_at(self, weight: int) -> float:
        """Return when `weight` fits; remove what has expired by then."""
        when = self.last_admission
        while self._used + weight > self._limit:
            end, leaving = self._oldest()
            self._used -= leaving
            when = max(when, end)
        return when

    def add(self, weight: int, when: float) -> None:
        self._used += weight
        self._added.append((end_of(when, self._interval), weight))
        self.last_admission = when

    def _oldest(self) -> tuple[float, int]:
        if self._next is not None and (not self._added or self._next <= self._added[0]):
            oldest, self._next = self._next, next(self._past, None)
            return oldest
        return self._added.popleft()


def estimate_admission(costs_before: Iterable[Cost], cost: Cost, now: float) -> float:
    """Return when a request with `cost` is admitted, after those of `costs_before`.

    Assumes that existing holds count from now, and the requests before from their admission.
    """
    simulated: dict[Window, _SimulatedWindow] = {}
    admission = now
    for consumed in (*costs_before, cost):
        affected = []
        for original, weight in consumed:
            if original not in simulated:
                simulated[original] = _SimulatedWindow(original, now)
            affected.append((simulated[original], weight))
        # All queues have the order of `costs_before`, so each request is admitted as soon as the
        # one before has been and all its windows have room.
        admission = max((window.fits_at(weight) for window, weight in affected), default=now)
        for window, weight in affected:
            window.add(weight, admission)
    return admission
