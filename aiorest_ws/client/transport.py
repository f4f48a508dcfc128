"""The socket under a client, and the seam at which another one can be put."""

from collections.abc import Awaitable, Callable, Mapping
from ssl import SSLContext
from typing import Protocol

import aiohttp

from networkpype.websocket.connection import WebSocketConnection
from networkpype.websocket.json_codec import JSONCodec

__all__ = ("OpenTransport", "Transport", "websocket_opener")

_PING_SECONDS = 20.0


class Transport(Protocol):
    """One open connection.

    A lost connection is a `networkpype.exceptions.WebSocketClosedError` (with `code` and `reason`)
    or another ConnectionError from `receive()`. `receive()` has one caller at a time.
    """

    async def send(self, message: str | bytes) -> None:
        """Send a text or a binary message; wait only while the socket is not writable."""

    async def receive(self) -> str | bytes:
        """Return the next message."""

    async def close(self) -> None:
        """Close the connection; may be called twice."""


# Opens one connection with these headers. A test gives its own to `Client`.
OpenTransport = Callable[[Mapping[str, str]], Awaitable[Transport]]


def _same(text: str) -> str:
    return text


class _WebSocket:
    """A connection of networkpype with a session of its own."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self.connection = WebSocketConnection(session, json_codec=JSONCodec(decode=_same))

    async def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            await self.connection.send_text(message)
        else:
            await self.connection.send_bytes(message)

    async def receive(self) -> str | bytes:
        response = await self.connection.receive()
        message: str | bytes = b"" if response is None else response.data
        return message

    async def close(self) -> None:
        await self.connection.disconnect()
        await self._session.close()


def websocket_opener(url: str, ssl: SSLContext | None) -> OpenTransport:
    """Return a function that opens WebSockets to `url`.

    Silence, and a jump of the machine's clock, make the connection ping.
    """

    async def open_websocket(headers: Mapping[str, str]) -> Transport:
        websocket = _WebSocket(aiohttp.ClientSession())
        try:
            await websocket.connection.connect(
                url, ping_timeout=_PING_SECONDS, ws_headers=headers, ssl=ssl
            )
        except BaseException:
            await websocket.close()
            raise
        return websocket

    return open_websocket
