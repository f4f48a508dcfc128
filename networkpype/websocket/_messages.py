"""Iterate over the messages of a WebSocket."""

from collections.abc import AsyncGenerator, Callable, Coroutine
from types import TracebackType
from typing import Any

from networkpype.websocket.response import WebSocketResponse

__all__ = ("Messages",)


class Messages(AsyncGenerator[WebSocketResponse, None]):
    """Messages until the end; a cancelled `anext()` does not end them, as it ends a generator."""

    def __init__(self, receive: Callable[[], Coroutine[Any, Any, WebSocketResponse]]) -> None:
        self._receive = receive

    def __anext__(self) -> Coroutine[Any, Any, WebSocketResponse]:
        # Not a coroutine function, to save one coroutine per message.
        return self._receive()

    async def asend(self, value: None) -> WebSocketResponse:  # noqa: ARG002  (interface)
        """Do the same as `anext()`."""
        return await self._receive()

    async def athrow(
        self,
        kind: type[BaseException] | BaseException,
        value: BaseException | object = None,
        traceback: TracebackType | None = None,  # noqa: ARG002  (interface)
    ) -> Any:
        """End the iteration and raise the exception."""
        await self.aclose()
        if isinstance(kind, BaseException):
            raise kind
        raise value if isinstance(value, BaseException) else kind()

    async def aclose(self) -> None:
        """End the iteration."""
        self._receive = _end


async def _end() -> WebSocketResponse:
    raise StopAsyncIteration
