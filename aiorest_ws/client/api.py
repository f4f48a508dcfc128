"""The client: calls, streams and subscriptions on a connection that comes back."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self, TypedDict

import msgspec

from aiorest_ws.client.deliveries import Deliveries
from aiorest_ws.client.errors import ConnectionLost, InvalidReply
from aiorest_ws.client.exchanges import Call, Gap, Message, Stream, Subscription
from aiorest_ws.client.link import Link, State, Token
from aiorest_ws.client.transport import OpenTransport, websocket_opener
from aiorest_ws.client.verbs import Verbs
from networkpype.websocket.reconnect import ReconnectPolicy

__all__ = ("Client", "ConnectOptions", "State", "connect")

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS"})


class Client(Verbs[Coroutine[Any, Any, Any]]):
    """Call, stream and subscribe; made by `connect()`, used with `async with`.

    `open_transport` opens one connection: a test gives a function of its own.
    """

    def __init__(
        self,
        open_transport: OpenTransport,
        *,
        token: Token = None,
        headers: Mapping[str, str] | None = None,
        reconnect: ReconnectPolicy | None = None,
        offline_calls: int = 64,
        timeout: float = 30,
        binary: bool = False,
    ) -> None:
        self._timeout = timeout
        self._deliveries = Deliveries(offline_calls)
        self._link = self._deliveries.link = Link(
            open_transport,
            token=token,
            headers={} if headers is None else headers,
            policy=ReconnectPolicy() if reconnect is None else reconnect,
            binary=binary,
            listener=self._deliveries,
        )

    async def __aenter__(self) -> Self:
        self._link.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def state(self) -> State:
        """The state of the connection."""
        return self._link.state

    def on_state(self, report: Callable[[State], object]) -> None:
        """Call `report` with each new state."""
        self._link.on_state.append(report)

    async def close(self) -> None:
        """Close for good; what waits fails with ConnectionLost."""
        await self._link.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        args: Mapping[str, Any] | None = None,
        data: Any = None,
        reply: Any = None,
        timeout: float | None = None,  # noqa: ASYNC109  a deadline that the caller gives
        idempotent: bool | None = None,
        event_name: Any = None,
    ) -> Any:
        """Send a request and return the data of its reply, converted to `reply` if given.

        `timeout` includes the wait for a connection; after it, raises TimeoutError and sends
        CANCEL. A call that was sent when the connection was lost is repeated if `idempotent` (by
        default: GET, HEAD and OPTIONS are), else raises ConnectionLost. A failure is a CallError.
        """
        request = _request(method, path, args, data, event_name)
        repeatable = request["method"] in _IDEMPOTENT if idempotent is None else idempotent
        call = Call(request, repeatable=repeatable)
        number = self._deliveries.start(call)
        try:
            async with asyncio.timeout(self._timeout if timeout is None else timeout):
                value = await call.answer
        finally:
            self._deliveries.leave(number)
        if reply is None:
            return value
        try:
            return msgspec.convert(value, reply)
        except msgspec.ValidationError as error:
            raise InvalidReply(str(error)) from error

    async def stream(
        self,
        path: str,
        *,
        method: str = "GET",
        args: Mapping[str, Any] | None = None,
        data: Any = None,
        event_name: Any = None,
    ) -> AsyncGenerator[Any, None]:
        """Yield the items of a stream; leaving sends CANCEL.

        Wrap it in `contextlib.aclosing` to leave before the end and cancel at once. Raises
        Overflow if more than 1,000 items or 1 MiB wait for the consumer.
        """
        deliveries = self._deliveries
        number = 0
        stream = Stream(
            _request(method, path, args, data, event_name), lambda: deliveries.leave(number)
        )
        number = deliveries.start(stream)
        try:
            while True:
                try:
                    item = await stream.inbox.take()
                except StopAsyncIteration:
                    return
                yield item
        finally:
            deliveries.leave(number)

    async def subscribe(
        self, topic: str, *, since: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[Message | Gap, None]:
        """Yield what is published on `topic`, across connections.

        Up to 1,000 messages or 1 MiB wait for the consumer. Beyond that, unsubscribes and resumes
        later from the last message kept: without a loss, or with a Gap.
        """
        deliveries = self._deliveries
        if topic in deliveries.subscriptions:
            raise ValueError(f"This client follows the topic {topic!r} already.")
        if deliveries.end is not None:
            raise ConnectionLost("The client is closed.") from deliveries.end
        subscription = Subscription(
            topic, since, lambda method: deliveries.ask(subscription, method)
        )
        deliveries.subscriptions[topic] = subscription
        deliveries.ask(subscription, "SUBSCRIBE")
        try:
            while True:
                yield await subscription.next()
        except StopAsyncIteration:
            return
        finally:
            del deliveries.subscriptions[topic]
            deliveries.ask(subscription, "UNSUBSCRIBE")


class ConnectOptions(TypedDict, total=False):
    """What `connect` takes besides the URL."""

    token: Token
    headers: Mapping[str, str] | None
    ssl: SSLContext | None
    reconnect: ReconnectPolicy | None
    offline_calls: int
    timeout: float
    binary: bool


def connect(
    url: str,
    *,
    token: Token = None,
    headers: Mapping[str, str] | None = None,
    ssl: SSLContext | None = None,
    reconnect: ReconnectPolicy | None = None,
    offline_calls: int = 64,
    timeout: float = 30,
    binary: bool = False,
) -> Client:
    """Return a client to enter with `async with`.

    A function given as `token` is called for each connection, and once more after a refusal.
    """
    return Client(
        websocket_opener(url, ssl),
        token=token,
        headers=headers,
        reconnect=reconnect,
        offline_calls=offline_calls,
        timeout=timeout,
        binary=binary,
    )


def _request(
    method: str, path: str, args: Mapping[str, Any] | None, data: Any, event_name: Any
) -> dict[str, Any]:
    optional = {"args": args, "data": data, "event_name": event_name}
    given = {name: value for name, value in optional.items() if value is not None}
    return {"method": method.strip().upper(), "url": path, **given}
