"""Preparation of a request while capacity is held for it.

A pre-processor or an auth may send requests of its own: for a token, for the server's time. These
may need the very capacity that the outer request holds, and the two would deadlock. So the inner
request releases the capacity of the outer one, which is then admitted again.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar, Token
from typing import Self, TypeVar

from networkpype.throttler.throttler import AsyncThrottler, Hold

__all__ = ("Preparation", "prepare_and_send", "release_outer_hold")

RequestT = TypeVar("RequestT")
ResultT = TypeVar("ResultT")


class Preparation:
    """Mark the code that prepares a request while `hold` holds capacity for it."""

    __slots__ = ("_hold", "_is_finished", "_throttler", "_token", "was_released")

    def __init__(self, throttler: AsyncThrottler, hold: Hold) -> None:
        self._throttler = throttler
        self._hold = hold
        self._is_finished = False
        self._token: Token[Preparation | None] | None = None
        self.was_released = False

    def __enter__(self) -> Self:
        self._token = _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        # A task that was started in the block may outlive it, with a copy of the context.
        self._is_finished = True
        if self._token is not None:
            _current.reset(self._token)

    async def release(self, throttler: AsyncThrottler | None) -> None:
        """Refund the hold if it is one of `throttler` (None: any) and still needed."""
        is_affected = throttler is None or throttler is self._throttler
        if is_affected and not self._is_finished and not self.was_released:
            self.was_released = True
            await self._hold.__aexit__(None, None, None)


_current: ContextVar[Preparation | None] = ContextVar("networkpype_preparation", default=None)


async def release_outer_hold(throttler: AsyncThrottler | None = None) -> None:
    """Release what the surrounding preparation holds, if any, of `throttler` (None: any)."""
    preparation = _current.get()
    if preparation is not None:
        await preparation.release(throttler)


async def prepare_and_send(
    throttler: AsyncThrottler,
    limit_id: str,
    priority: float,
    *,
    weight: int = 1,
    prepare: Callable[[], Awaitable[RequestT]],
    send: Callable[[RequestT, Hold], Awaitable[ResultT]],
) -> ResultT:
    """Wait for admission, prepare a request and send it.

    If the capacity is released during the preparation, prepare once more, because the first
    signature may have expired. If it is released again, send what was prepared last.
    """
    for _ in range(2):
        async with throttler.hold(limit_id, priority=priority, weight=weight) as hold:
            with Preparation(throttler, hold) as preparation:
                prepared = await prepare()
            if not preparation.was_released:
                return await send(prepared, hold)
    async with throttler.hold(limit_id, priority=priority, weight=weight) as hold:
        return await send(prepared, hold)
