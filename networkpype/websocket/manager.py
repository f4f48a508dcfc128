"""WebSockets with limits, processors, auth and reconnection."""

import asyncio
import copy
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from functools import partial
from ssl import SSLContext

import aiohttp

from networkpype.auth import Auth
from networkpype.exceptions import (
    ConnectionStateError,
    DisconnectedError,
    WebSocketClosedError,
)
from networkpype.throttler.throttler import AsyncThrottler
from networkpype.websocket._heartbeat import HeartbeatOptions, check_heartbeat
from networkpype.websocket._messages import Messages
from networkpype.websocket._opening import FreshHeaders, FreshURL, Opening
from networkpype.websocket._reconnector import NO_RECONNECTION, Reconnector
from networkpype.websocket._sender import Sender
from networkpype.websocket._subscriptions import Subscriptions
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

    With a `reconnect` policy, `receive()` reconnects after a loss and then returns a Gap. Until
    the hook and the subscriptions of the policy are done, `send()` raises ReconnectingError or
    waits. Without a policy, `receive()` raises. ReconnectPolicy says which losses are final. Any
    number of tasks may send, one may receive.
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
        self._policy = reconnect
        self._reconnector = Reconnector(
            connection,
            reconnect,
            before_recovery=self._before_recovery,
            restore=self._restore,
        )
        self._sender = Sender(
            connection,
            tuple(ws_pre_processors or ()),
            auth,
            throttler,
            is_barred=self._reconnector.is_barred,
            wait_until_ready=self._reconnector.wait_until_ready,
        )
        self._post_processors = tuple(ws_post_processors or ())
        self._subscriptions = Subscriptions()
        # Messages that receive() returns first, and how many post-processors they have passed:
        # those of earlier connections, and those of this one.
        self._backlog: deque[tuple[WebSocketResponse, int]] = deque()
        self._kept: deque[tuple[WebSocketResponse, int]] = deque()
        # Whether iter_messages() may take a short cut past receive().
        self._is_plain = (
            not self._post_processors and type(self).receive is WebSocketManager.receive
        )

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
        ws_url: FreshURL,
        *,
        ping_timeout: float | None = 10,
        auto_ping: bool = False,
        message_timeout: float | None = None,
        ws_headers: FreshHeaders = None,
        verify_ssl: bool = True,
        ssl: SSLContext | aiohttp.Fingerprint | bool | None = None,
        proxy: str | None = None,
        proxy_headers: Mapping[str, str] | None = None,
        protocols: Iterable[str] = (),
        compress: int = 0,
        max_msg_size: int = DEFAULT_MAX_MSG_SIZE,
        close_timeout: float = DEFAULT_CLOSE_TIMEOUT_SECONDS,
        receive_buffer: ReceiveBuffer | None = None,
        heartbeat: HeartbeatOptions | None = None,
        connect_timeout: float | None = None,
    ) -> None:
        """Open the WebSocket; options and errors are those of `WebSocketConnection.connect()`.

        `ws_url` and `ws_headers` may be functions or coroutine functions, which are called before
        each (re)connection. `connect_timeout` (default: that of the policy) limits this call,
        which then raises DeadlineExceeded (a TimeoutError). The request of `heartbeat` waits for
        its limit and is signed.

        The policy does not apply here: if the first connection fails, this raises.
        """
        reconnector = self._reconnector
        if reconnector.leave_dead_loop():
            # As after disconnect().
            self._discard()
        if reconnector.is_recovering:
            raise ConnectionStateError("WebSocket is reconnecting.")
        policy = self._policy or NO_RECONNECTION
        options = {
            "ping_timeout": ping_timeout,
            "auto_ping": auto_ping,
            "message_timeout": message_timeout,
            "verify_ssl": verify_ssl,
            "ssl": ssl,
            "proxy": proxy,
            "proxy_headers": proxy_headers,
            "protocols": tuple(protocols),
            "compress": compress,
            "max_msg_size": max_msg_size,
            "data_timeout": policy.data_timeout_seconds,
            "close_timeout": close_timeout,
            "receive_buffer": receive_buffer,
            "heartbeat": heartbeat and self._own(heartbeat),
            "wall_clock": policy.wall_clock,
        }
        opening = Opening(self._connection, ws_url, ws_headers, options)
        await opening(
            policy.connect_timeout_seconds if connect_timeout is None else connect_timeout
        )
        reconnector.connected(opening)

    async def disconnect(self) -> None:
        """Close the WebSocket or stop reconnecting; discard all subscriptions.

        A pending `receive()` raises DisconnectedError, `iter_messages()` ends.
        """
        self._discard()
        self._reconnector.leave_dead_loop()
        await self._reconnector.stop()
        await self._connection.disconnect()

    async def reconnect(self) -> None:
        """Close the WebSocket and connect again, as after a loss; return when that is done.

        Subscriptions are kept, and `receive()` returns a Gap. If a reconnection is going on, waits
        for it. Works without a policy too, with one attempt. Raises what `receive()` raises after
        a failed reconnection, and DisconnectedError without a connection.
        """
        await self._reconnector.reconnect()

    async def subscribe(self, request: WebSocketRequest) -> None:
        """Send `request`, and send it again after each reconnection, in order.

        Equal requests are kept once. While reconnecting, the request is only kept: it is sent
        before the reconnection is done. A request that cannot be sent is not kept.
        """
        subscription, is_new = self._subscriptions.add(copy.deepcopy(request))
        reconnector = self._reconnector
        session = None if reconnector.is_barred() else reconnector.session
        try:
            # After a loss in the meantime, the recovery has sent it, or will.
            await self._sender.send(
                request,
                is_wanted=lambda: subscription.is_kept and self._reconnector.session is session,
            )
        except BaseException as error:
            if reconnector.will_restore(error):
                return
            if is_new:
                self._subscriptions.discard(subscription)
            raise
        if reconnector.session is session:
            subscription.session = session

    def forget(self, request: WebSocketRequest) -> bool:
        """Remove a subscription equal to `request`; return whether there was one.

        Sends nothing: to unsubscribe, send the request that the server expects. A request that
        still waits for its limit is not sent.
        """
        return self._subscriptions.remove(request)

    async def send(self, request: WebSocketRequest, *, priority: int = 0) -> None:
        """Wait for the limit of `request`, prepare a copy and send it; do not change `request`.

        It counts from when it is written. Raises UnknownLimitError (a ValueError), AuthError if it
        requires auth and cannot be signed, DisconnectedError (a RuntimeError) without a
        connection, ReconnectingError (a DisconnectedError) while reconnecting, unless the policy
        lets it wait, WebSocketClosedError or TransportError if the connection is lost.
        """
        await self._sender.send(request, priority=priority)

    async def ping(self) -> None:
        """Send a ping; `receive()` does not return its pong."""
        await self._connection.ping()

    async def receive(self) -> WebSocketResponse | None:
        """Wait for the next message or the Gap of a reconnection; the result is never None.

        Errors are those of `WebSocketConnection.receive()`, raised after reconnecting has failed.
        Cancelling this does not stop a reconnection, and loses no message: a post-processor that
        is cancelled is called again for the same one.
        """
        reconnector = self._reconnector
        while True:
            is_inside = reconnector.is_inside()
            if not is_inside:
                if self._backlog:
                    return await self._process(*self._backlog.popleft(), queue=self._backlog)
                if reconnector.recovery is not None:
                    return await reconnector.recovered(reconnector.recovery)
            if self._kept:
                return await self._process(*self._kept.popleft(), queue=self._kept)
            try:
                response = await self._connection.receive()
            except WebSocketClosedError as loss:
                reconnector.start(loss)
            except DisconnectedError:
                if is_inside or reconnector.recovery is None:
                    raise
            else:
                if response is None or not self._post_processors:
                    return response
                return await self._process(response, 0, queue=self._kept)

    def iter_messages(self) -> AsyncGenerator[WebSocketResponse, None]:
        """Yield messages, and the Gap of each reconnection, until `disconnect()`.

        Ends at once without a connection. Raises WebSocketClosedError (a ConnectionError) with the
        close code when the connection is lost and not reconnected. Cancelling `anext()` loses no
        message and does not end the iteration.
        """
        return Messages(self._next_message)

    async def _next_message(self) -> WebSocketResponse:
        reconnector = self._reconnector
        while True:
            try:
                if self._is_plain and reconnector.recovery is None and not self._backlog:
                    # The same as receive(), with one coroutine less per message.
                    try:
                        response = await self._connection.receive()
                    except WebSocketClosedError as loss:
                        reconnector.start(loss)
                        continue
                else:
                    response = await self.receive()
            except DisconnectedError:
                if reconnector.recovery is None:
                    raise StopAsyncIteration from None
                continue
            if response is not None:
                return response
            # A subclass that returns None may do so at once.
            await asyncio.sleep(0)
            if not self.connected and reconnector.recovery is None:
                raise StopAsyncIteration

    async def _process(
        self,
        response: WebSocketResponse,
        passed: int,
        *,
        queue: deque[tuple[WebSocketResponse, int]],
    ) -> WebSocketResponse:
        """Post-process; if that is cancelled, put the message back into `queue`."""
        session = self._reconnector.session
        for index in range(passed, len(self._post_processors)):
            try:
                response = await self._post_processors[index].post_process(response)
            except asyncio.CancelledError:
                if self._reconnector.is_wanted:
                    if self._reconnector.session is not session:
                        queue = self._backlog
                    queue.appendleft((response, index))
                raise
        return response

    def _discard(self) -> None:
        self._subscriptions.clear()
        self._backlog.clear()
        self._kept.clear()

    def _own(self, heartbeat: HeartbeatOptions) -> HeartbeatOptions:
        """Send the request of `heartbeat` through limit, pre-processors and auth."""
        check_heartbeat(heartbeat)
        seconds, request, is_answer = heartbeat
        if isinstance(request, WebSocketRequest):
            return seconds, partial(self._sender.send, request), is_answer
        return heartbeat

    def _before_recovery(self, gap: Gap | None) -> None:
        """Put what was not received yet before the next Gap."""
        if gap is not None:
            self._backlog.append((gap, len(self._post_processors)))
        self._backlog.extend(self._kept)
        self._kept.clear()
        self._backlog.extend((response, 0) for response in self._connection.take_messages())

    async def _restore(self, session: object) -> None:
        """Call the hook, and send the subscriptions again."""
        if self._policy is not None and self._policy.on_reconnect is not None:
            await self._policy.on_reconnect(self)
        for subscription in self._subscriptions.unsent(session):
            await self._sender.send(subscription.request, is_wanted=subscription.is_wanted)
