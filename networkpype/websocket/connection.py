"""One WebSocket on an aiohttp session."""

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
    describe_end,
    open_websocket,
    shut,
)
from networkpype.websocket._source import Source
from networkpype.websocket._watchdog import JUST_NOW, Watchdog
from networkpype.websocket.buffer import Inbox, ReceiveBuffer
from networkpype.websocket.json_codec import JSONCodec
from networkpype.websocket.request import WebSocketRequest
from networkpype.websocket.response import WebSocketResponse

__all__ = ("DEFAULT_CLOSE_TIMEOUT_SECONDS", "DEFAULT_MAX_MSG_SIZE", "WebSocketConnection")

DEFAULT_MAX_MSG_SIZE = 4 * 2**20
DEFAULT_CLOSE_TIMEOUT_SECONDS = 5.0


TEXT, BINARY = WSMsgType.TEXT, WSMsgType.BINARY
PING, PONG = WSMsgType.PING, WSMsgType.PONG


class _State(Enum):
    DISCONNECTED = auto()
    CONNECTING = auto()
    OPEN = auto()
    # The connection is gone, and nobody was told yet: the next receive() raises the reason.
    LOST = auto()
    CLOSING = auto()


class WebSocketConnection:
    """Connect, send and receive on a session: one that the caller keeps open, or a factory's.

    Without a `receive_buffer` (see `connect()`) the socket is read only while somebody receives,
    which is the fastest way, and a slow receiver slows the server down; pings wait as long.
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
        # Set in state OPEN, and only then.
        self._websocket: aiohttp.ClientWebSocketResponse | None = None
        self._loss: Exception | None = None
        self._last_recv_time = 0.0
        self._dropped_before = 0
        self._message_timeout: float | None = None
        self._close_timeout = DEFAULT_CLOSE_TIMEOUT_SECONDS
        self._handshake_over: asyncio.Event | None = None
        self._watchdog: Watchdog | None = None
        self._inbox: Inbox | None = None
        self._pump: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        # Kept here because a loop keeps weak references only.
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def connected(self) -> bool:
        """Whether the WebSocket is open, as far as is known without reading on."""
        websocket = self._websocket
        return (
            websocket is not None
            and not websocket.closed
            and websocket.get_extra_info("socket") is not None
        )

    @property
    def last_recv_time(self) -> float:
        """When the last data message was read, in seconds since the epoch; 0.0 at first."""
        return self._last_recv_time

    @property
    def dropped_count(self) -> int:
        """How many messages receive buffers have dropped or replaced so far."""
        inbox = self._inbox
        return self._dropped_before + (0 if inbox is None else inbox.dropped_count)

    # Longer than 40 lines because of its options, which are spelled out.
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

        After `ping_timeout` of silence a ping is sent, half of it later the connection is lost;
        None or 0 turns this off. `message_timeout` bounds each `receive()`, pings do not count;
        `data_timeout` is the time without data after which the connection is lost. Pings are
        answered whatever `auto_ping` says. `ssl`, when given, is what `verify_ssl` would decide.
        A message of more than `max_msg_size` bytes (0: no limit) ends the connection with 1009.
        The closing handshake gets `close_timeout`.

        Raises ConnectionStateError (a RuntimeError) when not disconnected, TransportError and its
        kin when there is no connection, ClosedError when the session is closed or `disconnect()`
        is called meanwhile.
        """
        if self._state not in {_State.DISCONNECTED, _State.LOST}:
            raise ConnectionStateError(
                "WebSocket is connected."
                if self._state is _State.OPEN
                else f"WebSocket is {self._state.name.lower()}."
            )
        if ssl is not None and not verify_ssl:
            raise ConfigurationError("Give either ssl or verify_ssl=False, not both.")
        session = self._source.session()
        self._reset()
        self._state = _State.CONNECTING
        over = asyncio.Event()
        self._handshake_over = over
        websocket = None
        try:
            async with self.deadline(lambda: f"Connecting to {ws_url}").scope():
                websocket = await open_websocket(
                    session,
                    ws_url,
                    headers=ws_headers,
                    ssl=verify_ssl if ssl is None else ssl,
                    proxy=proxy,
                    proxy_headers=proxy_headers,
                    protocols=tuple(protocols),
                    compress=compress,
                    max_msg_size=max_msg_size,
                    autoping=False,
                    timeout=aiohttp.ClientWSTimeout(ws_close=close_timeout),
                )
        finally:
            self._handshake_over = None
            over.set()
            self._state = _State.DISCONNECTED if websocket is None else _State.OPEN
        self._websocket = websocket
        self._message_timeout = message_timeout
        self._close_timeout = close_timeout
        self._watchdog = Watchdog(
            asyncio.get_running_loop(),
            ping_timeout=ping_timeout or None,
            data_timeout=data_timeout,
            on_silence=self._ping_soon,
            on_dead=self._give_up,
        )
        self._watchdog.start()
        if receive_buffer is not None:
            self._inbox = Inbox(receive_buffer)
            self._pump = self._spawn(self._fill(self._inbox))

    async def disconnect(self) -> None:
        """Close the WebSocket; a pending `receive()` raises DisconnectedError."""
        self._source.interrupt("WebSocket is disconnected.")
        if self._handshake_over is not None:
            await self._handshake_over.wait()
        elif self._state is _State.LOST:
            self._reset()
        elif self._websocket is not None:
            self._state = _State.CLOSING
            self._closing = self._spawn(self._close(self._websocket))
            self._websocket = None
        if self._closing is not None:
            # Whoever is cancelled here leaves the handshake to run to its end, within its timeout.
            await asyncio.shield(self._closing)

    async def send(self, request: WebSocketRequest) -> None:
        """Send `request`; waits only while the socket takes no more bytes."""
        self.check_open()
        await request.send_with_connection(self)

    def check_open(self) -> None:
        """Raise what `send()` would raise when there is no connection."""
        self._open_websocket()

    def deadline(self, describe: Callable[[], str], timeout_s: float | None = None) -> Deadline:
        """Return a deadline whose scopes end on `disconnect()`, and when the factory closes."""
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
        """Send a ping; its pong is not handed out."""
        await self._send(WSMsgType.PING, b"")

    def receive(self) -> Coroutine[Any, Any, WebSocketResponse | None]:
        """Wait for the next data message; it is never None here.

        Raises ReceiveTimeoutError (TimeoutError; the connection stays), WebSocketClosedError
        (ConnectionError) when the connection is lost, once, and DisconnectedError (RuntimeError)
        when it is not connected or `disconnect()` is called meanwhile. One at a time.
        """
        # Not a coroutine function itself: that would be one coroutine more per message.
        if self._message_timeout is not None:
            return self._receive_in_time(self._message_timeout)
        return self._read() if self._inbox is None else self._take(self._inbox)

    async def _receive_in_time(self, seconds: float) -> WebSocketResponse:
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                return await (self._read() if self._inbox is None else self._take(self._inbox))
        except TimeoutError as error:
            if scope.expired():
                raise ReceiveTimeoutError("Message receive timed out.") from error
            raise

    # The hot path: no timer and no task per message.
    async def _read(self) -> WebSocketResponse:
        websocket = self._websocket
        watchdog = self._watchdog
        if websocket is None or watchdog is None:
            raise self._told(self._not_open())
        if watchdog.waiting_since is not None:
            raise ConnectionStateError("WebSocket is being received from already.")
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
                    # If the socket takes no pong any more, the next receive() says so.
                    with contextlib.suppress(aiohttp.ClientError, OSError):
                        await websocket.pong(data)
                elif kind is PONG:
                    watchdog.saw_control_frame()
                else:
                    raise self._ended(websocket, kind, data, extra or "")
        finally:
            watchdog.waiting_since = None

    async def _take(self, inbox: Inbox) -> WebSocketResponse:
        if inbox.is_receiving:
            raise ConnectionStateError("WebSocket is being received from already.")
        try:
            while (response := inbox.get_nowait()) is None:
                await inbox.wait()
        except Exception as error:
            if error is self._loss:
                self._reset()
            raise
        return response

    async def _fill(self, inbox: Inbox) -> None:
        try:
            while True:
                await inbox.put(await self._read())
        except Exception as error:  # noqa: BLE001  (told to the receiver, a key function's too)
            self._lose(error)
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
        """Return what to raise for a connection that is not there; the loss stays to be told."""
        if self._loss is not None:
            return self._loss
        return DisconnectedError("WebSocket is not connected.")

    def _ended(
        self, websocket: aiohttp.ClientWebSocketResponse, kind: WSMsgType, data: Any, extra: str
    ) -> Exception:
        """Return what to raise for the end of the stream."""
        if self._websocket is websocket:
            self._lose(describe_end(websocket, kind, data, extra))
        if self._loss is None:
            return DisconnectedError("WebSocket is disconnected.")
        return self._told(self._loss)

    def _told(self, error: Exception) -> Exception:
        """Forget the loss that a receiver is told now; the receive buffer is no receiver."""
        if error is self._loss and self._inbox is None:
            self._reset()
        return error

    def _lose(self, error: Exception) -> None:
        """Give the socket up; `error` is kept for the next receive()."""
        websocket, self._websocket = self._websocket, None
        if websocket is None:
            return
        self._state = _State.LOST
        self._loss = error
        if self._watchdog is not None:
            self._watchdog.stop()
        if not websocket.closed:
            self._spawn(shut(websocket, 0))

    def _give_up(self, reason: str) -> None:
        self._lose(
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
        self._websocket = self._watchdog = self._inbox = self._pump = self._loss = None

    async def _close(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        inbox, pump = self._inbox, self._pump
        if inbox is not None:
            inbox.discard(DisconnectedError("WebSocket is disconnected."))
        try:
            await shut(websocket, self._close_timeout)
            if pump is not None:
                await pump
        finally:
            self._closing = None
            self._reset()

    def _ping_soon(self) -> None:
        self._spawn(self._ping_quietly())

    async def _ping_quietly(self) -> None:
        # Whether the peer is there is for the watchdog to say.
        with contextlib.suppress(NetworkpypeError):
            await self.ping()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
