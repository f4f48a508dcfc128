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

    __slots__ = ("_describe", "_interruptions", "_loop_time", "_timeout_s")

    def __init__(
        self,
        describe: Callable[[], str],
        timeout_s: float | None,
        interruptions: Interruptions | None = None,
    ) -> None:
        self._describe = describe
        self._timeout_s = timeout_s
        self._loop_time = None
        if timeout_s is not None:
            self._loop_time = asyncio.get_running_loop().time() + timeout_s
        self._interruptions = interruptions

    @property
    def loop_time(self) -> float | None:
        """The moment on the clock of the loop."""
        return self._loop_time

    def scope(self) -> "Scope":
        """Return a context manager, to be used once, whose body ends at the deadline."""
        return Scope(self, self._interruptions)

    def error(self) -> DeadlineExceeded:
        """Return the error that says that it is over."""
        return DeadlineExceeded(f"{self._describe()} was not done within {self._timeout_s} s.")


class Scope:
    """A part of a request, ended by the deadline or by an interruption, whichever is first.

    Raises DeadlineExceeded or ClosedError instead of what its body raises when it is ended.
    """

    __slots__ = ("_deadline", "_interruption", "_interruptions", "_timeout")

    def __init__(self, deadline: Deadline, interruptions: Interruptions | None) -> None:
        self._deadline = deadline
        self._interruptions = interruptions
        self._interruption: str | None = None
        self._timeout = asyncio.timeout_at(deadline.loop_time)

    def interrupt(self, reason: str) -> None:
        """End the body with ClosedError."""
        if self._interruption is None:
            self._interruption = reason
            # A deadline that has already struck cannot be set anew, and need not be.
            if not self._timeout.expired():
                self._timeout.reschedule(asyncio.get_running_loop().time())

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        if self._interruptions is not None:
            self._interruptions.add_scope(self)
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._interruptions is not None:
            self._interruptions.discard_scope(self)
        try:
            await self._timeout.__aexit__(error_type, error, traceback)
        except TimeoutError as expired:
            raise self._error() from expired
        # What the body met when its session was closed under it is an effect, not the cause.
        if self._interruption is not None and isinstance(error, Exception):
            raise ClosedError(self._interruption) from error

    def _error(self) -> Exception:
        if self._interruption is None:
            return self._deadline.error()
        return ClosedError(self._interruption)
