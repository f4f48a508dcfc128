"""Context managers that wait for admission."""

import enum
import logging
from types import TracebackType
from typing import Self

from networkpype._log import get_logger
from networkpype.throttler._admission_queue import AdmissionQueue
from networkpype.throttler._window import Cost, Costs, cost_of

__all__ = ("AsyncRequestContext", "Hold")


class AsyncRequestContext:
    """Wait for admission and count from then; made by `AsyncThrottler.execute_task`.

    Each `async with` and each `acquire()` consumes once.
    """

    __slots__ = ("_admission_queue", "_costs", "_limit_id", "_priority", "_weight")

    def __init__(
        self, queue: AdmissionQueue, costs: Costs, limit_id: str, priority: float, weight: int
    ) -> None:
        self._admission_queue = queue
        self._costs = costs
        self._limit_id = limit_id
        self._priority = priority
        self._weight = weight

    @classmethod
    def logger(cls) -> logging.Logger:
        """Return the logger of this module."""
        return get_logger(__name__)

    async def __aenter__(self) -> None:
        # Not implemented with `acquire`, to save one coroutine per request.
        queue = self._admission_queue
        now = queue.now()
        cost = cost_of(self._limit_id, self._costs, self._weight)
        if not queue.try_consume(cost, now):
            await self._wait(cost, now)

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Do nothing: the request was counted on entry."""

    async def acquire(self) -> None:
        """Wait for admission.

        Raises UnknownLimitError if the limit has been removed.
        """
        await self.__aenter__()

    def within_capacity(self) -> bool:
        """Return whether `acquire()` would return without waiting."""
        queue = self._admission_queue
        now = queue.now()
        cost = cost_of(self._limit_id, self._costs, self._weight)
        return queue.would_admit(cost, queue.rank(self._priority, now), now)

    def flush(self) -> None:
        """Remove expired entries; the throttler also does this by itself."""
        now = self._admission_queue.now()
        for window, _ in cost_of(self._limit_id, self._costs, self._weight):
            window.usage(now)

    async def _wait(self, cost: Cost, now: float) -> None:
        queue = self._admission_queue
        admitted = await queue.wait(self._limit_id, self._weight, cost, self._priority, now)
        # From now, not from the admission: the loop may have been blocked in between.
        now = queue.time()
        queue.count(admitted, now, now)


class _Stage(enum.Enum):
    NEW = enum.auto()
    HELD = enum.auto()
    SENT = enum.auto()
    SETTLED = enum.auto()


class Hold:
    """Hold capacity until it is known from when it counts; made by `AsyncThrottler.hold`.

    `count()` counts it from now, `count_from_admission()` from when the block was entered. If the
    block ends without either, the hold is counted from then if `mark_sent()` was called, and
    refunded otherwise. The first outcome is final; later calls do nothing.
    """

    __slots__ = (
        "_admission_queue",
        "_admitted_at",
        "_cost",
        "_costs",
        "_generation",
        "_limit_id",
        "_priority",
        "_stage",
        "_weight",
    )

    def __init__(
        self, queue: AdmissionQueue, costs: Costs, limit_id: str, priority: float, weight: int
    ) -> None:
        self._admission_queue = queue
        self._costs = costs
        self._limit_id = limit_id
        self._priority = priority
        self._weight = weight
        self._stage = _Stage.NEW
        self._cost: Cost = ()
        self._generation = 0
        self._admitted_at = 0.0

    async def __aenter__(self) -> Self:
        if self._stage is not _Stage.NEW:
            raise RuntimeError("A hold can be entered only once.")
        queue = self._admission_queue
        now = queue.now()
        cost = cost_of(self._limit_id, self._costs, self._weight)
        if not queue.try_hold(cost, now):
            cost = await queue.wait(self._limit_id, self._weight, cost, self._priority, now)
            now = queue.time()
        # No await follows, so a cancellation is raised inside the block.
        self._cost = cost
        self._generation = queue.generation
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
            self._admission_queue.refund(self._cost, self._admission_queue.time())

    def mark_sent(self) -> None:
        """Record that bytes may have been sent: from now on there is no refund."""
        self._check_entered()
        if self._stage is _Stage.HELD:
            self._stage = _Stage.SENT

    def count(self) -> None:
        """Count from now: the response head has arrived, or the message is written."""
        self._check_entered()
        if self._settle():
            now = self._admission_queue.time()
            self._admission_queue.count(self._cost, now, now)

    def count_from_admission(self) -> None:
        """Count from the admission, for a response that may take very long."""
        self._check_entered()
        if self._settle():
            self._admission_queue.count(
                self._cost, self._admitted_at, self._admission_queue.time()
            )

    def _check_entered(self) -> None:
        if self._stage is _Stage.NEW:
            raise RuntimeError("The hold is not admitted yet.")

    def _settle(self) -> bool:
        """Make the outcome final; return whether it was still open."""
        is_open = self._stage is _Stage.SENT or self._stage is _Stage.HELD
        if is_open:
            self._stage = _Stage.SETTLED
        # A throttler that has changed to another loop has already counted it.
        return is_open and self._generation == self._admission_queue.generation
