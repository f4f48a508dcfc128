"""The subscriptions of a process, and how messages get from a broker to them.

A subscription knows the last offset that its client was sent. A new message is sent to the
subscriptions whose last offset is the one before it. Any other, because a message was missed or
because the client has been away, replays the history of the broker at the pace of its client, and
is live again when it has reached the last message. There is no other way to become live, so that
nothing is lost or sent twice in between.
"""

import secrets
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from aiorest_ws.awaiting import shield, start
from aiorest_ws.codecs import encode_message, load_json
from aiorest_ws.exceptions import (
    NotSpecifiedTopic,
    TopicsUnavailable,
    UnknownTopic,
)
from aiorest_ws.framing import frame_of
from aiorest_ws.limits import Limits
from aiorest_ws.log import logger
from aiorest_ws.topics.background import Background
from aiorest_ws.topics.broker import Broker, Message, Position
from aiorest_ws.topics.encoding import encode_presence, encode_publication
from aiorest_ws.topics.local import LocalTopic
from aiorest_ws.topics.names import check_name
from aiorest_ws.topics.replay import Replays
from aiorest_ws.topics.routes import TopicRoutes
from aiorest_ws.topics.subscription import Note, Subscriber, Subscription
from aiorest_ws.values import Converter

__all__ = ("Hub",)

SWEEP_SECONDS = 1.0


class Hub:
    """Publishes messages, and delivers them to the subscribers of this process."""

    def __init__(
        self,
        broker: Broker,
        limits: Limits,
        reactor: Any,
        routes: Callable[[], TopicRoutes],
        encoder: Converter | None = None,
    ) -> None:
        self.broker = broker
        self._encoder = encoder
        self._limits = limits
        self._routes = routes
        self._topics: dict[str, LocalTopic] = {}
        self._replays = Replays(broker, reactor, self._topics)
        self._starting: Deferred[None] | None = None
        self._background = Background()
        self._sweeping = LoopingCall(broker.sweep)
        self._sweeping.clock = reactor
        self._resyncing: Deferred[Any] | None = None
        # Messages that were published while a push was sent: each is sent to all in its turn.
        self._fanning_out: deque[tuple[LocalTopic, Message]] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The topics that connections of this process subscribe to."""
        return tuple(self._topics)

    # Start and stop

    def start(self) -> Deferred[None]:
        """Start to receive messages, once; raise TopicsUnavailable."""
        if self._starting is None:
            self._starting = start(self._start())
        started: Deferred[None] = Deferred()

        def pass_on(result: Any) -> None:
            if isinstance(result, Failure):
                self._starting = None  # it may be retried
            started.callback(result)

        self._starting.addBoth(pass_on)
        return started

    async def _start(self) -> None:
        await self.broker.start(self)
        retentions = {one.pattern.text: one.retention(self._limits) for one in self._routes()}
        await self.broker.declare(retentions)

    async def stop(self) -> None:
        """Stop the broker."""
        self.stop_sweeping()
        self._background.cancel()
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()
            await self.broker.stop()

    def stop_sweeping(self) -> None:
        """Stop sweeping until something is published or subscribed to."""
        if self._sweeping.running:
            self._sweeping.stop()

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
            raise UnknownTopic(f"no registered topic matches {topic!r}")
        route, _ = found
        encoded = encode_publication(topic, data, self._limits, self._encoder)
        publishing = self.broker.publish(
            topic,
            encoded,
            key=key,
            retention=route.retention(self._limits),
            wait_seconds=wait_seconds,
        )
        if block and route.policy == "block":
            publishing = self._publish_when_read(topic, len(encoded), publishing)
        self._sweep_later()
        return start(publishing)

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
        since: Position | int | None = None,
        echo: dict[str, Any] | None = None,
        is_binary: bool = False,
        info: Any = None,
    ) -> tuple[Subscription, dict[str, Any]]:
        """Return a subscription that waits for `start_pushes`, and the answer for its client.
        Raises NotSpecifiedTopic (it is not registered), PresenceTooLarge, TopicsUnavailable.
        """
        found = self._routes().find(name)
        if found is None:
            raise NotSpecifiedTopic
        encoded_info = encode_presence(name, info, self._limits, self._encoder)
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
                await shield(topic.known)
                if topic.seen < 0:
                    raise TopicsUnavailable
            if since is None:
                subscription.epoch, subscription.sent = topic.epoch, topic.seen
            elif isinstance(since, int):
                await self._replays.find_last(subscription, topic, since)
            else:
                await self._replays.find_place(subscription, since)
            await self.broker.enter(
                name, subscription.member, encoded_info, is_announced=route.presence
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

    async def resume(self, subscription: Subscription, since: Position) -> dict[str, Any]:
        """Move a subscription that waits to another place; return what its client is told."""
        await self._replays.find_place(subscription, since)
        return {"epoch": subscription.epoch, "offset": subscription.sent}

    def start_pushes(self, subscription: Subscription) -> None:
        """Send what the client has missed, then new messages."""
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
        """End a subscription; no more pushes are sent for it."""
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
        # Last: it resumes publishers that wait for room.
        subscription.connection.forget_pushes(subscription)
        self._background.run(self.broker.leave(subscription.name, subscription.member))

    def _follow(self, subscription: Subscription) -> LocalTopic:
        name = subscription.name
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = LocalTopic(name)
            self.broker.follow(name, subscription.route.retention(self._limits))
            topic.known = self._background.run(self._load_head(topic))
            self._sweep_later()
        topic.subscriptions[subscription] = None
        return topic

    async def _load_head(self, topic: LocalTopic) -> None:
        """Get the position of a topic from the broker."""
        head = await self.broker.head(topic.name)
        early = topic.early
        if early is not None and early.epoch != head.epoch:
            # One of them is outdated: the broker has the newer one by now.
            head = await self.broker.head(topic.name)
            early = topic.early
        # A message that has arrived meanwhile may be later than the head.
        is_later = early is not None and early.epoch == head.epoch and early.offset > head.offset
        topic.epoch = head.epoch
        topic.seen = early.offset if early is not None and is_later else head.offset
        topic.early = None
        self._catch_up_where_behind(topic)

    def _reload_head(self, topic: LocalTopic) -> None:
        loading = self._replays.retry(partial(self._load_head, topic))
        topic.known = self._background.run(loading)

    async def presence(self, name: str) -> dict[str, Any]:
        """Return the subscribers of a topic: a random name for each, and its `info`."""
        members = await self.broker.members(name)
        return {member: load_json(info) for member, info in members.items()}

    async def admit(self, key: str, per_second: float) -> bool:
        """Take one from the allowance of `key`; tell whether there was one left."""
        self._sweep_later()
        return await self.broker.admit(key, per_second)

    # What the broker calls

    def deliver(self, message: Message) -> None:
        """Receive a message of any topic."""
        topic = self._topics.get(message.topic)
        if topic is None:
            return
        if topic.seen < 0:
            topic.early = message
            return
        before, offset = topic.seen, message.offset
        if message.epoch != topic.epoch:
            # The broker knows which of the epochs is the newer one.
            topic.seen, topic.early = -1, message
            self._reload_head(topic)
        elif offset == before + 1:
            topic.seen = offset
            if self._fanning_out is None:
                self._fan_out_all(topic, message)
            else:
                self._fanning_out.append((topic, message))
        elif offset > before:
            topic.seen = offset
            self._catch_up_where_behind(topic)

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
                # With queued pushes it is sent in its turn.
                if subscription.sent == before and subscription.connection.push_frame(frame, size):
                    subscription.sent = offset
                elif subscription.is_live and subscription.sent < offset:
                    subscription.connection.push(subscription, message)

    def joined(self, topic: str, member: str, info: bytes) -> None:
        """Tell the other subscribers that one has joined."""
        self._send_note(topic, "join", {"member": member, "info": load_json(info)})

    def left(self, topic: str, member: str) -> None:
        """Tell the other subscribers that one has left."""
        self._send_note(topic, "leave", {"member": member})

    def _send_note(self, name: str, event: str, about: dict[str, Any]) -> None:
        topic = self._topics.get(name)
        if topic is None:
            return
        note = Note(name, event, about)
        for subscription in list(topic.subscriptions):
            if not subscription.route.presence or subscription.member == about["member"]:
                continue
            if subscription.is_started:
                subscription.connection.push(subscription, note)
            else:
                subscription.notes.append(note)

    def resync(self) -> None:
        """Get the head of each topic again: messages may have been missed."""
        if self._resyncing is not None:
            self._resyncing.cancel()
        self._resyncing = self._background.run(self._resync())

    async def _resync(self) -> None:
        for topic in list(self._topics.values()):
            if topic.seen >= 0 and self._topics.get(topic.name) is topic:
                topic.seen = -1
                self._reload_head(topic)
                await shield(topic.known)
        self._resyncing = None

    def _catch_up_where_behind(self, topic: LocalTopic) -> None:
        """Let the live subscriptions that have missed something catch up."""
        for _, _, subscriptions in topic.groups():
            for subscription in subscriptions:
                if subscription.is_live and not (
                    subscription.epoch == topic.epoch and subscription.sent == topic.seen
                ):
                    topic.end_live(subscription)
                    subscription.connection.forget_pushes(subscription)
                    self._catch_up(subscription)

    def _catch_up(self, subscription: Subscription) -> None:
        subscription.pending = self._background.run(self._run_catch_up(subscription))

    async def _run_catch_up(self, subscription: Subscription) -> None:
        try:
            await self._replays.until_live(subscription)
        except CancelledError:
            raise
        except Exception as exc:  # noqa: BLE001  the other subscriptions go on
            logger.error("the subscription to %r failed", subscription.name, exc_info=exc)
            subscription.connection.end_pushes(subscription)
