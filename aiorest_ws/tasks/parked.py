"""Run the first step of a coroutine on behalf of an asyncio task that already exists.

`asyncio.timeout` and `TaskGroup` cancel the current task, so a coroutine needs a real task from
its first step on. But a new task takes its first step in the next turn of the loop, which is late
for a coroutine that never suspends. So each loop keeps one task parked: the first step of a
coroutine is made on its behalf, and if the coroutine suspends, the task finishes it.
"""

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from aiorest_ws.tasks.asyncio_internals import (
    allow_destroying_pending,
    enter_task,
    leave_task,
    running_loop_or_none,
)

__all__ = ("Outcome", "ParkedTask", "Stepper", "parked_tasks")


class Outcome(Deferred[Any]):
    """A Deferred that an asyncio task can await too."""

    was_cancelled = False

    def __init__(self, end: Callable[[Deferred[Any]], None]) -> None:
        super().__init__(end)
        self._end = end

    def cancel(self) -> None:
        """Cancel what the coroutine awaits. The Outcome fires when the coroutine has ended."""
        if self.called:
            super().cancel()
        else:
            self.was_cancelled = True
            self._end(self)

    def __await__(self) -> Generator[Any, Any, Any]:
        if _current_task() is None:
            return (yield from super().__await__())
        yield from _fired(self, asyncio.get_running_loop()).__await__()
        return (yield from super().__await__())


def _current_task() -> asyncio.Task[Any] | None:
    return asyncio.current_task() if running_loop_or_none() is not None else None


class Stepper:
    """Step a coroutine in its own context, and give asyncio only what it can await."""

    __slots__ = ("context", "coroutine", "is_dropped", "loop")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        context: Context,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.coroutine = coroutine
        self.context = context
        self.loop = loop
        self.is_dropped = False

    @types.coroutine
    def finish(
        self, suspended_on: object, interruption: BaseException | None = None
    ) -> Generator[Any, Any, Any]:
        """Run a coroutine that has suspended on `suspended_on` to its end."""
        step: Callable[[Any], Any]
        value: Any
        while True:
            try:
                if interruption is not None:
                    raise interruption
                if isinstance(suspended_on, Deferred):
                    # When resumed, the coroutine takes the result from the Deferred itself.
                    yield from _fired(suspended_on, self.loop).__await__()
                    value = None
                else:
                    value = yield suspended_on
            except GeneratorExit:
                self.is_dropped = True
                self.coroutine.close()
                raise
            except BaseException as exc:  # noqa: BLE001  the coroutine handles it
                step, value, interruption = self.coroutine.throw, exc, None
            else:
                step = self.coroutine.send
            try:
                suspended_on = self.context.run(step, value)
            except StopIteration as stop:
                return stop.value


_Work = tuple[Stepper, object, Outcome]


class ParkedTask:
    """A task that waits for a coroutine whose first step was made on its behalf."""

    __slots__ = ("__weakref__", "_handed_over", "_work", "is_taken", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        for closed in [other for other in parked_tasks if other.is_closed()]:
            del parked_tasks[closed]
        self._handed_over: asyncio.Future[None] = loop.create_future()
        self._work: _Work | None = None
        self.is_taken = False
        self.task: asyncio.Task[None] = loop.create_task(self._run())
        # A parked task is pending when its loop ends.
        allow_destroying_pending(self.task)

    def take_over(self, stepper: Stepper, suspended_on: object) -> Outcome:
        """Let the task finish the coroutine that was started on its behalf."""
        outcome = Outcome(self._cancel)
        self._work = (stepper, suspended_on, outcome)
        self._handed_over.set_result(None)
        self.task.add_done_callback(self._restart)
        return outcome

    def _cancel(self, _: Deferred[Any]) -> None:
        self.task.cancel()

    def _restart(self, _: asyncio.Task[None]) -> None:
        # A task that is cancelled before its first turn never runs at all.
        if self._work is not None:
            loop = self._work[0].loop
            self.task = loop.create_task(self._finish(asyncio.CancelledError()))

    async def _run(self) -> None:
        interruption: BaseException | None = None
        try:
            await self._handed_over
        except asyncio.CancelledError as exc:
            if self._work is None:
                raise
            # Cancelled in the turn between the first step and this one.
            interruption = exc
        await self._finish(interruption)

    async def _finish(self, interruption: BaseException | None) -> None:
        stepper, suspended_on, outcome = cast("_Work", self._work)
        self._work = None
        if interruption is not None:
            _cancel(suspended_on)
        result: Any
        try:
            result = await stepper.finish(suspended_on, interruption)
        except BaseException as exc:
            if stepper.is_dropped:
                raise  # by the garbage collector, outside the loop: nobody awaits the outcome
            result = Failure()
            if outcome.was_cancelled and isinstance(exc, asyncio.CancelledError):
                result = Failure(CancelledError())  # the one that Deferreds fail with
        if not outcome.called:
            # The callbacks do not belong to this task, and must not find it as the current one.
            leave_task(stepper.loop, self.task)
            try:
                outcome.callback(result)
            finally:
                enter_task(stepper.loop, self.task)


# The parked task of each loop.
parked_tasks: dict[asyncio.AbstractEventLoop, ParkedTask] = {}


def _cancel(suspended_on: object) -> None:
    if isinstance(suspended_on, Deferred):
        suspended_on.addErrback(_ignore_cancellation)
        suspended_on.cancel()
    elif asyncio.isfuture(suspended_on):
        suspended_on.cancel()


def _ignore_cancellation(failure: Failure) -> None:
    failure.trap(CancelledError)


def _fired(deferred: Deferred[Any], loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
    """Return a future that is done when `deferred` fires; cancelling it cancels `deferred`.

    The Deferred keeps its result for later callbacks; `Deferred.asFuture` makes it None.
    """
    future: asyncio.Future[None] = loop.create_future()

    def fire(result: Any) -> Any:
        if not future.done():
            future.set_result(None)
        return result

    deferred.addBoth(fire)
    future.add_done_callback(lambda done: _cancel(deferred) if done.cancelled() else None)
    return future
