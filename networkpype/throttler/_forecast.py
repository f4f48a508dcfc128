"""How long a wait will be, as far as is known now."""

from collections import deque
from collections.abc import Iterable, Iterator

from networkpype.throttler._turnstile import Route
from networkpype.throttler._window import Window, end_of

__all__ = ("forecast",)


class _Future:
    """What becomes of one window when those who wait are admitted one after the other."""

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
        """Return when `weight` fits, and forget what is over by then."""
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


def forecast(routes_before: Iterable[Route], route: Route, now: float) -> float:
    """Return when a request with `route` is admitted, after those of `routes_before`.

    Holds, and those before, are taken to count from their admission, or from now.
    """
    futures: dict[Window, _Future] = {}
    admission = now
    for consumed in (*routes_before, route):
        affected = []
        for window, weight in consumed:
            if window not in futures:
                futures[window] = _Future(window, now)
            affected.append((futures[window], weight))
        # In each queue the order is that of `routes_before`, so every one of them goes as soon as
        # the one before has gone and there is room, in all its windows.
        admission = max((future.fits_at(weight) for future, weight in affected), default=now)
        for future, weight in affected:
            future.add(weight, admission)
    return admission
