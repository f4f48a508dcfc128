"""The subscriptions of a connection, and their pushes."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.defer import Deferred

from aiorest_ws.awaiting import maybe_await
from aiorest_ws.codecs import encode_json
from aiorest_ws.exceptions import (
    BaseAPIException,
    CallCancelled,
    MalformedMessage,
    ServiceUnavailable,
    TooManySubscriptions,
)
from aiorest_ws.interfaces import Connection
from aiorest_ws.log import logger
from aiorest_ws.status import WS_MESSAGE_VIOLATE_POLICY, WS_UNEXPECTED_CONDITION
from aiorest_ws.topics.broker import ENVELOPE_BYTES, Message, Position
from aiorest_ws.topics.push_queue import PushQueue
from aiorest_ws.topics.routes import Snapshot
from aiorest_ws.topics.subscription import Note, Subscription
from aiorest_ws.wrappers import Request

__all__ = ("Subscriptions",)


class Subscriptions:
    """The topics that one connection subscribes to.

    Pushes to a write-paused connection are queued, in `Limits.push_bytes`; when the queue is full,
    the policy of the topic decides.
    """

    __slots__ = (
        "_connection",
        "_in_progress",
        "_pushes",
        "_started",
        "_subscribing",
        "_unsubscribing",
        "push_frame",
        "unanswered",
    )

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._started: dict[str, Subscription] = {}
        self._pushes: PushQueue | None = None
        # How many subscriptions are being made.
        self._in_progress = 0
        # SUBSCRIBEs without a decision, with their topics, and those without their answer.
        self._subscribing: dict[Request, str] = {}
        self.unanswered: dict[Request, Subscription] = {}
        # Topics whose UNSUBSCRIBE was not queued.
        self._unsubscribing: frozenset[str] = frozenset()
        # Used for each push: a slot is read faster than a method.
        self.push_frame = connection.push_frame

    @property
    def names(self) -> tuple[str, ...]:
        """The topics."""
        return tuple(self._started)

    @property
    def queued_bytes(self) -> int:
        """The memory that queued pushes take."""
        return 0 if self._pushes is None else self._pushes.size

    async def subscribe(
        self,
        topic: str,
        since: Position | dict[str, Any] | None,
        request: Request | None,
        echo: dict[str, Any],
        is_binary: bool,
    ) -> tuple[Subscription, dict[str, Any]]:
        """Return a subscription that has not started, and what its client is to be told.

        Pushes have what is in `echo`. Raises NotSpecifiedTopic (404), TooManySubscriptions (429),
        TopicsUnavailable (503).
        """
        self._in_progress += 1
        try:
            return await self._subscribe(topic, since, request, echo, is_binary)
        finally:
            self._in_progress -= 1
            self._forget_if_empty()

    async def _subscribe(
        self,
        topic: str,
        since: Position | dict[str, Any] | int | None,
        request: Request | None,
        echo: dict[str, Any],
        is_binary: bool,
    ) -> tuple[Subscription, dict[str, Any]]:
        connection, factory = self._connection, self._connection.factory
        self._check_room(topic)
        if len(encode_json(echo)) > ENVELOPE_BYTES:
            # It is kept, and is part of each push.
            raise MalformedMessage(f"`event_name` of a SUBSCRIBE has over {ENVELOPE_BYTES} bytes.")
        if isinstance(since, dict):
            is_last = "last" in since
            since = since["last"] if is_last else Position(since["epoch"], since["offset"])
        info = None if request is None else await maybe_await(factory.presence_info(request))
        subscription, told = await factory.topics.subscribe(
            self, topic, since=since, echo=echo, is_binary=is_binary, info=info
        )
        try:
            if not connection.accepts_calls:
                raise ServiceUnavailable
            self._check_room(topic)  # others may have subscribed meanwhile
        except BaseAPIException:
            factory.topics.unsubscribe(subscription)
            raise
        self._end(topic)
        self._started[topic] = subscription
        return subscription, told

    async def answer_subscribe(
        self,
        request: Request,
        topic: str,
        first_state: Callable[[Request, str], Any] | None = None,
    ) -> dict[str, Any]:
        """Subscribe for a SUBSCRIBE; nothing is pushed before the answer to that.

        The answer has what `first_state(request, topic)` returns, if there is such a function.
        """
        is_binary = getattr(request, "_is_binary", False)
        echo = request.to_representation()
        subscription, told = await self.subscribe(topic, request.since, request, echo, is_binary)
        self.unanswered[request] = subscription
        if first_state is not None:
            try:
                state = await maybe_await(first_state(request, topic))
                if isinstance(state, Snapshot):
                    hub = self._connection.factory.topics
                    told.update(await hub.resume(subscription, state.position))
                    state = state.value
            except BaseException:
                self.discard(request)
                raise
            told["snapshot"] = state
        if request not in self._subscribing:
            self.discard(request)
            raise CallCancelled("The subscription was ended by an UNSUBSCRIBE.")
        return told

    @contextmanager
    def subscribing(self, request: Request, topic: str) -> Iterator[None]:
        """Let an UNSUBSCRIBE that arrives in the block end the subscription that is being made."""
        self._subscribing[request] = topic
        try:
            yield
        finally:
            self._subscribing.pop(request, None)
            self._forget_if_empty()

    def start(self, request: Request) -> None:
        """Start the pushes of a SUBSCRIBE that has been answered."""
        subscription = self.unanswered.pop(request, None)
        if subscription is not None:
            if not self.unanswered:
                self.unanswered = {}  # a dict that was emptied keeps its memory
            self._connection.factory.topics.start_pushes(subscription)

    def discard(self, request: Request) -> None:
        """End the subscription of a SUBSCRIBE that is answered with a failure."""
        subscription = self.unanswered.pop(request, None)
        if subscription is not None:
            if self._started.get(subscription.name) is subscription:
                self._forget(subscription.name)
            self._connection.factory.topics.unsubscribe(subscription)
            self._forget_if_empty()

    def unsubscribe(self, topic: str) -> None:
        """Send the client no more pushes of a topic."""
        for request in [one for one, name in self._subscribing.items() if name == topic]:
            del self._subscribing[request]
        self._end(topic)
        self._forget_if_empty()

    def is_urgent(self, topic: Any) -> bool:
        """Tell whether an UNSUBSCRIBE is handled before the messages that wait.

        That of a topic that waits to be subscribed to is not.
        """
        # One for each topic: they are not counted against a limit.
        if topic not in self._started or topic in self._unsubscribing:
            return False
        self._unsubscribing |= {topic}
        return True

    def close(self) -> None:
        """End all subscriptions: the client is gone."""
        started, self._started, self.unanswered = self._started, {}, {}
        self._subscribing = {}
        for subscription in started.values():
            self._connection.factory.topics.unsubscribe(subscription)
        pushes, self._pushes = self._pushes, None
        if pushes is not None:
            pushes.clear()

    def _forget_if_empty(self) -> None:
        if not self._subscribing:
            self._subscribing = {}  # a dict that was emptied keeps its memory
        if not (self._started or self.unanswered or self._subscribing or self._in_progress):
            self._connection.forget_subscriptions()

    def _check_room(self, topic: str) -> None:
        factory = self._connection.factory
        if topic not in self._started and len(self._started) >= factory.limits.subscriptions:
            factory.limit_hits.note("subscriptions", self._connection.peer, "429")
            raise TooManySubscriptions

    def _end(self, topic: str) -> None:
        subscription = self._forget(topic)
        if subscription is not None:
            self._connection.factory.topics.unsubscribe(subscription)

    def _forget(self, topic: str) -> Subscription | None:
        self._unsubscribing -= {topic}
        return self._started.pop(topic, None)

    # Pushes: see `Subscriber`

    def push(self, subscription: Subscription, entry: Message | Note) -> None:
        """Send a push, or queue it until the client has read what was sent before."""
        connection = self._connection
        if connection.state != connection.STATE_OPEN:
            return
        if not (self._pushes or connection.is_write_paused):
            subscription.send(entry)
            return
        if self._pushes is None:
            self._pushes = PushQueue(connection.factory.limits.push_bytes)
        if not self._pushes.add(subscription, entry):
            connection.factory.limit_hits.note("push_bytes", connection.peer, "closed with 1008")
            connection.sendCloseFrame(WS_MESSAGE_VIOLATE_POLICY, b"too slow", isReply=False)

    def send_push(self, payload: bytes, is_binary: bool) -> bool:
        """Send a push at once; return False if it is larger than a message may be."""
        connection = self._connection
        if connection.state != connection.STATE_OPEN:
            return True
        if 0 < connection.maxMessagePayloadSize < len(payload):
            words = f"push: {len(payload)} bytes"
            connection.factory.limit_hits.note("message_bytes", connection.peer, words)
            return False
        try:
            connection.sendMessage(payload, is_binary)
        except Exception as exc:  # noqa: BLE001  an override of the application's
            logger.error("a push could not be sent", exc_info=exc)
        return True

    def send_queued(self) -> None:
        """Send queued pushes until the connection is write-paused again."""
        connection = self._connection
        while self._pushes and not connection.is_write_paused:
            if connection.state != connection.STATE_OPEN:
                return
            self._pushes.send_next()
        if not self._pushes:
            self._pushes = None

    def writable(self) -> Awaitable[None]:
        """Return an awaitable that is done when the client has read what was sent."""
        return self._connection.writable()

    def room_for_push(self, size: int) -> Deferred[None] | None:
        """Return None if `size` bytes fit, else a Deferred that fires with more room."""
        if self._pushes is None or self._pushes.has_room(size):
            return None
        return self._pushes.room()

    def forget_pushes(self, subscription: Subscription) -> None:
        """Discard the queued pushes of a subscription."""
        if self._pushes is not None:
            self._pushes.forget(subscription)

    def end_pushes(self, subscription: Subscription) -> None:
        """Close the connection: the subscription has failed."""
        connection = self._connection
        if connection.state == connection.STATE_OPEN and not subscription.is_ended:
            connection.sendCloseFrame(WS_UNEXPECTED_CONDITION, None, isReply=False)
