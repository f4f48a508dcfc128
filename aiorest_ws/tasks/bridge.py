"""Give each coroutine an asyncio task of its own, in which it can await Deferreds too.

The task is the current one from the first step on, and the first step is made at once. Python
3.12 has eager tasks for that. On 3.11 the first step is made on behalf of a task that has not had
its first turn yet.
"""

import asyncio
import sys
import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from aiorest_ws.log import logger
from aiorest_ws.tasks.asyncio_internals import running_loop_or_none
from aiorest_ws.tasks.cancellation import note_end

if sys.version_info < (3, 12):
    from aiorest_ws.tasks.begun import begin

__all__ = ("Outcome", "run_in_task")


class Outcome(Deferred[Any]):
    """A Deferred that an asyncio task can await too."""

    was_cancelled = False

    def __init__(self, end: Callable[[Deferred[Any]], Any]) -> None:
        super().__init__(end)
        self._end = end

    def cancel(self) -> None:
        """Cancel what the coroutine awaits. The Outcome fires when the coroutine has ended."""
        if self.called:
            super().cancel()
        else:
            self.was_cancelled = True
            self._end(self)

    def cancelling(self) -> int:
        """Return 1 if it was cancelled, as a task does."""
        return int(self.was_cancelled)

    def __await__(self) -> Generator[Any, Any, Any]:
        if running_loop_or_none() is None or asyncio.current_task() is None:
            return (yield from super().__await__())
        yield from _fired(self, asyncio.get_running_loop()).__await__()
        return (yield from super().__await__())


def run_in_task(
    coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop, context: Context
) -> Any:
    """Return the coroutine's value if it finishes without suspending, else an Outcome.

    `loop` runs in this thread. `context` is not entered.
    """
    if sys.version_info >= (3, 12):
        task = asyncio.Task(_run(coroutine, loop), loop=loop, context=context, eager_start=True)
        try:
            return task.result() if task.done() else _outcome_of(task, context)
        except asyncio.CancelledError:
            note_end(task, context)
            raise
        finally:
            del task  # an exception that is raised refers to this frame
    else:
        is_over, result = begin(_run(coroutine, loop), loop, context)
        return result if is_over else _outcome_of(result, context)


def _outcome_of(task: asyncio.Task[Any], context: Context) -> Outcome:
    """Return an Outcome that fires when `task` has ended, and that cancels it."""
    outcome = Outcome(lambda _: task.cancel())

    def fire(task: asyncio.Task[Any]) -> None:
        result: Any
        try:
            result = task.result()
        except BaseException as exc:  # noqa: BLE001  it becomes the Outcome's failure
            result = Failure()
            if isinstance(exc, asyncio.CancelledError):
                note_end(task, context)
                if outcome.was_cancelled:
                    result = Failure(CancelledError())  # the one that Deferreds fail with
        outcome.callback(result)

    task.add_done_callback(fire)
    return outcome


async def _run(coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> Any:
    """Run `coroutine` to its end, and await a future in the place of each Deferred."""
    step: Callable[[Any], Any] = coroutine.send
    value: Any = None
    while True:
        try:
            suspended_on = step(value)
        except StopIteration as stop:
            return stop.value
        except (SystemExit, KeyboardInterrupt) as exc:
            # asyncio ends its loop for these, and with it the server.
            raise RuntimeError(f"a coroutine raised {type(exc).__name__}") from exc
        try:
            value = await _yielded(suspended_on, loop)
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as exc:  # noqa: BLE001  the coroutine handles it
            step, value = coroutine.throw, exc
        else:
            step = coroutine.send


@types.coroutine
def _yielded(suspended_on: Any, loop: asyncio.AbstractEventLoop) -> Generator[Any, Any, Any]:
    """Give the task what a coroutine has yielded, and return what the task sends back."""
    if isinstance(suspended_on, Deferred):
        # When resumed, the coroutine takes the result from the Deferred itself.
        return (yield from _fired(suspended_on, loop).__await__())
    return (yield suspended_on)


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


def _cancel(deferred: Deferred[Any]) -> None:
    deferred.addErrback(_ignore_cancellation)
    try:
        deferred.cancel()
    except BaseException as exc:  # noqa: BLE001  a SystemExit would end the loop
        logger.error("a Deferred could not be cancelled", exc_info=exc)


def _ignore_cancellation(failure: Failure) -> None:
    failure.trap(CancelledError)
