"""Keep a connection open, and put messages on it."""

import asyncio
import base64
import inspect
import logging
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from typing import Any, Protocol

import msgspec

from aiorest_ws.client.errors import ClientError, ConnectionLost, Unauthorized
from aiorest_ws.client.transport import OpenTransport, Transport
from networkpype.exceptions import WebSocketClosedError, WebSocketHandshakeError
from networkpype.websocket.reconnect import ReconnectPolicy

__all__ = ("Link", "Listener", "State", "Token")

_LOGGER = logging.getLogger(__name__)
_WINDOW = re.compile(r"retry (\d{1,9})-(\d{1,9})")
_GOING_AWAY = 1012
_UNAUTHORIZED_CODE, _FORBIDDEN_CODE = 4401, 4403
_UNAUTHORIZED_STATUS = 401

Token = str | Callable[[], str | Awaitable[str]] | None


class State(Enum):
    """Where a client is in its life; CLOSED is final."""

    IDLE = "idle"
    CONNECTING = "connecting"
    OPEN = "open"
    WAITING = "waiting"
    CLOSED = "closed"


class Listener(Protocol):
    """What a link reports to."""

    def opened(self) -> None:
        """A connection is open."""

    def took(self, message: dict[str, Any], size: int) -> None:
        """A message came."""

    def dropped(self) -> None:
        """The connection is gone; there may be another."""

    def ended(self, error: ClientError) -> None:
        """There will be no other connection."""


class Link:
    """Open a connection again and again until it is closed for good."""

    def __init__(
        self,
        open_transport: OpenTransport,
        *,
        token: Token,
        headers: Mapping[str, str],
        policy: ReconnectPolicy,
        binary: bool,
        listener: Listener,
    ) -> None:
        self.state = State.IDLE
        self.on_state: list[Callable[[State], object]] = []
        self._open_transport = open_transport
        self._token = token
        self._headers = headers
        self._policy = policy
        self._binary = binary
        self._listener = listener
        self._transport: Transport | None = None
        self._outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._refused_tokens = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Connect in the background."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Close the connection for good."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._end(ConnectionLost("The client was closed."))

    def send(self, message: dict[str, Any]) -> None:
        """Send `message` on the connection of now, in order; forget it if there is none."""
        if self.state is State.OPEN:
            self._outbox.put_nowait(message)

    def later(self, call: Callable[[], None]) -> None:
        """Call after the time that the first attempt to connect again would wait."""
        delay = self._policy.delay_seconds(1)
        asyncio.get_running_loop().call_later(delay, call)

    def _set_state(self, state: State) -> None:
        if state is self.state:
            return
        self.state = state
        for report in tuple(self.on_state):
            try:
                report(state)
            except Exception:
                _LOGGER.exception("A function given to on_state() failed.")

    def _end(self, error: ClientError) -> None:
        if self.state is not State.CLOSED:
            self._set_state(State.CLOSED)
            self._listener.ended(error)

    async def _run(self) -> None:
        attempt = 0
        loop = asyncio.get_running_loop()
        while True:
            attempt += 1
            self._set_state(State.CONNECTING)
            opened_at = loop.time()
            try:
                await self._live_once()
            except Exception as error:  # noqa: BLE001  the policy judges every error
                if self.state is State.OPEN and (
                    loop.time() - opened_at >= self._policy.stable_seconds
                ):
                    attempt, self._refused_tokens = 1, 0
                self._set_state(State.WAITING)
                self._listener.dropped()
                end = self._final(error, attempt)
                if end is not None:
                    self._end(end)
                    return
                await self._policy.sleep(self._delay(error, attempt))

    async def _live_once(self) -> None:
        """Open a connection and read until it ends, which raises."""
        async with asyncio.timeout(self._policy.connect_timeout_seconds):
            headers = dict(self._headers)
            token = await self._fetch_token()
            if token is not None:
                headers["Authorization"] = f"Bearer {token}"
            transport = await self._open_transport(headers)
        self._outbox = asyncio.Queue()
        writer = asyncio.create_task(self._write(transport, self._outbox))
        try:
            self._set_state(State.OPEN)
            self._listener.opened()
            while True:
                raw = await transport.receive()
                self._took(raw)
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            await transport.close()

    async def _fetch_token(self) -> str | None:
        if not callable(self._token):
            return self._token
        token = self._token()
        return await token if inspect.isawaitable(token) else token

    async def _write(self, transport: Transport, outbox: asyncio.Queue[dict[str, Any]]) -> None:
        while True:
            message = msgspec.json.encode(await outbox.get())
            try:
                await transport.send(
                    base64.b64encode(message) if self._binary else message.decode()
                )
            except ConnectionError:
                return  # The reader gets the reason.

    def _took(self, raw: str | bytes) -> None:
        text = base64.b64decode(raw) if isinstance(raw, bytes) else raw
        message = msgspec.json.decode(text)
        if isinstance(message, dict):
            self._listener.took(message, len(raw))

    def _final(self, error: Exception, attempt: int) -> ClientError | None:
        """Return the error to end with, or None to connect again."""
        code = error.code if isinstance(error, WebSocketClosedError) else None
        status = error.status if isinstance(error, WebSocketHandshakeError) else None
        if code == _UNAUTHORIZED_CODE or status == _UNAUTHORIZED_STATUS:
            self._refused_tokens += 1
            if callable(self._token) and self._refused_tokens == 1:
                return None
            end: ClientError = Unauthorized(401, "The server refused the token.")
        elif (
            code == _FORBIDDEN_CODE
            or self._policy.is_final(error)
            or not self._policy.allows_attempt(attempt)
        ):
            end = ConnectionLost(f"The connection has ended: {error}")
        else:
            return None
        end.__cause__ = error
        return end

    def _delay(self, error: Exception, attempt: int) -> float:
        if isinstance(error, WebSocketClosedError) and error.code == _GOING_AWAY:
            window = _WINDOW.fullmatch(error.reason)
            if window is not None:
                return random.uniform(int(window[1]), int(window[2])) / 1000  # noqa: S311
        return max(self._policy.delay_seconds(attempt), self._policy.retry_after_seconds(error))
