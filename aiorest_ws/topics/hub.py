"""The topics of a process: who subscribes to what here, and the way from a broker to them.

A subscription knows the offset that its client knows of. A message is sent to those that are just
before it. Whoever is not, because something was missed on the way here or because the client has
been away, gets what the broker has kept, at the pace of the client, and is live again when it has
come to where the topic is. That is the only way to go on, so nothing is lost or doubled between
the two.
"""

import secrets
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from aiorest_ws.awaiting import begun, sharing
from aiorest_ws.codecs import encode_json, encode_message, load_json
from aiorest_ws.exceptions import NotSpecifiedTopic, ReplyTooLarge, TopicsUnavailable, UnknownTopic
from aiorest_ws.framing import frame_of
from aiorest_ws.limits import Limits
from aiorest_ws.log import logger
from aiorest_ws.topics.broker import ENVELOPE_BYTES, Broker, Message, Position, Retention
from aiorest_ws.topics.local import LocalTopic
from aiorest_ws.topics.names import check_name
from aiorest_ws.topics.replay import Replays
from aiorest_ws.topics.routes import TopicRoute, TopicRoutes
from aiorest_ws.topics.subscription import Note, Subscriber, Subscription

__all__ = ("Hub",)

SWEEP_SECONDS = 1.0


class Hub:
    """Publish, and bring what is published to the subscribers of this process."""

    def __init__(
        self,
        broker: Broker,
        limits: Limits,
        reactor: Any,
        routes: Callable[[], TopicRoutes],
    ) -> None:
        self.broker = broker
        self._limits = limits
        self._reactor = reactor
        self._routes = routes
        self._topics: dict[str, LocalTopic] = {}
        self._replays = Replays(broker, reactor, self._topics)
        self._starting: Deferred[None] | None = None
        self._kept: set[Deferred[Any]] = set()
        self._sweeping = LoopingCall(self._sweep)
        self._sweeping.clock = reactor
        self._resyncing: Deferred[Any] | None = None
        # What was published by an override that sends a push: each message has its turn.
        self._fanning_out: deque[tuple[LocalTopic, Message]] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The topics that connections of this process subscribe to."""
        return tuple(self._topics)

    # The life of it

    def start(self) -> Deferred[None]:
        """Begin to hear of what is published; raise TopicsUnavailable. More than once is once."""
        if self._starting is None:
            self._starting = begun(self._start())
        started: Deferred[None] = Deferred()

        def pass_on(result: Any) -> None:
            if isinstance(result, Failure):
                self._starting = None  # it may be tried again
            started.callback(result)

        self._starting.addBoth(pass_on)
        return started

    async def _start(self) -> None:
        retentions = {route.pattern.text: self._retention(route) for route in self._routes()}
        await self.broker.start(self)
        await self.broker.declare(retentions)

    async def stop(self) -> None:
        """Let go of the broker."""
        self.rest()
        for pending in list(self._kept):
            pending.cancel()
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()
            await self.broker.stop()

    def rest(self) -> None:
        """Sweep no more, until something is published or subscribed to."""
        if self._sweeping.running:
            self._sweeping.stop()

    def _sweep(self) -> None:
        self.broker.sweep()

    def _sweep_later(self) -> None:
        if not self._sweeping.running and not self.broker.is_shared:
            self._sweeping.start(SWEEP_SECONDS, now=False)

    # Publishing

    def publish(
        self,
        topic: str,
        data: Any,
        *,
        key: str | None = None,
        block: bool = False,
        wait_seconds: float = 0.0,
    ) -> Deferred[Position]:
        """Send `data` to all subscribers of a topic: see `RequestHandlerFactory.publish`."""
        check_name(topic)
        if key is not None and not isinstance(key, str):
            raise TypeError(f"key must be a string, not {key!r}")
        found = self._routes().find(topic)
        if found is None:
            raise UnknownTopic(f"no topic that was registered is like {topic!r}")
        route, _ = found
        encoded = encode_json(data)
        if len(encoded) + ENVELOPE_BYTES > self._limits.message_bytes:
            raise ReplyTooLarge(f"What is published has {len(encoded)} bytes.")
        publishing = self.broker.publish(
            topic,
            encoded,
            key=key,
            retention=self._retention(route),
            wait_seconds=wait_seconds,
        )
        if block and route.policy == "block":
            publishing = self._publish_when_read(topic, len(encoded), publishing)
        self._sweep_later()
        return begun(publishing)

    async def _publish_when_read(
        self, topic: str, size: int, publishing: Coroutine[Any, Any, Position]
    ) -> Position:
        try:
            while True:
                followed = self._topics.get(topic)
                full = (
                    subscription.connection.room_for_push(size)
                    for subscription in list(followed.subscriptions if followed else ())
                )
                room = next((waiting for waiting in full if waiting is not None), None)
                if room is None:
                    return await publishing
                await room
        finally:
            publishing.close()

    # Subscribing

    async def subscribe(
        self,
        connection: Subscriber,
        name: str,
        *,
        since: Position | None = None,
        echo: dict[str, Any] | None = None,
        is_binary: bool = False,
        info: Any = None,
    ) -> tuple[Subscription, dict[str, Any]]:
        """Return a subscription that waits for `start_pushes`, and what its client is to be told.

        Raises NotSpecifiedTopic for what is not registered, TopicsUnavailable.
        """
        found = self._routes().find(name)
        if found is None:
            raise NotSpecifiedTopic
        route, _ = found
        subscription = Subscription(
            connection,
            name,
            route,
            echo=echo or {"event_name": None},
            is_binary=is_binary,
            member=secrets.token_hex(8),
        )
        topic = self._follow(subscription)
        try:
            if topic.seen < 0:
                await sharing(topic.known)
                if topic.seen < 0:
                    raise TopicsUnavailable
            if since is None:
                subscription.epoch, subscription.sent = topic.epoch, topic.seen
            else:
                await self._replays.find_place(subscription, since)
            await self.broker.enter(
                name, subscription.member, encode_json(info), is_announced=route.presence
            )
            answer = {
                "topic": name,
                "epoch": subscription.epoch,
                "offset": subscription.sent,
            }
            if route.presence:
                answer["member"] = subscription.member
                answer["presence"] = await self.presence(name)
        except BaseException:
            self.unsubscribe(subscription)
            raise
        return subscription, answer

    def start_pushes(self, subscription: Subscription) -> None:
        """Send what the client has missed, then what comes."""
        if subscription.is_ended or subscription.is_started:
            return
        subscription.is_started = True
        notes, subscription.notes = subscription.notes, []
        for note in notes:
            subscription.connection.push(subscription, note)
        topic = self._topics[subscription.name]
        if topic.is_at(subscription) and not subscription.has_gap:
            topic.start_live(subscription)
        else:
            self._catch_up(subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription; nothing more is sent for it."""
        if subscription.is_ended:
            return
        subscription.is_ended = True
        topic = self._topics[subscription.name]
        topic.end_live(subscription)
        del topic.subscriptions[subscription]
        pending, subscription.pending = subscription.pending, None
        if pending is not None:
            pending.cancel()
        if not topic.subscriptions:
            del self._topics[subscription.name]
            self.broker.unfollow(subscription.name)
        # Last, for a publisher that waits for room goes on here.
        subscription.connection.forget_pushes(subscription)
        self._spawn(self.broker.leave(subscription.name, subscription.member))

    def _follow(self, subscription: Subscription) -> LocalTopic:
        name = subscription.name
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = LocalTopic(name)
            self.broker.follow(name, self._retention(subscription.route))
            topic.known = self._spawn(self._learn(topic))
            self._sweep_later()
        topic.subscriptions[subscription] = None
        return topic

    async def _learn(self, topic: LocalTopic) -> None:
        """Find out where a topic is."""
        head = await self.broker.head(topic.name)
        early = topic.early
        if early is not None and early.epoch != head.epoch:
            # Which of them is the newer one the broker knows by now.
            head = await self.broker.head(topic.name)
            early = topic.early
        # What has arrived in the meantime may be behind that, or be that.
        is_later = early is not None and early.epoch == head.epoch and early.offset > head.offset
        topic.epoch = head.epoch
        topic.seen = early.offset if early is not None and is_later else head.offset
        topic.early = None
        self._look_at(topic)

    async def presence(self, name: str) -> dict[str, Any]:
        """Return who subscribes to a topic: a random name for each, and what is told of them."""
        members = await self.broker.members(name)
        return {member: load_json(info) for member, info in members.items()}

    async def admit(self, key: str, per_second: float) -> bool:
        """Take one from what `key` may do in a second; tell whether there was one left."""
        self._sweep_later()
        return await self.broker.admit(key, per_second)

    # From the broker

    def deliver(self, message: Message) -> None:
        """Take a message of any topic."""
        topic = self._topics.get(message.topic)
        if topic is None:
            return
        if topic.seen < 0:
            topic.early = message
            return
        before, offset = topic.seen, message.offset
        if message.epoch != topic.epoch:
            # The broker has the last word on which is the newer one.
            topic.seen, topic.early = -1, message
            topic.known = self._spawn(self._replays.patiently(partial(self._learn, topic)))
        elif offset == before + 1:
            topic.seen = offset
            if self._fanning_out is None:
                self._fan_out_all(topic, message)
            else:
                self._fanning_out.append((topic, message))
        elif offset > before:
            topic.seen = offset
            self._look_at(topic)

    def _fan_out_all(self, topic: LocalTopic, message: Message) -> None:
        later = self._fanning_out = deque()
        try:
            self._fan_out(topic, message)
            while later:
                self._fan_out(*later.popleft())
        finally:
            self._fanning_out = None

    def _fan_out(self, topic: LocalTopic, message: Message) -> None:
        offset = message.offset
        before = offset - 1
        body = message.body
        for prefix, is_binary, subscriptions in topic.groups():
            payload = encode_message(prefix + body, is_binary)
            frame, size = frame_of(payload, is_binary), len(payload)
            for subscription in subscriptions:
                # With something waiting it is sent in its turn.
                if subscription.sent == before and subscription.connection.push_frame(frame, size):
                    subscription.sent = offset
                elif subscription.is_live and subscription.sent < offset:
                    subscription.connection.push(subscription, message)

    def joined(self, topic: str, member: str, info: bytes) -> None:
        """Tell the others of a subscriber."""
        self._tell(topic, "join", {"member": member, "info": load_json(info)})

    def left(self, topic: str, member: str) -> None:
        """Tell the others that a subscriber is gone."""
        self._tell(topic, "leave", {"member": member})

    def _tell(self, name: str, what: str, told: dict[str, Any]) -> None:
        topic = self._topics.get(name)
        if topic is None:
            return
        note = Note(name, what, told)
        for subscription in list(topic.subscriptions):
            if not subscription.route.presence or subscription.member == told["member"]:
                continue
            if subscription.is_started:
                subscription.connection.push(subscription, note)
            else:
                subscription.notes.append(note)

    def resync(self) -> None:
        """Ask for the head of each topic again: messages may have been missed."""
        if self._resyncing is not None:
            self._resyncing.cancel()
        self._resyncing = self._spawn(self._resync())

    async def _resync(self) -> None:
        for topic in list(self._topics.values()):
            if topic.seen >= 0 and self._topics.get(topic.name) is topic:
                topic.seen = -1
                topic.known = self._spawn(self._replays.patiently(partial(self._learn, topic)))
                await sharing(topic.known)
        self._resyncing = None

    def _look_at(self, topic: LocalTopic) -> None:
        """Let those that have missed something catch up."""
        for _, _, subscriptions in topic.groups():
            for subscription in subscriptions:
                if subscription.is_live and not (
                    subscription.epoch == topic.epoch and subscription.sent == topic.seen
                ):
                    topic.end_live(subscription)
                    subscription.connection.forget_pushes(subscription)
                    self._catch_up(subscription)

    def _catch_up(self, subscription: Subscription) -> None:
        subscription.pending = self._spawn(self._bring_up(subscription))

    async def _bring_up(self, subscription: Subscription) -> None:
        try:
            await self._replays.until_live(subscription)
        except CancelledError:
            raise
        except Exception as exc:  # noqa: BLE001  the other subscriptions go on
            logger.error("the subscription to %r has failed", subscription.name, exc_info=exc)
            subscription.connection.end_pushes(subscription)

    def _retention(self, route: TopicRoute) -> Retention:
        limits = self._limits
        return Retention(route.history, limits.history_bytes, limits.history_seconds)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """Let something go on by itself; what it raises is logged."""
        running = begun(work)
        self._kept.add(running)

        def done(result: Any) -> None:
            self._kept.discard(running)
            if isinstance(result, Failure) and not result.check(CancelledError, TopicsUnavailable):
                exc = result.value
                logger.error("topics: something has failed", exc_info=exc)

        running.addBoth(done)
        return running
