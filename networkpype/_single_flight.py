"""Several callers, one run."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

from networkpype._admission import give_back
from networkpype.exceptions import NetworkpypeError

__all__ = ("SingleFlight",)

T = TypeVar("T")

# The flights that the current code runs inside of.
_surrounding: ContextVar[tuple["SingleFlight[Any]", ...]] = ContextVar(
    "networkpype_single_flights", default=()
)


class SingleFlight(Generic[T]):
    """Let callers that come at the same time share one run of `start`.

    The run is a task of its own: a caller that is cancelled leaves it to the others.
    """

    def __init__(self, start: Callable[[], Awaitable[T]]) -> None:
        self._start = start
        self._task: asyncio.Task[T] | None = None

    def is_inside(self) -> bool:
        """Tell whether the caller itself is part of the run, so that to join would be to hang."""
        return any(flight is self for flight in _surrounding.get())

    async def join(self) -> T:
        """Wait for the run under way, or for a new one; raise what it raises."""
        task = self._task
        # A task of a loop that is gone never ends.
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            task = self._task = asyncio.ensure_future(self._run())
        await give_back()
        try:
            # A shield also takes note of an error for which its caller no longer waits.
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if task.cancelled() and caller is not None and not caller.cancelling():
                # The run was cancelled, not the caller.
                raise NetworkpypeError("What was waited for has been cancelled.") from None
            raise

    async def _run(self) -> T:
        _surrounding.set((*_surrounding.get(), self))  # the task has a context of its own
        return await self._start()
