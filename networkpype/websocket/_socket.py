"""Open and close aiohttp's WebSockets, and describe how they ended."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import aiohttp
from aiohttp import WSCloseCode, WSMsgType

from networkpype.exceptions import WebSocketClosedError, map_client_error

__all__ = (
    "ABNORMAL_CLOSURE",
    "BUSY_TEXT",
    "DISCONNECTED_TEXT",
    "NO_STATUS_RECEIVED",
    "close_websocket",
    "closed_error",
    "open_websocket",
)

# RFC 6455, section 7.1.5: the codes for a close frame without a code, and for no close frame.
NO_STATUS_RECEIVED = 1005
ABNORMAL_CLOSURE = 1006

# Why aiohttp closes a WebSocket, except for protocol errors (1002).
_FAULTS: Mapping[int, str] = {
    WSCloseCode.INVALID_TEXT: "a text message is not UTF-8",
    WSCloseCode.MESSAGE_TOO_BIG: "a message exceeds `max_msg_size`",
}
BUSY_TEXT = "Another task is already receiving from this WebSocket."
DISCONNECTED_TEXT = "WebSocket is disconnected."


async def open_websocket(
    session: aiohttp.ClientSession, ws_url: str, **options: Any
) -> aiohttp.ClientWebSocketResponse:
    """Do the opening handshake; raise only errors of this package."""
    try:
        websocket: aiohttp.ClientWebSocketResponse = await session.ws_connect(ws_url, **options)
    except (aiohttp.ClientError, OSError) as error:
        raise map_client_error(error) from error
    return websocket


async def close_websocket(
    websocket: aiohttp.ClientWebSocketResponse, timeout_seconds: float
) -> None:
    """Close with a closing handshake of at most `timeout_seconds`; 0 skips the handshake."""
    # When aiohttp's close() is cancelled in the handshake, it closes the socket. When it is
    # cancelled while it waits for a pending receive(), it does not, and must be called again.
    while not websocket.closed:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await websocket.close()
        timeout_seconds = 0


def closed_error(
    websocket: aiohttp.ClientWebSocketResponse, kind: WSMsgType, data: object, extra: str
) -> WebSocketClosedError:
    """Return the error, with its cause, for the last message from aiohttp."""
    if kind is WSMsgType.CLOSE:
        code = data if isinstance(data, int) and data else NO_STATUS_RECEIVED
        return WebSocketClosedError(
            f"WebSocket is closed by the server. Close code = {code} {extra}".rstrip(),
            code=code,
            reason=extra,
        )
    if isinstance(data, aiohttp.WebSocketError):
        # aiohttp closed it, because the server sent an invalid or oversized frame.
        fault = _FAULTS.get(data.code, "what it sent is not a WebSocket frame")
        error = WebSocketClosedError(
            f"WebSocket is closed for a fault of the server: {fault}. Close code = {data.code}",
            code=data.code,
            reason=fault,
        )
        error.__cause__ = data
        return error
    error = WebSocketClosedError(
        f"WebSocket is lost without a close frame. Close code = {ABNORMAL_CLOSURE}",
        code=ABNORMAL_CLOSURE,
    )
    error.__cause__ = data if isinstance(data, Exception) else websocket.exception()
    return error
