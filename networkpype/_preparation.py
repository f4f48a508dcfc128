"""Capacity that is held while a request is prepared, and given back when it must not be held.

To prepare a request may take requests of its own: for a token, for the server's time. They may
need the very capacity that the first one holds, so that the two would wait for each other.
"""

from contextvars import ContextVar, Token
from types import TracebackType
from typing import Protocol, Self

__all__ = ("Admission", "give_back", "is_preparing")


class Held(Protocol):
    """What `throttler.hold()` gives; to leave it unsent is to be refunded."""

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> object: ...


class Admission:
    """Mark the code that prepares a request while capacity is held for it."""

    __slots__ = ("_held", "_is_over", "_source", "_token", "was_given_back")

    def __init__(self, source: object, held: Held) -> None:
        self._source = source
        self._held = held
        self._is_over = False
        self._token: Token[Admission | None] | None = None
        self.was_given_back = False

    def __enter__(self) -> Self:
        self._token = _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        # A task that was started in here lives on with a copy of the context.
        self._is_over = True
        if self._token is not None:
            _current.reset(self._token)

    async def give_back(self, source: object) -> None:
        """Give the capacity back, if it is one of `source` (None: any) and still held."""
        is_meant = source is None or source is self._source
        if is_meant and not self._is_over and not self.was_given_back:
            self.was_given_back = True
            await self._held.__aexit__(None, None, None)


_current: ContextVar[Admission | None] = ContextVar("networkpype_admission", default=None)


def is_preparing() -> bool:
    """Tell whether this is called inside of the preparation of a request."""
    return _current.get() is not None


async def give_back(source: object = None) -> None:
    """Give back what the request holds, inside of whose preparation this is called."""
    admission = _current.get()
    if admission is not None:
        await admission.give_back(source)
