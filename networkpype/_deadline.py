"""One deadline for everything that a request does."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from networkpype.exceptions import AttemptTimeoutError, ClosedError, DeadlineExceeded

__all__ = ("AttemptDeadline", "Deadline", "Scope", "ScopeRegistry")


class ScopeRegistry(Protocol):
    """Keeps track of the entered scopes, to interrupt them."""

    def add_scope(self, scope: "Scope") -> None: ...

    def discard_scope(self, scope: "Scope") -> None: ...


class Deadline:
    """The time by which a request must be done.

    Must be created in a running loop. `describe` returns the request's name for the error text.
    """

    __slots__ = ("_describe", "_timeout_s", "loop_time", "registry")

    def __init__(
        self,
        describe: Callable[[], str],
        timeout_s: float | None,
        registry: ScopeRegistry | None = None,
    ) -> None:
        self._describe = describe
        self._timeout_s = timeout_s
        self.registry = registry
        self.loop_time: float | None = None
        if timeout_s is not None:
            self.loop_time = asyncio.get_running_loop().time() + timeout_s

    def scope(self) -> "Scope":
        """Return a context manager, to be used once, whose body is cancelled at the deadline."""
        return Scope(self)

    def error(self) -> Exception:
        """Return the error for a missed deadline."""
        return DeadlineExceeded(f"{self._describe()} was not done within {self._timeout_s} s.")


class AttemptDeadline(Deadline):
    """The time by which one attempt must be done."""

    __slots__ = ("was_sent",)

    def __init__(self, describe: Callable[[], str], timeout_s: float) -> None:
        super().__init__(describe, None)
        self._timeout_s = timeout_s
        self.was_sent = False

    def start(self) -> None:
        """Begin to count."""
        if self._timeout_s is not None:
            self.loop_time = asyncio.get_running_loop().time() + self._timeout_s

    def error(self) -> Exception:
        """Return the error for a missed deadline."""
        error = AttemptTimeoutError(f"An attempt took longer than {self._timeout_s} s.")
        error.was_sent = self.was_sent
        return error


class Scope:
    """Part of a request, ended by the deadline or an interruption, whichever comes first.

    Raises DeadlineExceeded or ClosedError instead of the exception of its body when it is ended.
    Works like `asyncio.timeout`, without its overhead, because each request enters at least one.
    """

    __slots__ = (
        "_cancel_handle",
        "_cancelling",
        "_deadline",
        "_has_cancelled",
        "_interruption",
        "_task",
    )

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._interruption: str | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._cancel_handle: asyncio.Handle | None = None
        self._has_cancelled = False

    def interrupt(self, reason: str) -> None:
        """End the body with ClosedError."""
        task = self._task
        if task is not None and self._interruption is None and not self._has_cancelled:
            self._interruption = reason
            if self._cancel_handle is not None:
                self._cancel_handle.cancel()
            # Not at once: if the body itself interrupts, the cancellation could outlive it.
            self._cancel_handle = task.get_loop().call_soon(self._cancel_task)

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("A request must run in a task.")
        self._task = task
        self._cancelling = task.cancelling()
        deadline = self._deadline
        if deadline.loop_time is not None:
            self._cancel_handle = task.get_loop().call_at(deadline.loop_time, self._cancel_task)
        if deadline.registry is not None:
            deadline.registry.add_scope(self)
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if self._cancel_handle is not None:
            self._cancel_handle.cancel()
        if self._deadline.registry is not None:
            self._deadline.registry.discard_scope(self)
        # Was the task cancelled by this scope alone, or by someone else too?
        is_ours = self._has_cancelled and task is not None and task.uncancel() <= self._cancelling
        if is_ours and isinstance(error, asyncio.CancelledError):
            if self._interruption is None:
                raise self._deadline.error() from error
            raise ClosedError(self._interruption) from error
        # Closing the session made the body fail: report the cause, not the effect.
        if self._interruption is not None and isinstance(error, Exception):
            raise ClosedError(self._interruption) from error

    def _cancel_task(self) -> None:
        if self._task is not None:
            self._has_cancelled = True
            self._task.cancel()
