"""One open WebSocket: its reader, its buffer and its watchdog."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from time import time
from typing import Any

import aiohttp
from aiohttp import WSMsgType

from networkpype.exceptions import (
    ConnectionStateError,
    DisconnectedError,
    NetworkpypeError,
    ReceiveTimeoutError,
    WebSocketClosedError,
    map_client_error,
)
from networkpype.websocket._heartbeat import Heartbeat, HeartbeatOptions
from networkpype.websocket._late_look import LateLook
from networkpype.websocket._socket import (
    ABNORMAL_CLOSURE,
    BUSY_TEXT,
    DISCONNECTED_TEXT,
    close_websocket,
    closed_error,
)
from networkpype.websocket._tasks import BackgroundTasks
from networkpype.websocket._watchdog import JUST_NOW, Watchdog
from networkpype.websocket.buffer import Inbox, ReceiveBuffer
from networkpype.websocket.json_codec import JSONCodec
from networkpype.websocket.request import WebSocketRequest
from networkpype.websocket.response import WebSocketResponse

__all__ = ("LiveSocket",)

# How many messages are kept while nobody can receive.
HELD_MESSAGES = 65_536

TEXT, BINARY, PING, PONG = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG


class LiveSocket:
    """Read, buffer and watch one WebSocket, from its handshake to its end.

    `end` is why it ended, which `receive()` raises; None while it is open.
    """

    def __init__(
        self,
        websocket: aiohttp.ClientWebSocketResponse,
        *,
        codec: JSONCodec,
        tasks: BackgroundTasks,
        message_timeout: float | None,
        ping_timeout: float | None,
        data_timeout: float | None,
        receive_buffer: ReceiveBuffer | None,
        last_recv_time: float,
        wall_clock: Callable[[], float],
        heartbeat: HeartbeatOptions | None,
        send: Callable[[WebSocketRequest], Awaitable[None]],
    ) -> None:
        self._websocket = websocket
        self._decode = codec.decode
        self._decode_leniently = codec.decode_leniently
        self._tasks = tasks
        self._message_timeout = message_timeout
        self._watchdog = Watchdog(
            asyncio.get_running_loop(),
            ping_timeout=ping_timeout,
            data_timeout=data_timeout,
            on_silence=self._on_silence,
            on_dead=self._on_dead,
            wall_clock=wall_clock,
        )
        self._inbox: Inbox | None = None
        self._reader: asyncio.Task[None] | None = None
        self._is_held = False
        self.end: Exception | None = None
        self.last_recv_time = last_recv_time
        self._watchdog.start()
        # Takes the answers to heartbeats.
        self._takes: Callable[[WebSocketResponse], bool] | None = None
        self._beating: asyncio.Task[None] | None = None
        if heartbeat is not None:
            self._beat(heartbeat, send)
        if receive_buffer is not None:
            self._inbox = Inbox(receive_buffer)
            self._reader = tasks.start(self._fill(self._inbox))

    @property
    def is_connected(self) -> bool:
        """Whether it is open, as far as known without reading."""
        websocket = self._websocket
        return (
            self.end is None
            and not websocket.closed
            and websocket.get_extra_info("socket") is not None
        )

    @property
    def dropped_count(self) -> int:
        """The number of messages that the buffer has dropped or replaced."""
        return 0 if self._inbox is None else self._inbox.dropped_count

    def receive(self) -> Coroutine[Any, Any, WebSocketResponse]:
        """Wait for the next data message, or raise `end`."""
        # Not a coroutine function, to save one coroutine per message.
        if self._message_timeout is not None:
            return self._receive_in_time(self._message_timeout)
        return self._read() if self._inbox is None else self._receive_buffered(self._inbox)

    async def send(self, kind: WSMsgType, data: bytes) -> None:
        """Send a frame; wait only while the socket is not writable."""
        if self.end is not None:
            raise self.end
        try:
            await self._websocket.send_frame(data, kind)
        except (aiohttp.ClientError, OSError) as error:
            raise map_client_error(error) from error

    def hold_messages(self) -> None:
        """Read on without a receiver, to answer pings, until `release_messages()`."""
        if self._inbox is None:
            self._inbox = Inbox(ReceiveBuffer(max_messages=HELD_MESSAGES))
            self._reader = self._tasks.start(self._fill(self._inbox))
            self._is_held = True
        else:
            self._inbox.widen(HELD_MESSAGES)

    async def release_messages(self) -> None:
        """Read as before `hold_messages()`; `receive()` returns what came in the meantime."""
        inbox, reader = self._inbox, self._reader
        if inbox is None or reader is None:
            return
        if not self._is_held:
            inbox.narrow()
            return
        reader.cancel()
        await asyncio.wait((reader,))
        self._is_held = False
        self._reader = None
        inbox.wake()

    def take_messages(self) -> list[WebSocketResponse]:
        """Return the messages that were read and not received."""
        return [] if self._inbox is None else self._inbox.take_all()

    async def close(self, timeout_seconds: float) -> None:
        """Close with a closing handshake; a pending `receive()` raises DisconnectedError."""
        self.end = DisconnectedError(DISCONNECTED_TEXT)
        self._stop_watching()
        if self._inbox is not None:
            self._inbox.discard(self.end)
        await close_websocket(self._websocket, timeout_seconds)
        if self._reader is not None:
            await self._reader

    async def _receive_in_time(self, seconds: float) -> WebSocketResponse:
        loop = asyncio.get_running_loop()
        scope = asyncio.timeout(None)
        # A message that has arrived while the loop was blocked is in time.
        look = LateLook(loop, lambda: scope.reschedule(loop.time()))
        timer = loop.call_later(seconds, look.start)
        try:
            async with scope:
                return await (
                    self._read() if self._inbox is None else self._receive_buffered(self._inbox)
                )
        except TimeoutError as error:
            if scope.expired():
                raise ReceiveTimeoutError("Message receive timed out.") from error
            raise
        finally:
            timer.cancel()
            look.cancel()

    # The hot path: no timer and no task per message.
    async def _read(self) -> WebSocketResponse:
        if self.end is not None:
            raise self.end
        websocket = self._websocket
        watchdog = self._watchdog
        if watchdog.waiting_since is not None:
            raise ConnectionStateError(BUSY_TEXT)
        takes = self._takes
        watchdog.waiting_since = JUST_NOW
        try:
            while True:
                kind, data, extra = await websocket.receive()
                if kind is TEXT:
                    self.last_recv_time = time()
                    try:
                        response = WebSocketResponse(self._decode(data))
                    except (ValueError, RecursionError):
                        response = WebSocketResponse(self._decode_leniently(data))
                    if takes is None or not takes(response):
                        return response
                    watchdog.waiting_since = JUST_NOW
                elif kind is BINARY:
                    self.last_recv_time = time()
                    response = WebSocketResponse(data)
                    if takes is None or not takes(response):
                        return response
                    watchdog.waiting_since = JUST_NOW
                elif kind is PING:
                    watchdog.saw_control_frame()
                    # If the pong cannot be sent, the next receive() raises the reason.
                    with contextlib.suppress(aiohttp.ClientError, OSError):
                        await websocket.pong(data)
                elif kind is PONG:
                    watchdog.saw_control_frame()
                else:
                    if self.end is None:
                        self._lose(closed_error(websocket, kind, data, extra or ""))
                    raise self.end or AssertionError
        finally:
            watchdog.waiting_since = None

    async def _receive_buffered(self, inbox: Inbox) -> WebSocketResponse:
        if inbox.is_receiving:
            raise ConnectionStateError(BUSY_TEXT)
        while (response := inbox.get_nowait()) is None:
            if self._reader is None:
                # What was held has been received.
                self._inbox = None
                return await self._read()
            await inbox.wait()
        return response

    async def _fill(self, inbox: Inbox) -> None:
        try:
            while True:
                await inbox.put(await self._read())
        except Exception as error:  # noqa: BLE001  (raised by receive(), also if a key function failed)
            self._lose(error)
            inbox.end(error)

    def _lose(self, error: Exception) -> None:
        """Drop the socket, and keep `error` for receive()."""
        if self.end is not None:
            return
        self.end = error
        self._stop_watching()
        if not self._websocket.closed:
            self._tasks.start(close_websocket(self._websocket, 0))

    def _stop_watching(self) -> None:
        self._watchdog.stop()
        if self._beating is not None:
            self._beating.cancel()

    def _beat(
        self, options: HeartbeatOptions, send: Callable[[WebSocketRequest], Awaitable[None]]
    ) -> None:
        seconds, request, is_answer = options
        heartbeat = Heartbeat(
            seconds,
            partial(send, request) if isinstance(request, WebSocketRequest) else request,
            is_answer,
            is_waiting=lambda: self._watchdog.waiting_since is not None,
            on_dead=self._on_dead,
            on_error=self._lose,
        )
        self._takes = heartbeat.takes
        self._beating = self._tasks.start(heartbeat.run())

    def _on_dead(self, reason: str) -> None:
        self._lose(
            WebSocketClosedError(
                f"WebSocket is lost. {reason} Close code = {ABNORMAL_CLOSURE}",
                code=ABNORMAL_CLOSURE,
                reason=reason,
            )
        )

    def _on_silence(self) -> None:
        self._tasks.start(self._ping_quietly())

    async def _ping_quietly(self) -> None:
        # A failure is ignored: the watchdog detects a dead peer.
        with contextlib.suppress(NetworkpypeError):
            await self.send(WSMsgType.PING, b"")
