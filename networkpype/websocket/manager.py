"""WebSockets with limits, processors, auth and reconnection."""

import asyncio
import copy
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from ssl import SSLContext
from typing import Any

import aiohttp

from networkpype._admission import Admission, give_back
from networkpype.auth import Auth
from networkpype.exceptions import AuthError, DisconnectedError, WebSocketClosedError
from networkpype.throttler.throttler import AsyncThrottler, Hold
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
    """Send through limit, pre-processors and auth, receive through post-processors.

    With a `reconnect` policy a lost connection is made again by whoever receives, and a Gap is
    handed out; until then, sending raises. Without a policy the loss is raised. The policy's
    docstring says which losses are final. Send from as many tasks as you like, receive in one.
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
        self._connect_again: Callable[[], Awaitable[None]] | None = None
        self._subscriptions: list[WebSocketRequest] = []
        self._recovery: asyncio.Task[Gap | Exception] | None = None
        self._attempts_in_a_row = 0

    @property
    def connected(self) -> bool:
        """Whether the WebSocket is open, as far as is known without reading on."""
        return self._connection.connected

    @property
    def last_recv_time(self) -> float:
        """When the last data message was read, in seconds since the epoch; 0.0 at first."""
        return self._connection.last_recv_time

    @property
    def dropped_count(self) -> int:
        """How many messages receive buffers have dropped or replaced so far."""
        return self._connection.dropped_count

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

        A first connection that fails is not tried again, whatever the policy.
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
        self._connect_again = connect
        self._attempts_in_a_row = 0

    async def disconnect(self) -> None:
        """Close the WebSocket, or give up connecting it again; forget what was subscribed.

        A pending `receive()` raises DisconnectedError, `iter_messages()` ends.
        """
        self._subscriptions.clear()
        recovery = self._recovery
        if recovery is not None:
            recovery.cancel()
            if recovery is not asyncio.current_task():
                await asyncio.wait((recovery,))
            self._recovery = None
        await self._connection.disconnect()

    async def subscribe(self, request: WebSocketRequest) -> None:
        """Send `request` and remember it: it is sent again after each reconnection, in order.

        An equal one is remembered once. What cannot be sent is not remembered.
        """
        remembered = copy.deepcopy(request)
        await self.send(request)
        if remembered not in self._subscriptions:
            self._subscriptions.append(remembered)

    def forget(self, request: WebSocketRequest) -> bool:
        """Send a subscribed `request`, or one that equals it, no more; tell whether there was one.

        Nothing is sent: how to unsubscribe is the server's affair.
        """
        if request not in self._subscriptions:
            return False
        self._subscriptions.remove(request)
        return True

    async def send(self, request: WebSocketRequest, *, priority: int = 0) -> None:
        """Wait for the limit of `request`, prepare a copy, send it; `request` is not changed.

        It counts from its write. Raises UnknownLimitError (a ValueError), AuthError when it has to
        be signed and cannot be, DisconnectedError (a RuntimeError) without a connection,
        WebSocketClosedError or TransportError when the connection is lost.
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
        await give_back(self._throttler)
        deadline = self._connection.deadline(lambda: "Sending a WebSocket message")
        async with deadline.scope():
            # As in RESTManager: what sends requests of its own while it prepares has the capacity
            # taken away, and prepares once more.
            for _ in range(2):
                async with self._throttler.hold(limit_id, priority=priority) as hold:
                    with Admission(self._throttler, hold) as admission:
                        prepared = await self._prepare(request)
                    if not admission.was_given_back:
                        await self._write(prepared, hold)
                        return
            async with self._throttler.hold(limit_id, priority=priority) as hold:
                await self._write(prepared, hold)

    async def ping(self) -> None:
        """Send a ping; its pong is not handed out."""
        await self._connection.ping()

    async def receive(self) -> WebSocketResponse | None:
        """Wait for the next message, or the Gap of a reconnection; it is never None here.

        Errors are those of `WebSocketConnection.receive()`, after reconnecting has failed. To be
        cancelled here does not stop a reconnection.
        """
        if self._recovery is None or _recovering.get() is self:
            try:
                response = await self._connection.receive()
            except WebSocketClosedError as loss:
                self._start_recovery(loss)
            else:
                self._attempts_in_a_row = 0
                if response is not None:
                    for processor in self._post_processors:
                        response = await processor.post_process(response)
                return response
        return await self._recovered()

    async def iter_messages(self) -> AsyncGenerator[WebSocketResponse, None]:
        """Give out messages, and the Gap of each reconnection, until `disconnect()`.

        Ends at once when there is no connection. Raises WebSocketClosedError (a ConnectionError),
        naming the close code, when the connection is lost for good.
        """
        while True:
            try:
                if self._recovery is None and not self._post_processors:
                    # The same as receive(), one coroutine less per message.
                    try:
                        response = await self._connection.receive()
                        self._attempts_in_a_row = 0
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
            raise AuthError("The message asks to be signed, but this manager has no Auth.")

    async def _prepare(self, request: WebSocketRequest) -> WebSocketRequest:
        """Return the request to send; a copy only where something could change it."""
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
        """Begin to connect again, or raise `loss` if that is not to be."""
        policy, connect = self._policy, self._connect_again
        # A hook that receives is told: its attempt has failed.
        is_in_hook = _recovering.get() is self
        if policy is None or connect is None or is_in_hook or policy.is_final(loss):
            raise loss
        self._recovery = asyncio.create_task(self._recover(loss, policy, connect))

    async def _recovered(self) -> Gap:
        recovery = self._recovery
        if recovery is None:
            raise DisconnectedError("WebSocket is disconnected.")
        # Not awaited itself: its cancellation by disconnect() is not ours, nor ours its.
        await asyncio.wait((recovery,))
        if recovery.cancelled():
            raise DisconnectedError("WebSocket is disconnected.")
        if self._recovery is recovery:
            self._recovery = None
        outcome = recovery.result()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _recover(
        self,
        loss: WebSocketClosedError,
        policy: ReconnectPolicy,
        connect: Callable[[], Awaitable[None]],
    ) -> Gap | Exception:
        """Connect again, as the policy says; return the Gap, or the error to raise."""
        _recovering.set(self)
        loop = asyncio.get_running_loop()
        lost_at = loop.time()
        error: Exception = loss
        attempts = 0
        while policy.allows_attempt(self._attempts_in_a_row + 1):
            self._attempts_in_a_row += 1
            attempts += 1
            await policy.sleep(policy.delay_seconds(self._attempts_in_a_row))
            try:
                await self._attempt(policy, connect)
            except Exception as failure:  # noqa: BLE001  (told to the receiver)
                await self._connection.disconnect()
                if policy.is_final(failure):
                    return failure
                error = failure
            else:
                return Gap(
                    code=loss.code,
                    reason=loss.reason,
                    error=loss,
                    attempts=attempts,
                    duration_seconds=loop.time() - lost_at,
                )
        given_up = WebSocketClosedError(
            f"{loss} Given up after {self._attempts_in_a_row} attempts to connect again.",
            code=loss.code,
            reason=loss.reason,
        )
        given_up.__cause__ = error
        return given_up

    async def _attempt(
        self, policy: ReconnectPolicy, connect: Callable[[], Awaitable[None]]
    ) -> None:
        async with asyncio.timeout(policy.connect_timeout_seconds):
            await connect()
        subscriptions = tuple(self._subscriptions)
        if policy.on_reconnect is not None:
            await policy.on_reconnect(self)
        for request in subscriptions:
            await self.send(request)


# The manager whose recovery the running code is a part of: a hook may send and receive on it, in
# tasks of its own too.
_recovering: ContextVar[WebSocketManager | None] = ContextVar(
    "networkpype_recovering", default=None
)
