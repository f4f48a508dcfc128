"""One end for everything that a request does."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from networkpype.exceptions import ClosedError, DeadlineExceeded

__all__ = ("Deadline", "Interruptions", "Scope")


class Interruptions(Protocol):
    """Where the scopes that are entered wait to be interrupted."""

    def add_scope(self, scope: "Scope") -> None: ...

    def discard_scope(self, scope: "Scope") -> None: ...


class Deadline:
    """The moment at which everything that one request does has to be done.

    Must be made in a running loop. `describe` says for the text of the error what the request is.
    """

    __slots__ = ("_describe", "_timeout_s", "interruptions", "loop_time")

    def __init__(
        self,
        describe: Callable[[], str],
        timeout_s: float | None,
        interruptions: Interruptions | None = None,
    ) -> None:
        self._describe = describe
        self._timeout_s = timeout_s
        self.interruptions = interruptions
        self.loop_time: float | None = None
        if timeout_s is not None:
            self.loop_time = asyncio.get_running_loop().time() + timeout_s

    def scope(self) -> "Scope":
        """Return a context manager, to be used once, whose body ends at the deadline."""
        return Scope(self)

    def error(self) -> DeadlineExceeded:
        """Return the error that says that it is over."""
        return DeadlineExceeded(f"{self._describe()} was not done within {self._timeout_s} s.")


class Scope:
    """A part of a request, ended by the deadline or by an interruption, whichever is first.

    Raises DeadlineExceeded or ClosedError instead of what its body raises when it is ended. Works
    as `asyncio.timeout` does, and is not built on it, because every request enters at least one.
    """

    __slots__ = ("_cancelling", "_deadline", "_has_struck", "_interruption", "_strike", "_task")

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._interruption: str | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._strike: asyncio.Handle | None = None
        self._has_struck = False

    def interrupt(self, reason: str) -> None:
        """End the body with ClosedError."""
        task = self._task
        if task is not None and self._interruption is None and not self._has_struck:
            self._interruption = reason
            if self._strike is not None:
                self._strike.cancel()
            # Not at once: from inside of the body, the cancellation could outlive it.
            self._strike = task.get_loop().call_soon(self._end_body)

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("A request needs a task to run in.")
        self._task = task
        self._cancelling = task.cancelling()
        deadline = self._deadline
        if deadline.loop_time is not None:
            self._strike = task.get_loop().call_at(deadline.loop_time, self._end_body)
        if deadline.interruptions is not None:
            deadline.interruptions.add_scope(self)
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if self._strike is not None:
            self._strike.cancel()
        if self._deadline.interruptions is not None:
            self._deadline.interruptions.discard_scope(self)
        # Was it our cancellation alone, or has somebody else cancelled the task too?
        is_ours = self._has_struck and task is not None and task.uncancel() <= self._cancelling
        if is_ours and isinstance(error, asyncio.CancelledError):
            if self._interruption is None:
                raise self._deadline.error() from error
            raise ClosedError(self._interruption) from error
        # What the body met when its session was closed under it is an effect, not the cause.
        if self._interruption is not None and isinstance(error, Exception):
            raise ClosedError(self._interruption) from error

    def _end_body(self) -> None:
        if self._task is not None:
            self._has_struck = True
            self._task.cancel()
