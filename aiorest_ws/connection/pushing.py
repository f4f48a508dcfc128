"""What a server tells a client without being asked: the pushes of the topics it subscribes to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread
from twisted.python.failure import Failure
from twisted.python.threadable import isInIOThread

from aiorest_ws.abstract import AbstractRouter
from aiorest_ws.awaiting import is_awaitable
from aiorest_ws.codecs import encode_json
from aiorest_ws.connection.calls import CallingProtocol, is_cancel
from aiorest_ws.connection.fast_path import CORKED_BYTES
from aiorest_ws.connection.handshake import GuardedFactory
from aiorest_ws.dispatch.user_rate import user_key
from aiorest_ws.exceptions import (
    BaseAPIException,
    CallCancelled,
    MalformedMessage,
    ServiceUnavailable,
    TooManySubscriptions,
)
from aiorest_ws.log import logger
from aiorest_ws.status import WS_MESSAGE_VIOLATE_POLICY, WS_UNEXPECTED_CONDITION
from aiorest_ws.topics.broker import ENVELOPE_BYTES, Broker, Message, Position
from aiorest_ws.topics.hub import Hub
from aiorest_ws.topics.push_queue import PushQueue
from aiorest_ws.topics.routes import TopicRoutes
from aiorest_ws.topics.subscription import Note, Subscription
from aiorest_ws.topics.urls import broker_for
from aiorest_ws.topics.view import UNSUBSCRIBE
from aiorest_ws.wrappers import Request

__all__ = ("PushingFactory", "PushingProtocol")

# Pushes that are written together.
CORKED_FRAMES = 64

# Of a router that knows nothing of topics.
_NO_TOPICS = TopicRoutes()


class PushingProtocol(CallingProtocol):
    """A connection that subscribes to topics.

    What its client does not read waits here, in `Limits.push_bytes`, and then the policy of the
    topic says what becomes of it.
    """

    # None, as long as there are none: a connection that idles has no dicts.
    _subscriptions: dict[str, Subscription] | None = None
    _pushes: PushQueue | None = None

    # SUBSCRIBEs that are judged, with their topics.
    _subscribing: dict[Request, str] | None = None

    # Topics whose UNSUBSCRIBE has not waited.
    _urgent: set[str] | None = None

    # Those whose SUBSCRIBE has not been answered.
    _unbegun: dict[Request, Subscription] | None = None

    # The client has sent a binary message, so it can read one.
    _speaks_binary = False

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """The topics that this connection subscribes to."""
        return tuple(self._subscriptions or ())

    async def subscribe(
        self,
        topic: str,
        since: Position | dict[str, Any] | None = None,
        *,
        request: Request | None = None,
        event_name: Any = None,
        binary: bool | None = None,
    ) -> dict[str, Any]:
        """Let the client have the pushes of a topic; return `topic`, `epoch` and `offset`.

        What was missed after `since` comes first. No permission is checked: that is the caller's.
        Pushes have the `event_name` given, or that of `request`; they are binary if `binary` says
        so, by default if the client sends binary messages itself. With `request` the application's
        `presence_info` is asked what others may know of this client.

        Raises NotSpecifiedTopic (404), TooManySubscriptions (429), TopicsUnavailable (503).
        """
        if isinstance(since, dict):
            since = Position(since["epoch"], since["offset"])
        if event_name is None and request is not None:
            event_name = request.event_name
        echo = {"event_name": event_name}
        is_binary = self._speaks_binary if binary is None else binary
        subscription, told = await self._subscribe(topic, since, request, echo, is_binary)
        self.factory.topics.start_pushes(subscription)
        return told

    async def answer_subscribe(self, request: Request, topic: str) -> dict[str, Any]:
        """Subscribe for a SUBSCRIBE; nothing is sent before the answer to that."""
        given = request.since
        since = None if given is None else Position(given["epoch"], given["offset"])
        is_binary = getattr(request, "_is_binary", False)
        subscription, told = await self._subscribe(
            topic, since, request, request.to_representation(), is_binary
        )
        if self._unbegun is None:
            self._unbegun = {}
        self._unbegun[request] = subscription
        if request not in (self._subscribing or {}):
            self.undo_subscription(request)
            raise CallCancelled("The subscription was ended by an UNSUBSCRIBE.")
        return told

    @contextmanager
    def subscribing(self, request: Request, topic: str) -> Iterator[None]:
        """Let an UNSUBSCRIBE that comes meanwhile be for the subscription that is on its way."""
        if self._subscribing is None:
            self._subscribing = {}
        self._subscribing[request] = topic
        try:
            yield
        finally:
            if self._subscribing is not None:
                self._subscribing.pop(request, None)
                if not self._subscribing:
                    self._subscribing = None

    def unsubscribe(self, topic: str) -> None:
        """Send the client no more pushes of a topic."""
        on_their_way = [one for one, name in (self._subscribing or {}).items() if name == topic]
        for request in on_their_way:
            del self._subscribing[request]  # type: ignore[union-attr]
        self._replace(topic)

    def _replace(self, topic: str) -> None:
        subscription = (self._subscriptions or {}).get(topic)
        if subscription is not None:
            self._end(subscription)

    def _ends_something(self, request: Request) -> bool:
        """Tell whether a message is not to wait for calls to end.

        The UNSUBSCRIBE of what waits to be subscribed to is.
        """
        if request.url is None:
            return is_cancel(request)
        word = request.method.strip().upper() if isinstance(request.method, str) else ""
        topic = request.url
        if word != UNSUBSCRIBE or topic not in (self._subscriptions or ()):
            return False
        # One for each: a middleware may take its time, and they are not counted.
        if topic in (self._urgent or ()):
            return False
        if self._urgent is None:
            self._urgent = set()
        self._urgent.add(topic)
        return True

    async def _subscribe(
        self,
        topic: str,
        since: Position | None,
        request: Request | None,
        echo: dict[str, Any],
        is_binary: bool,
    ) -> tuple[Subscription, dict[str, Any]]:
        self._check_room_for_subscription(topic)
        if len(encode_json(echo)) > ENVELOPE_BYTES:
            # It is kept, and stands in each push.
            raise MalformedMessage(f"`event_name` of a SUBSCRIBE has over {ENVELOPE_BYTES} bytes.")
        info = None
        if request is not None:
            info = self.factory.presence_info(request)
            if is_awaitable(info):
                info = await info
        subscription, told = await self.factory.topics.subscribe(
            self, topic, since=since, echo=echo, is_binary=is_binary, info=info
        )
        try:
            if self._state != self.STATE_OPEN or self._takes_no_calls:
                raise ServiceUnavailable
            self._check_room_for_subscription(topic)  # others may have come in the meantime
        except BaseAPIException:
            self.factory.topics.unsubscribe(subscription)
            raise
        self._replace(topic)
        if self._subscriptions is None:
            self._subscriptions = {}
        self._subscriptions[topic] = subscription
        return subscription, told

    def _check_room_for_subscription(self, topic: str) -> None:
        held = self._subscriptions or {}
        if topic not in held and len(held) >= self.factory.limits.subscriptions:
            self.factory.limit_hits.note("subscriptions", self.peer, "429")
            raise TooManySubscriptions

    def _end(self, subscription: Subscription) -> None:
        if self._subscriptions is not None:
            if self._subscriptions.get(subscription.name) is subscription:
                del self._subscriptions[subscription.name]
                if self._urgent is not None:
                    self._urgent.discard(subscription.name)
            if not self._subscriptions:
                self._subscriptions = None
        self.factory.topics.unsubscribe(subscription)

    def _end_subscriptions(self) -> None:
        subscriptions, self._subscriptions, self._unbegun = self._subscriptions, None, None
        for subscription in list((subscriptions or {}).values()):
            self.factory.topics.unsubscribe(subscription)
        pushes, self._pushes = self._pushes, None
        if pushes is not None:
            pushes.clear()

    # When the answer has been sent

    def begin_subscription(self, request: Request) -> None:
        """Let the pushes come that a SUBSCRIBE has asked for."""
        subscription = None if self._unbegun is None else self._unbegun.pop(request, None)
        if not self._unbegun:
            self._unbegun = None
        if subscription is not None:
            self.factory.topics.start_pushes(subscription)

    def undo_subscription(self, request: Request) -> None:
        """End the subscription of a SUBSCRIBE that is answered with a failure."""
        subscription = None if self._unbegun is None else self._unbegun.pop(request, None)
        if not self._unbegun:
            self._unbegun = None
        if subscription is not None:
            self._end(subscription)

    def _end_call(self, pending: Deferred[Any], exc: BaseAPIException) -> None:
        call = (self._calls or {}).get(pending)
        if call is not None and call.request is not None:
            self.undo_subscription(call.request)
        super()._end_call(pending, exc)

    def _answered(self, reply: Any, pending: Deferred[Any], call: Any) -> None:
        try:
            super()._answered(reply, pending, call)
        finally:
            # Of a call that was ended, and has subscribed all the same, or whose answer could not
            # be sent: what has not begun by now never does.
            if call.request is not None:
                self.undo_subscription(call.request)

    def push_frame(self, frame: bytes, size: int) -> bool:
        """Send a frame that others get, too, if nothing is special about this connection."""
        if size > self._reply_limit:
            return False
        stats = self.trafficStats
        stats.outgoingOctetsWireLevel += len(frame)
        stats.ordinary_octets_out += size
        stats.ordinary_out += 1
        if self._corked is None:
            self._transport.write(frame)
        else:
            self._corked.append(frame)
            # A view may publish any number: the transport has to tell when they are too many.
            if size > CORKED_BYTES or len(self._corked) >= CORKED_FRAMES:
                self._write_corked()
        return True

    def push(self, subscription: Subscription, entry: Message | Note) -> None:
        """Send a push, or keep it for when the client has read what was sent before."""
        if self._state != self.STATE_OPEN:
            return
        if not (self._is_clogged or self._pushes):
            subscription.send(entry)
            return
        if self._pushes is None:
            self._pushes = PushQueue(self.factory.limits.push_bytes)
        if not self._pushes.add(subscription, entry):
            self.factory.limit_hits.note("push_bytes", self.peer, "closed with 1008")
            self.sendCloseFrame(WS_MESSAGE_VIOLATE_POLICY, b"too slow", isReply=False)

    def send_push(self, payload: bytes, is_binary: bool) -> bool:
        """Send a push; False if it is larger than a message may be."""
        if self._state != self.STATE_OPEN:
            return True
        if 0 < self.maxMessagePayloadSize < len(payload):
            self.factory.limit_hits.note("message_bytes", self.peer, f"push: {len(payload)} bytes")
            return False
        try:
            self.sendMessage(payload, is_binary)
        except Exception as exc:  # noqa: BLE001  an override of the application's
            logger.error("a push could not be sent", exc_info=exc)
        return True

    def room_for_push(self, size: int) -> Deferred[None] | None:
        """Return None, or what fires when there is more room among the pushes that wait."""
        if self._pushes is None or self._pushes.has_room(size):
            return None
        return self._pushes.room()

    def forget_pushes(self, subscription: Subscription) -> None:
        """Let go of what waits to be sent for a subscription."""
        if self._pushes is not None:
            self._pushes.forget(subscription)

    def end_pushes(self, subscription: Subscription) -> None:
        """Let the client go: its subscription has failed."""
        if self._state == self.STATE_OPEN and not subscription.is_ended:
            self.sendCloseFrame(WS_UNEXPECTED_CONDITION, None, isReply=False)

    def resumeProducing(self) -> None:
        """Go on: the client has read what it was sent."""
        super().resumeProducing()
        while self._pushes and not self._is_clogged and self._state == self.STATE_OPEN:
            self._pushes.send_next()
        if not self._pushes:
            self._pushes = None


class PushingFactory(GuardedFactory):
    """Publishes to topics, and knows who subscribes to them."""

    topics: Hub
    _router: AbstractRouter

    _presence_info: Callable[[Request], Any] | None = None

    def _equip_with_topics(self, topics: str | Broker) -> None:
        self.topics = Hub(
            broker_for(topics, self.reactor), self.limits, self.reactor, self._topic_routes
        )

    def _topic_routes(self) -> TopicRoutes:
        routes: TopicRoutes = getattr(self._router, "topics", _NO_TOPICS)
        return routes

    def publish(
        self,
        topic: str,
        data: Any,
        *,
        key: str | None = None,
        block: bool = False,
        wait_seconds: float = 0.0,
    ) -> Deferred[Position]:
        """Send `data` to all subscribers of a topic; return an awaitable of its position.

        It is encoded at once. `key` says what it is about, for a topic with the policy `latest`.
        With `block`, and the policy `block`, it waits until no subscriber of this process would
        lose another message for it. A broker that cannot be reached is tried for `wait_seconds`.

        Raises UnknownTopic for what is not registered, ValueError for what cannot be a topic,
        SerializerError for what is no JSON, ReplyTooLarge; the awaitable, TopicsUnavailable.
        """
        return self.topics.publish(topic, data, key=key, block=block, wait_seconds=wait_seconds)

    def publish_from_thread(self, topic: str, data: Any, **options: Any) -> Position:
        """Publish from another thread, such as that of a blocking view; blocks until it is done.

        Takes and raises what `publish` does; RuntimeError in the thread of the reactor.
        """
        if isInIOThread():
            raise RuntimeError("publish_from_thread would wait for itself: await publish() here")
        publish: Callable[[], Any] = partial(self.publish, topic, data, **options)
        position: Position = blockingCallFromThread(self.reactor, publish)
        return position

    async def presence(self, topic: str) -> dict[str, Any]:
        """Return who subscribes to a topic, in all processes.

        That is a random name for each subscription, with what `presence_info` has told of it.
        Raises TopicsUnavailable.
        """
        return await self.topics.presence(topic)

    def user_key(self, request: Request) -> str:
        """Return what `messages_per_second_per_user` counts together."""
        return user_key(request)

    def presence_info(self, request: Request) -> Any:
        """Return what others may know of who subscribes; may be a coroutine. Here: nothing."""
        return None if self._presence_info is None else self._presence_info(request)

    if not TYPE_CHECKING:  # it has no types in Autobahn either

        def stopFactory(self):
            """Let the broker rest; what is published while the service stops is sent, too."""
            super().stopFactory()
            self.topics.rest()

    def startFactory(self) -> None:
        """Let topics be heard of, unless the service has seen to that."""
        super().startFactory()  # type: ignore[no-untyped-call]
        self.topics.start().addErrback(_log_no_topics)


def _log_no_topics(failure: Failure) -> None:
    logger.critical("topics are not available: %s", failure.getErrorMessage())
