"""Python 3.11: make the first step of a coroutine on behalf of a task that has yet to start."""

import asyncio
from asyncio.tasks import current_task
from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any

from aiorest_ws.tasks.asyncio_internals import enter_task, leave_task
from aiorest_ws.tasks.cancellation import note_end

__all__ = ("begin",)


def begin(
    coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop, context: Context
) -> tuple[bool, Any]:
    """Make the first step of `coroutine` in a task of its own.

    Return (True, value) if the coroutine has finished, else (False, task). The task itself is
    done in its first turn.
    """
    begun = _Begun(coroutine)
    task = asyncio.Task(begun, loop=loop, context=context)
    current = current_task(loop)
    # asyncio does not allow entering a task inside another one.
    if current is not None:
        leave_task(loop, current)
    enter_task(loop, task)
    try:
        begun.first = context.run(coroutine.send, None)
    except StopIteration as stop:
        begun.end = stop
        if task.cancelling():
            note_end(task, context)
            raise asyncio.CancelledError from None  # as of any task that has cancelled itself
        return True, stop.value
    except BaseException as exc:
        begun.end = exc
        task.add_done_callback(_forget_exception)
        if isinstance(exc, asyncio.CancelledError):
            note_end(task, context)
        raise
    finally:
        leave_task(loop, task)
        if current is not None:
            enter_task(loop, current)
    return False, task


def _forget_exception(task: asyncio.Task[Any]) -> None:
    # It has been raised already, and is not to be logged as never retrieved.
    if not task.cancelled():
        task.exception()


class _Begun(Coroutine[Any, Any, Any]):
    """A coroutine as its task sees it: not yet begun.

    The first step gives `first`, what the coroutine waits for already, or raises `end`.
    """

    __slots__ = ("_coroutine", "_is_shown", "end", "first")

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self._is_shown = False
        self.first: Any = None
        self.end: BaseException | None = None

    def send(self, value: Any) -> Any:
        if self._is_shown:
            return self._coroutine.send(value)
        self._show()
        return self.first

    def throw(self, *args: Any) -> Any:
        if not self._is_shown:  # the task was cancelled before its first turn
            self._show()
            if asyncio.isfuture(self.first):
                self.first.cancel()
        return self._coroutine.throw(*args)

    def _show(self) -> None:
        self._is_shown = True
        end, self.end = self.end, None
        if end is not None:
            raise end

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()
