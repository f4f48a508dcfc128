"""The attempts of a request: when they are sent, and what their errors say."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from networkpype._deadline import AttemptDeadline, Deadline
from networkpype.exceptions import DeadlineExceeded, HTTPStatusError, TransportError
from networkpype.retry import RetryPolicy
from networkpype.throttler.throttler import Hold

__all__ = ("Attempt", "NullHold", "Progress")

T = TypeVar("T")


class NullHold:
    """The hold of a request without a limit."""

    def mark_sent(self) -> None: ...

    def count(self) -> None: ...

    def count_from_admission(self) -> None: ...


class Progress:
    """What is known of the attempts of a request."""

    __slots__ = ("_attempts", "_maybe_processed", "_was_sent")

    def __init__(self) -> None:
        self._attempts = 0
        self._was_sent = False
        self._maybe_processed = False

    def begin_attempt(self) -> None:
        self._attempts += 1
        self._maybe_processed |= self._was_sent
        self._was_sent = False

    def mark_sent(self) -> None:
        self._was_sent = True

    async def observe(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Make an attempt, and note how it has failed."""
        try:
            return await attempt()
        except (TransportError, HTTPStatusError) as error:
            self._was_sent = not RetryPolicy.is_unprocessed(error)
            raise

    def describe(self, error: TransportError | DeadlineExceeded | HTTPStatusError) -> None:
        """Let the error of the last attempt tell of all."""
        if not isinstance(error, DeadlineExceeded):
            self._was_sent = not RetryPolicy.is_unprocessed(error)
        error.attempts = self._attempts
        error.maybe_processed = self._maybe_processed or self._was_sent


class Attempt(NamedTuple):
    """The deadline of the request, and that of one attempt, if it has one."""

    deadline: Deadline
    own_deadline: AttemptDeadline | None
    progress: Progress

    def on_sent(self, hold: Hold | NullHold) -> Callable[[], None]:
        def mark_sent() -> None:
            self.progress.mark_sent()
            if self.own_deadline is not None:
                self.own_deadline.was_sent = True
            hold.mark_sent()

        return mark_sent
