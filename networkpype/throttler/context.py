"""Admission for the length of a block."""

import enum
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from networkpype.exceptions import UnknownLimitError
from networkpype.throttler._turnstile import Route, Turnstile

__all__ = ("AsyncRequestContext", "Hold")

Routes = Mapping[str, Route]


def _unknown(limit_id: str) -> UnknownLimitError:
    return UnknownLimitError(f"Rate limit not found for ID: {limit_id}")


class AsyncRequestContext:
    """Made by `AsyncThrottler.execute_task`: wait for admission, and count from there.

    To enter it, or to call `acquire`, consumes once each time.
    """

    __slots__ = ("_limit_id", "_priority", "_routes", "_turnstile")

    def __init__(
        self, turnstile: Turnstile, routes: Routes, limit_id: str, priority: float
    ) -> None:
        self._turnstile = turnstile
        self._routes = routes
        self._limit_id = limit_id
        self._priority = priority

    async def __aenter__(self) -> None:
        # Not by way of `acquire`: one coroutine less for every request.
        turnstile = self._turnstile
        now = turnstile.now()
        try:
            route = self._routes[self._limit_id]
        except KeyError:
            raise _unknown(self._limit_id) from None
        if not turnstile.admit_and_count(route, now):
            await self._wait(route, now)

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Do nothing: what is in the block was counted when it began."""

    async def acquire(self) -> None:
        """Wait for admission.

        Raises UnknownLimitError if the limit has been removed.
        """
        await self.__aenter__()

    def within_capacity(self) -> bool:
        """Return whether `acquire` would not wait now."""
        turnstile = self._turnstile
        now = turnstile.now()
        return turnstile.would_admit(self._route(), turnstile.rank(self._priority, now), now)

    def flush(self) -> None:
        """Forget what has left the windows; this happens by itself where it matters."""
        now = self._turnstile.now()
        for window, _ in self._route():
            window.usage(now)

    def _route(self) -> Route:
        try:
            return self._routes[self._limit_id]
        except KeyError:
            raise _unknown(self._limit_id) from None

    async def _wait(self, route: Route, now: float) -> None:
        turnstile = self._turnstile
        admitted = await turnstile.wait(self._limit_id, route, self._priority, now)
        # From now, not from the moment of the admission: the loop may have stood still in between.
        now = turnstile.time()
        turnstile.count(admitted, now, now)


class _Stage(enum.Enum):
    NEW = enum.auto()
    HELD = enum.auto()
    SENT = enum.auto()
    SETTLED = enum.auto()


class Hold:
    """Made by `AsyncThrottler.hold`: capacity that is held until it is known when it counts.

    `count()` lets it count from now, `count_from_admission()` from when the block was entered.
    When the block is left without either, it counts from then if `mark_sent()` was called, or
    else is refunded. The first of these outcomes is the only one; later calls do nothing.
    """

    __slots__ = (
        "_admitted_at",
        "_epoch",
        "_limit_id",
        "_priority",
        "_route",
        "_routes",
        "_stage",
        "_turnstile",
    )

    def __init__(
        self, turnstile: Turnstile, routes: Routes, limit_id: str, priority: float
    ) -> None:
        self._turnstile = turnstile
        self._routes = routes
        self._limit_id = limit_id
        self._priority = priority
        self._stage = _Stage.NEW
        self._route: Route = ()
        self._epoch = 0
        self._admitted_at = 0.0

    async def __aenter__(self) -> Self:
        if self._stage is not _Stage.NEW:
            raise RuntimeError("A hold can be entered once.")
        turnstile = self._turnstile
        now = turnstile.now()
        route = self._routes.get(self._limit_id)
        if route is None:
            raise _unknown(self._limit_id)
        if not turnstile.admit(route, now):
            route = await turnstile.wait(self._limit_id, route, self._priority, now)
            now = turnstile.time()
        # From here to the block there is no await: a cancellation finds it inside the block.
        self._route = route
        self._epoch = turnstile.epoch
        self._admitted_at = now
        self._stage = _Stage.HELD
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._stage is _Stage.SENT:
            self.count()
        elif self._settle():
            self._turnstile.refund(self._route, self._turnstile.time())

    def mark_sent(self) -> None:
        """Take note that bytes may have left: from now on there is no refund."""
        self._check_entered()
        if self._stage is _Stage.HELD:
            self._stage = _Stage.SENT

    def count(self) -> None:
        """Let it count from now: the response head is there, or the message is written."""
        self._check_entered()
        if self._settle():
            now = self._turnstile.time()
            self._turnstile.count(self._route, now, now)

    def count_from_admission(self) -> None:
        """Let it count from its admission, for a response that may take very long."""
        self._check_entered()
        if self._settle():
            self._turnstile.count(self._route, self._admitted_at, self._turnstile.time())

    def _check_entered(self) -> None:
        if self._stage is _Stage.NEW:
            raise RuntimeError("The hold is not admitted yet.")

    def _settle(self) -> bool:
        """Return whether the outcome is still open, and close it."""
        is_open = self._stage in {_Stage.HELD, _Stage.SENT}
        if is_open:
            self._stage = _Stage.SETTLED
        # A throttler that has moved on to another loop has already counted it.
        return is_open and self._epoch == self._turnstile.epoch
