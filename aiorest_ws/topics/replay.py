"""Replays: a subscription that has missed messages catches up, and then is live."""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from twisted.internet.task import deferLater

from aiorest_ws.exceptions import TopicsUnavailable
from aiorest_ws.topics.broker import Broker, Position, Replay
from aiorest_ws.topics.local import LocalTopic
from aiorest_ws.topics.subscription import Subscription

__all__ = ("Replays",)

# How much is read from the history at once.
REPLAYED_MESSAGES = 64
REPLAYED_BYTES = 64 * 1024

# The pause before the broker, or what has arrived from it, is checked again.
RETRY_SECONDS = 0.1
UNAVAILABLE_SECONDS = 1.0


class Replays:
    """Sends subscriptions the messages they have missed."""

    def __init__(self, broker: Broker, reactor: Any, topics: dict[str, LocalTopic]) -> None:
        self._broker = broker
        self._reactor = reactor
        self._topics = topics

    async def find_place(self, subscription: Subscription, since: Position) -> None:
        """Set the position of a subscription that resumes after `since`."""
        replay = await self._replay(subscription.name, since)
        subscription.epoch, subscription.sent = since.epoch, since.offset
        first = _first_after(replay, since)
        if first != since.offset + 1 or replay.head.epoch != since.epoch:
            subscription.epoch, subscription.sent = replay.head.epoch, first - 1
            subscription.has_gap = True
        if first > replay.head.offset:
            # A client that is ahead of the topic has seen the history already.
            replay = Replay(replay.head, ())
        subscription.batch = replay

    async def find_last(self, subscription: Subscription, topic: LocalTopic, count: int) -> None:
        """Set the position of a subscription that begins with the newest `count` messages."""
        after = Position(topic.epoch, max(0, topic.seen - count))
        replay = await self._replay(subscription.name, after)
        head = replay.head
        sent = max(_first_after(replay, after) - 1, head.offset - count)
        subscription.epoch, subscription.sent = head.epoch, sent
        kept = [message for message in replay.messages if message.offset > sent]
        # Others may have published meanwhile, and the messages wanted be farther on.
        is_there = bool(kept) or sent == head.offset
        subscription.batch = Replay(head, kept) if is_there else None

    async def until_live(self, subscription: Subscription) -> None:
        """Send what a client has missed, at its pace, until its subscription can be live."""
        while not subscription.is_ended:
            await subscription.connection.writable()
            topic = self._topics.get(subscription.name)
            if subscription.is_ended or topic is None:
                return
            batch, subscription.batch = subscription.batch, None
            is_stuck = False
            if batch is not None or not _may_be_live(topic, subscription):
                before = subscription.position
                if batch is None:
                    batch = await self.retry(partial(self._replay, subscription.name, before))
                if subscription.is_ended:
                    return
                _send_replay(subscription, batch)
                # The broker may have messages that have not arrived here yet.
                is_stuck = subscription.position == before
            # In the same turn: a topic without history would lose what comes in between.
            if _may_be_live(topic, subscription):
                subscription.pending = None
                topic.start_live(subscription)
                return
            # Let others have a turn of the loop.
            await deferLater(self._reactor, RETRY_SECONDS if is_stuck else 0)

    async def retry(self, ask: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Call `ask` until the broker can be reached."""
        while True:
            try:
                return await ask()
            except TopicsUnavailable:
                await deferLater(self._reactor, UNAVAILABLE_SECONDS)

    async def _replay(self, name: str, after: Position) -> Replay:
        return await self._broker.replay(
            name, after, messages=REPLAYED_MESSAGES, size=REPLAYED_BYTES
        )


def _may_be_live(topic: LocalTopic, subscription: Subscription) -> bool:
    return topic.is_at(subscription) and not (subscription.has_gap or subscription.is_ended)


def _send_replay(subscription: Subscription, replay: Replay) -> None:
    first = _first_after(replay, subscription.position)
    has_gap = subscription.has_gap or first != subscription.sent + 1
    if has_gap or subscription.epoch != replay.head.epoch:
        subscription.epoch = replay.head.epoch
        subscription.send_gap(first - 1)
    for message in replay.messages:
        if subscription.is_ended:  # by an override that sends
            return
        if message.epoch == subscription.epoch:
            subscription.send(message)


def _first_after(replay: Replay, since: Position) -> int:
    """Return the offset of the first message that a client at `since` gets."""
    head = replay.head
    is_ahead = head.epoch == since.epoch and since.offset > head.offset
    if is_ahead or not replay.messages:
        return head.offset + 1
    return replay.messages[0].offset
