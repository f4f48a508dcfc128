"""A WebSocket connection on an aiohttp session."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, auto
from functools import partial
from ssl import SSLContext
from typing import Any

import aiohttp
from aiohttp import WSMsgType

from networkpype._deadline import Deadline
from networkpype._log import get_logger
from networkpype._session import SessionSource
from networkpype._urls import redact_url
from networkpype.exceptions import ConfigurationError, ConnectionStateError, DisconnectedError
from networkpype.websocket._heartbeat import HeartbeatOptions, check_heartbeat
from networkpype.websocket._live_socket import LiveSocket
from networkpype.websocket._socket import DISCONNECTED_TEXT, open_websocket
from networkpype.websocket._source import Source
from networkpype.websocket._tasks import BackgroundTasks
from networkpype.websocket.buffer import ReceiveBuffer
from networkpype.websocket.json_codec import JSONCodec
from networkpype.websocket.request import WebSocketRequest
from networkpype.websocket.response import WebSocketResponse

__all__ = ("DEFAULT_CLOSE_TIMEOUT_SECONDS", "DEFAULT_MAX_MSG_SIZE", "WebSocketConnection")

DEFAULT_MAX_MSG_SIZE = 4 * 2**20
DEFAULT_CLOSE_TIMEOUT_SECONDS = 5.0


class _State(Enum):
    DISCONNECTED = auto()
    CONNECTING = auto()
    # Open, or lost and not reported yet: the next receive() raises the error.
    CONNECTED = auto()
    CLOSING = auto()


class WebSocketConnection:
    """Connect, send and receive on a session that belongs to the caller or to a factory.

    Without a `receive_buffer` (see `connect()`), the socket is read only during `receive()`. This
    is fastest, but a slow receiver slows the server down and delays the answers to pings.
    """

    def __init__(
        self,
        aiohttp_client_session: aiohttp.ClientSession | SessionSource,
        *,
        json_codec: JSONCodec | None = None,
    ) -> None:
        self._codec = JSONCodec() if json_codec is None else json_codec
        self._encode = self._codec.encode
        self._source = Source(aiohttp_client_session)
        self._state = _State.DISCONNECTED
        # Set in the states CONNECTED and CLOSING.
        self._live: LiveSocket | None = None
        self._last_recv_time = 0.0
        self._dropped_before = 0
        self._close_timeout = DEFAULT_CLOSE_TIMEOUT_SECONDS
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handshake_done: asyncio.Event | None = None
        self._closing: asyncio.Task[None] | None = None
        self._tasks = BackgroundTasks()
        self._make_live = partial(
            LiveSocket,
            codec=self._codec,
            tasks=self._tasks,
            send=self.send,
        )

    @classmethod
    def logger(cls) -> logging.Logger:
        """Return the logger of this module."""
        return get_logger(__name__)

    @property
    def connected(self) -> bool:
        """Whether the WebSocket is open, as far as known without reading."""
        return self._live is not None and self._live.is_connected

    @property
    def last_recv_time(self) -> float:
        """The time of the last data message, in seconds since the epoch; 0.0 before it."""
        live = self._live
        return self._last_recv_time if live is None else live.last_recv_time

    @property
    def dropped_count(self) -> int:
        """The number of messages that receive buffers have dropped or replaced."""
        live = self._live
        return self._dropped_before + (0 if live is None else live.dropped_count)

    # Over 40 lines: the options are spelled out.
    async def connect(
        self,
        ws_url: str,
        ping_timeout: float | None = 10,
        auto_ping: bool = False,  # noqa: ARG002  (contract)
        message_timeout: float | None = None,
        ws_headers: Mapping[str, Any] | None = None,
        verify_ssl: bool = True,
        *,
        ssl: SSLContext | aiohttp.Fingerprint | bool | None = None,
        proxy: str | None = None,
        proxy_headers: Mapping[str, str] | None = None,
        protocols: Iterable[str] = (),
        compress: int = 0,
        max_msg_size: int = DEFAULT_MAX_MSG_SIZE,
        data_timeout: float | None = None,
        close_timeout: float = DEFAULT_CLOSE_TIMEOUT_SECONDS,
        receive_buffer: ReceiveBuffer | None = None,
        heartbeat: HeartbeatOptions | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the WebSocket; all times are in seconds.

        A ping is sent after `ping_timeout` of silence, and the connection is lost if no frame
        arrives within half that time; None or 0 turns this off. `message_timeout` limits each
        `receive()`. The connection is lost after `data_timeout` without data. Pings are answered
        whatever `auto_ping` is. `ssl` takes precedence over `verify_ssl`. A message above
        `max_msg_size` bytes (0: no limit) closes the connection with 1009. `close_timeout` limits
        the closing handshake. A jump of `wall_clock` (the machine was suspended) makes the
        connection ping at once.

        With `heartbeat=(seconds, request, is_answer)`, `request` is sent every `seconds`. A
        response for which `is_answer` is true is not received; it counts as data. If there is none
        by the next time while a receiver waits, the connection is lost.
        Raises ConnectionStateError (a RuntimeError) if not disconnected, a TransportError if
        connecting fails, ClosedError if the session is closed or `disconnect()` is called.
        """
        check_heartbeat(heartbeat)
        websocket = await self._handshake(
            ws_url,
            headers=ws_headers,
            ssl=_tls_option(ssl, verify_ssl),
            proxy=proxy,
            proxy_headers=proxy_headers,
            protocols=tuple(protocols),
            compress=compress,
            max_msg_size=max_msg_size,
            timeout=aiohttp.ClientWSTimeout(ws_close=close_timeout),
        )
        self._close_timeout = close_timeout
        self._live = self._make_live(
            websocket,
            message_timeout=message_timeout,
            ping_timeout=ping_timeout or None,
            data_timeout=data_timeout,
            receive_buffer=receive_buffer,
            last_recv_time=self._last_recv_time,
            wall_clock=wall_clock,
            heartbeat=heartbeat,
        )

    async def disconnect(self) -> None:
        """Close the WebSocket; a pending `receive()` raises DisconnectedError."""
        self._leave_dead_loop()
        self._source.interrupt(DISCONNECTED_TEXT)
        await self.drop()

    async def drop(self) -> None:
        """Close the WebSocket, but let the scopes of `deadline()` go on."""
        if self._handshake_done is not None:
            await self._handshake_done.wait()
        elif self._state is _State.CONNECTED and self._live is not None:
            if self._live.end is None:
                self._state = _State.CLOSING
                self._closing = self._tasks.start(self._close(self._live))
            else:
                self._forget(self._live)
        if self._closing is not None:
            # Cancelling the caller does not cancel the closing handshake, which has a timeout.
            await asyncio.shield(self._closing)

    async def send(self, request: WebSocketRequest) -> None:
        """Send `request`; wait only while the socket is not writable."""
        self.check_open()
        await request.send_with_connection(self)

    def check_open(self) -> None:
        """Raise what `send()` would raise without a connection."""
        end = self._open().end
        if end is not None:
            raise end

    def hold_messages(self) -> None:
        """Read on without a receiver, to answer pings, until `release_messages()`."""
        if self._live is not None:
            self._live.hold_messages()

    async def release_messages(self) -> None:
        """Read as before `hold_messages()`; `receive()` returns what came in the meantime."""
        if self._live is not None:
            await self._live.release_messages()

    def take_messages(self) -> list[WebSocketResponse]:
        """Return the messages that were read and not received."""
        return [] if self._live is None else self._live.take_messages()

    def deadline(self, describe: Callable[[], str], timeout_s: float | None = None) -> Deadline:
        """Return a deadline whose scopes end on `disconnect()` and when the factory closes."""
        self._leave_dead_loop()
        return Deadline(describe, timeout_s, self._source)

    async def send_json(self, payload: Any) -> None:
        """Send `payload` as a text message in JSON."""
        text = self._encode(payload)
        await self._open().send(WSMsgType.TEXT, text.encode() if isinstance(text, str) else text)

    async def send_text(self, text: str) -> None:
        """Send a text message."""
        await self._open().send(WSMsgType.TEXT, text.encode())

    async def send_bytes(self, data: bytes) -> None:
        """Send a binary message."""
        await self._open().send(WSMsgType.BINARY, data)

    # Requests that were written for 1.1 call these two.
    async def _send_json(self, payload: Any) -> None:
        await self.send_json(payload)

    async def _send_plain_text(self, payload: str) -> None:
        await self.send_text(payload)

    async def ping(self) -> None:
        """Send a ping; `receive()` does not return its pong."""
        await self._open().send(WSMsgType.PING, b"")

    # A coroutine function, as in 1.1.
    async def receive(self) -> WebSocketResponse | None:
        """Wait for the next data message; the result is never None. One receiver at a time.

        Raises ReceiveTimeoutError (a TimeoutError) and stays connected, WebSocketClosedError (a
        ConnectionError) once when the connection is lost, and DisconnectedError (a RuntimeError)
        if it is not connected or `disconnect()` is called.
        """
        live = self._live
        if live is None:
            raise DisconnectedError("WebSocket is not connected.")
        try:
            return await live.receive()
        except Exception as error:
            if error is live.end and self._state is _State.CONNECTED:
                self._forget(live)
            raise

    def _leave_dead_loop(self) -> None:
        """Forget a WebSocket whose loop is not running any more: nothing can close it."""
        running = asyncio.get_running_loop()
        if self._loop is running or (self._loop is not None and self._loop.is_running()):
            return
        self._loop = running
        if self._live is not None:
            self._forget(self._live)
        self._state = _State.DISCONNECTED
        self._handshake_done = self._closing = None
        self._source.abandon()

    def _check_disconnected(self) -> None:
        if self._state is _State.CONNECTED and self._live is not None and self._live.end is None:
            raise ConnectionStateError("WebSocket is connected.")
        if self._state in {_State.CONNECTING, _State.CLOSING}:
            raise ConnectionStateError(f"WebSocket is {self._state.name.lower()}.")

    async def _handshake(self, ws_url: str, **options: Any) -> aiohttp.ClientWebSocketResponse:
        self._leave_dead_loop()
        self._check_disconnected()
        session = self._source.session()
        if self._live is not None:
            self._forget(self._live)
        self._state = _State.CONNECTING
        done = asyncio.Event()
        self._handshake_done = done
        websocket = None
        try:
            async with self.deadline(lambda: f"Connecting to {redact_url(ws_url)}").scope():
                websocket = await open_websocket(session, ws_url, autoping=False, **options)
        finally:
            self._handshake_done = None
            done.set()
            self._state = _State.DISCONNECTED if websocket is None else _State.CONNECTED
        return websocket

    def _open(self) -> LiveSocket:
        if self._live is None:
            raise DisconnectedError("WebSocket is not connected.")
        return self._live

    def _forget(self, live: LiveSocket) -> None:
        """Return to the state before `connect()`, if `live` is the socket of now."""
        if self._live is live:
            self._dropped_before += live.dropped_count
            self._last_recv_time = live.last_recv_time
            self._live = None
            self._state = _State.DISCONNECTED

    async def _close(self, live: LiveSocket) -> None:
        try:
            await live.close(self._close_timeout)
        finally:
            self._closing = None
            self._forget(live)


def _tls_option(
    ssl: SSLContext | aiohttp.Fingerprint | bool | None, verify_ssl: bool
) -> SSLContext | aiohttp.Fingerprint | bool:
    if ssl is not None and not verify_ssl:
        raise ConfigurationError("Give either ssl or verify_ssl=False, not both.")
    return verify_ssl if ssl is None else ssl
