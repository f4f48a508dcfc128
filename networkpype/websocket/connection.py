"""A WebSocket connection on an aiohttp session."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Mapping
from enum import Enum, auto
from ssl import SSLContext
from time import time
from typing import Any

import aiohttp
from aiohttp import WSMsgType

from networkpype._deadline import Deadline
from networkpype._session import SessionSource
from networkpype.exceptions import (
    ConfigurationError,
    ConnectionStateError,
    DisconnectedError,
    NetworkpypeError,
    ReceiveTimeoutError,
    WebSocketClosedError,
    map_client_error,
)
from networkpype.websocket._socket import (
    ABNORMAL_CLOSURE,
    BUSY_TEXT,
    DISCONNECTED_TEXT,
    close_websocket,
    closed_error,
    open_websocket,
)
from networkpype.websocket._source import Source
from networkpype.websocket._tasks import BackgroundTasks
from networkpype.websocket._watchdog import JUST_NOW, Watchdog
from networkpype.websocket.buffer import Inbox, ReceiveBuffer
from networkpype.websocket.json_codec import JSONCodec
from networkpype.websocket.request import WebSocketRequest
from networkpype.websocket.response import WebSocketResponse

__all__ = ("DEFAULT_CLOSE_TIMEOUT_SECONDS", "DEFAULT_MAX_MSG_SIZE", "WebSocketConnection")

DEFAULT_MAX_MSG_SIZE = 4 * 2**20
DEFAULT_CLOSE_TIMEOUT_SECONDS = 5.0

TEXT, BINARY, PING, PONG = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG


class _State(Enum):
    DISCONNECTED = auto()
    CONNECTING = auto()
    OPEN = auto()
    # Lost, but not reported yet: the next receive() raises the error.
    LOST = auto()
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
        codec = JSONCodec() if json_codec is None else json_codec
        self._decode = codec.decode
        self._decode_leniently = codec.decode_leniently
        self._encode = codec.encode
        self._source = Source(aiohttp_client_session)
        self._state = _State.DISCONNECTED
        # Set in state OPEN only.
        self._websocket: aiohttp.ClientWebSocketResponse | None = None
        self._loss: Exception | None = None
        self._last_recv_time = 0.0
        self._dropped_before = 0
        self._message_timeout: float | None = None
        self._close_timeout = DEFAULT_CLOSE_TIMEOUT_SECONDS
        self._handshake_done: asyncio.Event | None = None
        self._watchdog: Watchdog | None = None
        self._inbox: Inbox | None = None
        self._reader_task: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._tasks = BackgroundTasks()

    @property
    def connected(self) -> bool:
        """Whether the WebSocket is open, as far as known without reading."""
        websocket = self._websocket
        return (
            websocket is not None
            and not websocket.closed
            and websocket.get_extra_info("socket") is not None
        )

    @property
    def last_recv_time(self) -> float:
        """The time of the last data message, in seconds since the epoch; 0.0 before it."""
        return self._last_recv_time

    @property
    def dropped_count(self) -> int:
        """The number of messages that receive buffers have dropped or replaced."""
        inbox = self._inbox
        return self._dropped_before + (0 if inbox is None else inbox.dropped_count)

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
    ) -> None:
        """Open the WebSocket; all times are in seconds.

        A ping is sent after `ping_timeout` of silence, and the connection is lost if no frame
        arrives within half that time; None or 0 turns this off. `message_timeout` limits each
        `receive()`. The connection is lost after `data_timeout` without data. Pings are answered
        whatever `auto_ping` is. `ssl` takes precedence over `verify_ssl`. A message above
        `max_msg_size` bytes (0: no limit) closes the connection with 1009. `close_timeout` limits
        the closing handshake.

        Raises ConnectionStateError (a RuntimeError) if not disconnected, a TransportError if
        connecting fails, ClosedError if the session is closed or `disconnect()` is called.
        """
        self._check_disconnected()
        if ssl is not None and not verify_ssl:
            raise ConfigurationError("Give either ssl or verify_ssl=False, not both.")
        self._websocket = await self._handshake(
            ws_url,
            headers=ws_headers,
            ssl=verify_ssl if ssl is None else ssl,
            proxy=proxy,
            proxy_headers=proxy_headers,
            protocols=tuple(protocols),
            compress=compress,
            max_msg_size=max_msg_size,
            timeout=aiohttp.ClientWSTimeout(ws_close=close_timeout),
        )
        self._message_timeout = message_timeout
        self._close_timeout = close_timeout
        self._start_watchdog(ping_timeout or None, data_timeout)
        if receive_buffer is not None:
            self._inbox = Inbox(receive_buffer)
            self._reader_task = self._tasks.start(self._fill_buffer(self._inbox))

    async def disconnect(self) -> None:
        """Close the WebSocket; a pending `receive()` raises DisconnectedError."""
        self._source.interrupt(DISCONNECTED_TEXT)
        if self._handshake_done is not None:
            await self._handshake_done.wait()
        elif self._state is _State.LOST:
            self._reset()
        elif self._websocket is not None:
            self._state = _State.CLOSING
            self._closing = self._tasks.start(self._close(self._websocket))
            self._websocket = None
        if self._closing is not None:
            # Cancelling the caller does not cancel the closing handshake, which has a timeout.
            await asyncio.shield(self._closing)

    async def send(self, request: WebSocketRequest) -> None:
        """Send `request`; wait only while the socket is not writable."""
        self.check_open()
        await request.send_with_connection(self)

    def check_open(self) -> None:
        """Raise what `send()` would raise without a connection."""
        self._open_websocket()

    def deadline(self, describe: Callable[[], str], timeout_s: float | None = None) -> Deadline:
        """Return a deadline whose scopes end on `disconnect()` and when the factory closes."""
        return Deadline(describe, timeout_s, self._source)

    async def send_json(self, payload: Any) -> None:
        """Send `payload` as a text message in JSON."""
        text = self._encode(payload)
        await self._send(WSMsgType.TEXT, text.encode() if isinstance(text, str) else text)

    async def send_text(self, text: str) -> None:
        """Send a text message."""
        await self._send(WSMsgType.TEXT, text.encode())

    async def send_bytes(self, data: bytes) -> None:
        """Send a binary message."""
        await self._send(WSMsgType.BINARY, data)

    async def ping(self) -> None:
        """Send a ping; `receive()` does not return its pong."""
        await self._send(WSMsgType.PING, b"")

    def receive(self) -> Coroutine[Any, Any, WebSocketResponse | None]:
        """Wait for the next data message; the result is never None. One receiver at a time.

        Raises ReceiveTimeoutError (a TimeoutError) and stays connected, WebSocketClosedError (a
        ConnectionError) once when the connection is lost, and DisconnectedError (a RuntimeError)
        if it is not connected or `disconnect()` is called.
        """
        # Not a coroutine function, to save one coroutine per message.
        if self._message_timeout is not None:
            return self._receive_in_time(self._message_timeout)
        return self._read() if self._inbox is None else self._receive_buffered(self._inbox)

    def _check_disconnected(self) -> None:
        if self._state not in {_State.DISCONNECTED, _State.LOST}:
            name = "connected" if self._state is _State.OPEN else self._state.name.lower()
            raise ConnectionStateError(f"WebSocket is {name}.")

    async def _handshake(self, ws_url: str, **options: Any) -> aiohttp.ClientWebSocketResponse:
        session = self._source.session()
        self._reset()
        self._state = _State.CONNECTING
        done = asyncio.Event()
        self._handshake_done = done
        websocket = None
        try:
            async with self.deadline(lambda: f"Connecting to {ws_url}").scope():
                websocket = await open_websocket(session, ws_url, autoping=False, **options)
        finally:
            self._handshake_done = None
            done.set()
            self._state = _State.DISCONNECTED if websocket is None else _State.OPEN
        return websocket

    def _start_watchdog(self, ping_timeout: float | None, data_timeout: float | None) -> None:
        self._watchdog = Watchdog(
            asyncio.get_running_loop(),
            ping_timeout=ping_timeout,
            data_timeout=data_timeout,
            on_silence=self._on_silence,
            on_dead=self._on_dead,
        )
        self._watchdog.start()

    async def _receive_in_time(self, seconds: float) -> WebSocketResponse:
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                return await (
                    self._read() if self._inbox is None else self._receive_buffered(self._inbox)
                )
        except TimeoutError as error:
            if scope.expired():
                raise ReceiveTimeoutError("Message receive timed out.") from error
            raise

    # The hot path: no timer and no task per message.
    async def _read(self) -> WebSocketResponse:
        websocket = self._websocket
        watchdog = self._watchdog
        if websocket is None or watchdog is None:
            raise self._mark_reported(self._not_open())
        if watchdog.waiting_since is not None:
            raise ConnectionStateError(BUSY_TEXT)
        watchdog.waiting_since = JUST_NOW
        try:
            while True:
                kind, data, extra = await websocket.receive()
                if kind is TEXT:
                    self._last_recv_time = time()
                    try:
                        return WebSocketResponse(self._decode(data))
                    except (ValueError, RecursionError):
                        return WebSocketResponse(self._decode_leniently(data))
                if kind is BINARY:
                    self._last_recv_time = time()
                    return WebSocketResponse(data)
                if kind is PING:
                    watchdog.saw_control_frame()
                    # If the pong cannot be sent, the next receive() raises the reason.
                    with contextlib.suppress(aiohttp.ClientError, OSError):
                        await websocket.pong(data)
                elif kind is PONG:
                    watchdog.saw_control_frame()
                else:
                    raise self._end_of_stream(websocket, kind, data, extra or "")
        finally:
            watchdog.waiting_since = None

    async def _receive_buffered(self, inbox: Inbox) -> WebSocketResponse:
        if inbox.is_receiving:
            raise ConnectionStateError(BUSY_TEXT)
        try:
            while (response := inbox.get_nowait()) is None:
                await inbox.wait()
        except Exception as error:
            if error is self._loss:
                self._reset()
            raise
        return response

    async def _fill_buffer(self, inbox: Inbox) -> None:
        try:
            while True:
                await inbox.put(await self._read())
        except Exception as error:  # noqa: BLE001  (raised by receive(), also if a key function failed)
            self._mark_lost(error)
            inbox.end(error)

    async def _send(self, kind: WSMsgType, data: bytes) -> None:
        websocket = self._open_websocket()
        try:
            await websocket.send_frame(data, kind)
        except (aiohttp.ClientError, OSError) as error:
            raise map_client_error(error) from error

    def _open_websocket(self) -> aiohttp.ClientWebSocketResponse:
        if self._websocket is None:
            raise self._not_open()
        return self._websocket

    def _not_open(self) -> Exception:
        """Return the error for a missing connection, without marking a loss as reported."""
        if self._loss is not None:
            return self._loss
        return DisconnectedError("WebSocket is not connected.")

    def _end_of_stream(
        self, websocket: aiohttp.ClientWebSocketResponse, kind: WSMsgType, data: object, extra: str
    ) -> Exception:
        """Return the error for the end of the stream."""
        if self._websocket is websocket:
            self._mark_lost(closed_error(websocket, kind, data, extra))
        if self._loss is None:
            return DisconnectedError(DISCONNECTED_TEXT)
        return self._mark_reported(self._loss)

    def _mark_reported(self, error: Exception) -> Exception:
        """Clear the loss that `receive()` now raises, unless the buffer's reader raises it."""
        if error is self._loss and self._inbox is None:
            self._reset()
        return error

    def _mark_lost(self, error: Exception) -> None:
        """Drop the socket, and keep `error` for the next receive()."""
        websocket, self._websocket = self._websocket, None
        if websocket is None:
            return
        self._state = _State.LOST
        self._loss = error
        if self._watchdog is not None:
            self._watchdog.stop()
        if not websocket.closed:
            self._tasks.start(close_websocket(websocket, 0))

    def _on_dead(self, reason: str) -> None:
        self._mark_lost(
            WebSocketClosedError(
                f"WebSocket is lost. {reason} Close code = {ABNORMAL_CLOSURE}",
                code=ABNORMAL_CLOSURE,
                reason=reason,
            )
        )

    def _reset(self) -> None:
        if self._watchdog is not None:
            self._watchdog.stop()
        if self._inbox is not None:
            self._dropped_before += self._inbox.dropped_count
        self._state = _State.DISCONNECTED
        self._websocket = self._watchdog = self._inbox = self._reader_task = self._loss = None

    async def _close(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        inbox, reader_task = self._inbox, self._reader_task
        if inbox is not None:
            inbox.discard(DisconnectedError(DISCONNECTED_TEXT))
        try:
            await close_websocket(websocket, self._close_timeout)
            if reader_task is not None:
                await reader_task
        finally:
            self._closing = None
            self._reset()

    def _on_silence(self) -> None:
        self._tasks.start(self._ping_quietly())

    async def _ping_quietly(self) -> None:
        # A failure is ignored: the watchdog detects a dead peer.
        with contextlib.suppress(NetworkpypeError):
            await self.ping()
