"""WebSockets with limits, processors, auth and reconnection."""

import asyncio
import copy
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from ssl import SSLContext
from typing import Any

import aiohttp

from networkpype._preparation import prepare_and_send, release_outer_hold
from networkpype.auth import Auth
from networkpype.exceptions import AuthError, DisconnectedError, WebSocketClosedError
from networkpype.throttler.throttler import AsyncThrottler, Hold
from networkpype.websocket._recovery import BackOff, Recovery
from networkpype.websocket._socket import DISCONNECTED_TEXT
from networkpype.websocket.buffer import ReceiveBuffer
from networkpype.websocket.connection import (
    DEFAULT_CLOSE_TIMEOUT_SECONDS,
    DEFAULT_MAX_MSG_SIZE,
    WebSocketConnection,
)
from networkpype.websocket.processor.base import WebSocketPostProcessor, WebSocketPreProcessor
from networkpype.websocket.reconnect import ReconnectPolicy
from networkpype.websocket.request import WebSocketRequest
from networkpype.websocket.response import Gap, WebSocketResponse

__all__ = ("WebSocketManager",)


class WebSocketManager:
    """Send through limits, pre-processors and auth; receive through post-processors.

    With a `reconnect` policy, `receive()` reconnects after a loss and then returns a Gap; until
    then, sending raises. Without a policy, `receive()` raises. ReconnectPolicy says which losses
    are final. Any number of tasks may send, one may receive.
    """

    def __init__(
        self,
        connection: WebSocketConnection,
        ws_pre_processors: Sequence[WebSocketPreProcessor] | None = None,
        ws_post_processors: Sequence[WebSocketPostProcessor] | None = None,
        auth: Auth | None = None,
        *,
        throttler: AsyncThrottler | None = None,
        reconnect: ReconnectPolicy | None = None,
    ) -> None:
        self._connection = connection
        self._pre_processors = tuple(ws_pre_processors or ())
        self._post_processors = tuple(ws_post_processors or ())
        self._auth = auth
        self._throttler = throttler
        self._policy = reconnect
        self._reconnect: Callable[[], Awaitable[None]] | None = None
        self._subscriptions: list[WebSocketRequest] = []
        self._recovery: Recovery | None = None
        self._back_off: BackOff | None = None

    @property
    def connected(self) -> bool:
        """Whether the WebSocket is open, as far as known without reading."""
        return self._connection.connected

    @property
    def last_recv_time(self) -> float:
        """The time of the last data message, in seconds since the epoch; 0.0 before it."""
        return self._connection.last_recv_time

    @property
    def dropped_count(self) -> int:
        """The number of messages that receive buffers have dropped or replaced."""
        return self._connection.dropped_count

    # Over 40 lines: the options are spelled out.
    async def connect(
        self,
        ws_url: str,
        *,
        ping_timeout: float | None = 10,
        auto_ping: bool = False,
        message_timeout: float | None = None,
        ws_headers: Mapping[str, Any] | None = None,
        verify_ssl: bool = True,
        ssl: SSLContext | aiohttp.Fingerprint | bool | None = None,
        proxy: str | None = None,
        proxy_headers: Mapping[str, str] | None = None,
        protocols: Iterable[str] = (),
        compress: int = 0,
        max_msg_size: int = DEFAULT_MAX_MSG_SIZE,
        close_timeout: float = DEFAULT_CLOSE_TIMEOUT_SECONDS,
        receive_buffer: ReceiveBuffer | None = None,
    ) -> None:
        """Open the WebSocket; options and errors are those of `WebSocketConnection.connect()`.

        The policy does not apply here: if the first connection fails, this raises.
        """
        data_timeout = None if self._policy is None else self._policy.data_timeout_seconds
        connect = partial(
            self._connection.connect,
            ws_url,
            ping_timeout,
            auto_ping,
            message_timeout,
            dict(ws_headers or {}),
            verify_ssl,
            ssl=ssl,
            proxy=proxy,
            proxy_headers=proxy_headers,
            protocols=tuple(protocols),
            compress=compress,
            max_msg_size=max_msg_size,
            data_timeout=data_timeout,
            close_timeout=close_timeout,
            receive_buffer=receive_buffer,
        )
        await connect()
        self._reconnect = connect
        self._back_off = None if self._policy is None else BackOff(self._policy)
        if self._back_off is not None:
            self._back_off.ready()

    async def disconnect(self) -> None:
        """Close the WebSocket or stop reconnecting; discard all subscriptions.

        A pending `receive()` raises DisconnectedError, `iter_messages()` ends.
        """
        self._subscriptions.clear()
        recovery = self._recovery
        if recovery is not None:
            await recovery.stop()
            self._recovery = None
        await self._connection.disconnect()

    async def subscribe(self, request: WebSocketRequest) -> None:
        """Send `request`, and send it again after each reconnection, in order.

        Equal requests are kept once. A request that cannot be sent is not kept.
        """
        subscription = copy.deepcopy(request)
        await self.send(request)
        if subscription not in self._subscriptions:
            self._subscriptions.append(subscription)

    def forget(self, request: WebSocketRequest) -> bool:
        """Remove a subscription equal to `request`; return whether there was one.

        Sends nothing: to unsubscribe, send the request that the server expects.
        """
        if request not in self._subscriptions:
            return False
        self._subscriptions.remove(request)
        return True

    async def send(self, request: WebSocketRequest, *, priority: int = 0) -> None:
        """Wait for the limit of `request`, prepare a copy and send it; do not change `request`.

        It counts from when it is written. Raises UnknownLimitError (a ValueError), AuthError if it
        requires auth and cannot be signed, DisconnectedError (a RuntimeError) without a
        connection, WebSocketClosedError or TransportError if the connection is lost.
        """
        if request.is_auth_required:
            self._check_auth()
        self._connection.check_open()
        if self._auth is not None and request.is_auth_required:
            await self._auth.before_admission()
        for processor in self._pre_processors:
            await processor.before_admission()
        limit_id = request.throttler_limit_id
        if self._throttler is None or limit_id is None:
            await self._connection.send(await self._prepare(request))
            return
        await release_outer_hold(self._throttler)
        deadline = self._connection.deadline(lambda: "Sending a WebSocket message")
        async with deadline.scope():
            await prepare_and_send(
                self._throttler,
                limit_id,
                priority,
                prepare=lambda: self._prepare(request),
                send=self._write,
            )

    async def ping(self) -> None:
        """Send a ping; `receive()` does not return its pong."""
        await self._connection.ping()

    async def receive(self) -> WebSocketResponse | None:
        """Wait for the next message or the Gap of a reconnection; the result is never None.

        Errors are those of `WebSocketConnection.receive()`, raised after reconnecting has failed.
        Cancelling this does not stop a reconnection.
        """
        if self._recovery is None or _recovering.get() is self:
            try:
                response = await self._connection.receive()
            except WebSocketClosedError as loss:
                self._start_recovery(loss)
            else:
                if response is not None:
                    for processor in self._post_processors:
                        response = await processor.post_process(response)
                return response
        return await self._recovered()

    async def iter_messages(self) -> AsyncGenerator[WebSocketResponse, None]:
        """Yield messages, and the Gap of each reconnection, until `disconnect()`.

        Ends at once without a connection. Raises WebSocketClosedError (a ConnectionError) with the
        close code when the connection is lost and not reconnected.
        """
        while True:
            try:
                if self._recovery is None and not self._post_processors:
                    # The same as receive(), with one coroutine less per message.
                    try:
                        response = await self._connection.receive()
                    except WebSocketClosedError as loss:
                        self._start_recovery(loss)
                        continue
                else:
                    response = await self.receive()
            except DisconnectedError:
                return
            if response is not None:
                yield response

    def _check_auth(self) -> None:
        if self._auth is None:
            raise AuthError("The message requires auth, but this manager has no Auth.")

    async def _prepare(self, request: WebSocketRequest) -> WebSocketRequest:
        """Return the request to send; a copy only if a processor or the auth may change it."""
        if not self._pre_processors and not request.is_auth_required:
            return request
        prepared = copy.deepcopy(request)
        for processor in self._pre_processors:
            prepared = await processor.pre_process(prepared)
        if not prepared.is_auth_required:
            return prepared
        self._check_auth()
        assert self._auth is not None  # noqa: S101  (just checked)
        return await self._auth.ws_authenticate(prepared)

    async def _write(self, prepared: WebSocketRequest, hold: Hold) -> None:
        self._connection.check_open()
        hold.mark_sent()
        await self._connection.send(prepared)
        hold.count()

    def _start_recovery(self, loss: WebSocketClosedError) -> None:
        """Start to reconnect, or raise `loss` if it is final."""
        policy, connect, back_off = self._policy, self._reconnect, self._back_off
        # If a hook receives, its attempt has failed.
        is_in_hook = _recovering.get() is self
        if policy is None or connect is None or back_off is None:
            raise loss
        if is_in_hook or policy.is_final(loss):
            raise loss
        self._recovery = Recovery(
            loss,
            policy,
            back_off,
            attempt=partial(self._attempt, policy, connect),
            drop=self._connection.disconnect,
        )

    async def _recovered(self) -> Gap:
        recovery = self._recovery
        if recovery is None:
            raise DisconnectedError(DISCONNECTED_TEXT)
        outcome = await recovery.wait()
        if outcome is None:
            raise DisconnectedError(DISCONNECTED_TEXT)
        if self._recovery is recovery:
            self._recovery = None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _attempt(
        self, policy: ReconnectPolicy, connect: Callable[[], Awaitable[None]]
    ) -> None:
        _recovering.set(self)
        async with asyncio.timeout(policy.connect_timeout_seconds):
            await connect()
        subscriptions = tuple(self._subscriptions)
        if policy.on_reconnect is not None:
            await policy.on_reconnect(self)
        for request in subscriptions:
            await self.send(request)


# The manager that the running code is reconnecting. A hook, and the tasks that it starts, may send
# and receive on it.
_recovering: ContextVar[WebSocketManager | None] = ContextVar(
    "networkpype_recovering", default=None
)
