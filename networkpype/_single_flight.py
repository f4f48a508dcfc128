"""Share one run of an operation between concurrent callers."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Generic, TypeVar

from networkpype._preparation import release_outer_hold
from networkpype.exceptions import NetworkpypeError

__all__ = ("SingleFlight",)

T = TypeVar("T")

# The flights that the current code is part of.
_surrounding: ContextVar[tuple[object, ...]] = ContextVar("networkpype_single_flights", default=())


class SingleFlight(Generic[T]):
    """Let concurrent callers share one run of `start`.

    The run is a task of its own: cancelling one caller does not cancel it for the others.
    """

    def __init__(self, start: Callable[[], Awaitable[T]]) -> None:
        self._start = start
        self._task: asyncio.Task[T] | None = None

    def is_inside(self) -> bool:
        """Return whether the caller is part of the run, so that `join()` would deadlock."""
        return any(flight is self for flight in _surrounding.get())

    async def join(self) -> T:
        """Wait for the current run, or start one; raise what it raises."""
        task = self._task
        # A task of another loop may never end.
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            task = self._task = asyncio.ensure_future(self._run())
        await release_outer_hold()
        try:
            # shield() also retrieves the exception when no caller waits any more.
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if task.cancelled() and caller is not None and not caller.cancelling():
                # The run was cancelled, not the caller.
                raise NetworkpypeError("The shared operation was cancelled.") from None
            raise

    async def _run(self) -> T:
        _surrounding.set((*_surrounding.get(), self))  # only in the context of this task
        return await self._start()
