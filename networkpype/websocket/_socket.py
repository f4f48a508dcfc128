"""aiohttp's WebSocket: made, closed, and what its end means."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import aiohttp
from aiohttp import WSCloseCode, WSMsgType

from networkpype.exceptions import WebSocketClosedError, map_client_error

__all__ = ("ABNORMAL_CLOSURE", "NO_STATUS_RECEIVED", "describe_end", "open_websocket", "shut")

# RFC 6455, section 7.1.5: what an endpoint reports when a close frame had no code, and when there
# was no close frame.
NO_STATUS_RECEIVED = 1005
ABNORMAL_CLOSURE = 1006

# What aiohttp closes a WebSocket for, beside a breach of the protocol (1002).
_FAULTS: Mapping[int, str] = {
    WSCloseCode.INVALID_TEXT: "a text message is not UTF-8",
    WSCloseCode.MESSAGE_TOO_BIG: "a message exceeds `max_msg_size`",
}


async def open_websocket(
    session: aiohttp.ClientSession, ws_url: str, **options: Any
) -> aiohttp.ClientWebSocketResponse:
    """Do the opening handshake; errors are those of this package."""
    try:
        websocket: aiohttp.ClientWebSocketResponse = await session.ws_connect(ws_url, **options)
    except (aiohttp.ClientError, OSError) as error:
        raise map_client_error(error) from error
    return websocket


async def shut(websocket: aiohttp.ClientWebSocketResponse, timeout_seconds: float) -> None:
    """Close with a closing handshake of at most `timeout_seconds`; 0 is at once."""
    # aiohttp's close() lets go of the socket when it is cancelled in the handshake, but not when
    # it still waits for a pending receive() to step back: then it has to be called again.
    while not websocket.closed:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await websocket.close()
        timeout_seconds = 0


def describe_end(
    websocket: aiohttp.ClientWebSocketResponse, kind: WSMsgType, data: Any, extra: str
) -> WebSocketClosedError:
    """Return the error for a message of aiohttp that is the last one; with its cause."""
    if kind is WSMsgType.CLOSE:
        code = data or NO_STATUS_RECEIVED
        return WebSocketClosedError(
            f"WebSocket is closed by the server. Close code = {code} {extra}".rstrip(),
            code=code,
            reason=extra,
        )
    if isinstance(data, aiohttp.WebSocketError):
        # We closed it ourselves, for what the server sent: too big, not UTF-8, not a frame.
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
