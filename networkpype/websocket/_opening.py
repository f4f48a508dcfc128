"""How a manager opens its WebSocket, each time anew."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from networkpype._urls import redact_url
from networkpype.websocket.connection import WebSocketConnection

__all__ = ("FreshHeaders", "FreshURL", "Opening")

Headers = Mapping[str, Any] | None

# A value, or a function or coroutine function that returns a fresh one.
FreshURL = str | Callable[[], str | Awaitable[str]]
FreshHeaders = Headers | Callable[[], Headers | Awaitable[Headers]]


class Opening:
    """Open `connection` with the URL and headers of now."""

    def __init__(
        self,
        connection: WebSocketConnection,
        ws_url: FreshURL,
        ws_headers: FreshHeaders,
        options: Mapping[str, Any],
    ) -> None:
        self._connection = connection
        self._ws_url = ws_url
        self._ws_headers = ws_headers
        self._options = options

    async def __call__(self, timeout_s: float | None) -> None:
        """Ask for URL and headers, and connect, within `timeout_s`."""
        async with self._connection.deadline(self._describe, timeout_s).scope():
            ws_url = await _fresh(self._ws_url)
            ws_headers = await _fresh(self._ws_headers)
            await self._connection.connect(
                ws_url, ws_headers=dict(ws_headers or {}), **self._options
            )

    def _describe(self) -> str:
        url = self._ws_url
        return "Connecting a WebSocket" if callable(url) else f"Connecting to {redact_url(url)}"


async def _fresh(value: Any) -> Any:
    result = value() if callable(value) else value
    return await result if inspect.isawaitable(result) else result
