"""Tell a call that was cancelled from one that awaits something that was."""

import asyncio
from contextvars import Context, ContextVar
from typing import Any

from twisted.internet.defer import CancelledError

from aiorest_ws.tasks.asyncio_internals import running_loop_or_none

__all__ = ("CANCELLED", "RUNNER", "is_cancelled", "note_end")

# What a cancelled coroutine raises, by reactor.
CANCELLED = (asyncio.CancelledError, CancelledError)

# What has run the coroutine of this context: a task that has ended, or an Outcome. Both have
# `cancelling`.
RUNNER: ContextVar[Any] = ContextVar("RUNNER", default=None)


def is_cancelled() -> bool:
    """Tell whether the coroutine of this context was cancelled, by itself or from outside.

    It was not if it only awaits something that was cancelled.
    """
    runner = RUNNER.get()
    if runner is None and running_loop_or_none() is not None:
        runner = asyncio.current_task()
    return runner is not None and runner.cancelling() > 0


def note_end(task: asyncio.Task[Any], context: Context) -> None:
    """Let `is_cancelled` answer in the context of a task that has ended with a cancellation."""
    context.run(RUNNER.set, task)
