"""A broker in the memory of the process."""

import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from itertools import islice
from math import ceil

from aiorest_ws.topics.broker import Broker, Message, Position, Receiver, Replay, Retention

__all__ = ("MemoryBroker",)

# A sweep looks at one in so many topics, but not at fewer than the minimum, so that it is short.
MIN_SWEPT_TOPICS = 1000
SWEPT_FRACTION = 10


class _Topic:
    __slots__ = (
        "epoch",
        "followers",
        "kept",
        "members",
        "offset",
        "published",
        "retention",
        "size",
    )

    def __init__(self, epoch: str, retention: Retention | None) -> None:
        self.epoch = epoch
        self.offset = 0
        self.kept: deque[tuple[float, Message]] = deque()
        self.size = 0
        self.members: dict[str, tuple[bytes, bool]] = {}
        self.followers = 0
        self.published = 0.0
        self.retention = retention

    def trim(self, now: float) -> None:
        """Drop messages that the retention does not keep."""
        retention = self.retention
        if retention is None:
            return
        kept = self.kept
        while kept and (
            len(kept) > retention.messages
            or self.size > retention.bytes
            or now - kept[0][0] > retention.seconds
        ):
            self.size -= kept.popleft()[1].size

    def is_idle(self, now: float) -> bool:
        """Tell whether the topic can be freed."""
        if self.followers or self.members:
            return False
        if not self.offset:
            return True
        seconds = 0.0 if self.retention is None else self.retention.seconds
        return now - self.published > seconds


class MemoryBroker(Broker):
    """Stores topics in this process, and frees those that are idle."""

    is_shared = False

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._topics: OrderedDict[str, _Topic] = OrderedDict()
        self._receiver: Receiver | None = None
        # The epoch of new topics. A topic without messages is freed, because clients may ask for
        # any number of names; it gets the same epoch when it comes back.
        self._epoch = secrets.token_hex(8)
        # What is left of an allowance, when that was, and when it will be full again.
        self._allowances: dict[str, tuple[float, float, float]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The topics that take memory: with messages, followers or members."""
        return tuple(self._topics)

    @property
    def followed(self) -> tuple[str, ...]:
        """The topics with subscribers."""
        return tuple(name for name, state in self._topics.items() if state.followers)

    async def start(self, receiver: Receiver) -> None:
        """Deliver messages to `receiver`."""
        self._receiver = receiver

    async def stop(self) -> None:
        """Stop delivering."""
        self._receiver = None

    async def publish(
        self,
        topic: str,
        data: bytes,
        *,
        key: str | None,
        retention: Retention,
        wait_seconds: float,  # noqa: ARG002  memory can always be reached
    ) -> Position:
        """Give a message its offset, store and deliver it."""
        now = self._clock()
        state = self._state(topic)
        state.offset += 1
        state.published = now
        state.retention = retention
        message = Message(topic, state.epoch, state.offset, data, key)
        state.kept.append((now, message))
        state.size += len(data)
        state.trim(now)
        if self._receiver is not None:
            self._receiver.deliver(message)
        return Position(message.epoch, message.offset)

    async def head(self, topic: str) -> Position:
        """Return the position of the last message."""
        state = self._state(topic)
        return Position(state.epoch, state.offset)

    async def replay(self, topic: str, after: Position, *, messages: int, size: int) -> Replay:
        """Return messages after `after`."""
        state = self._state(topic)
        state.trim(self._clock())
        head = Position(state.epoch, state.offset)
        kept = state.kept
        skipped = 0
        if after.epoch == head.epoch and after.offset <= head.offset and kept:
            skipped = max(0, after.offset + 1 - kept[0][1].offset)
        found: list[Message] = []
        for _, message in islice(kept, skipped, None):
            size -= message.size
            if found and (size < 0 or len(found) >= messages):
                break
            found.append(message)
        return Replay(head, found)

    def follow(self, topic: str, retention: Retention) -> None:
        """Keep the epoch of a topic until `unfollow`."""
        state = self._state(topic)
        state.followers += 1
        state.retention = retention

    def unfollow(self, topic: str) -> None:
        """Release a topic without subscribers."""
        state = self._state(topic)
        state.followers -= 1
        state.published = max(state.published, self._clock())
        self._free_unused(topic, state)

    async def enter(self, topic: str, member: str, info: bytes, *, is_announced: bool) -> None:
        """Add a subscriber."""
        self._state(topic).members[member] = (info, is_announced)
        if is_announced and self._receiver is not None:
            self._receiver.joined(topic, member, info)

    async def leave(self, topic: str, member: str) -> None:
        """Remove a subscriber."""
        state = self._topics.get(topic)
        if state is None:
            return
        _, is_announced = state.members.pop(member, (b"", False))
        self._free_unused(topic, state)
        if is_announced and self._receiver is not None:
            self._receiver.left(topic, member)

    async def members(self, topic: str) -> dict[str, bytes]:
        """Return the subscribers of a topic with their `info`."""
        state = self._topics.get(topic)
        return {} if state is None else {name: info for name, (info, _) in state.members.items()}

    async def admit(self, key: str, per_second: float) -> bool:
        """Take one from the allowance of `key`."""
        now = self._clock()
        most = max(1, ceil(per_second))
        left, then, _ = self._allowances.get(key, (most, now, now))
        left = min(most, left + (now - then) * per_second)
        is_admitted = left >= 1
        left -= is_admitted
        self._allowances[key] = (left, now, now + (most - left) / per_second)
        return is_admitted

    def sweep(self) -> None:
        """Drop old messages and idle topics, of some topics each time."""
        now = self._clock()
        topics = len(self._topics)
        for _ in range(min(topics, max(MIN_SWEPT_TOPICS, topics // SWEPT_FRACTION))):
            name, state = next(iter(self._topics.items()))
            state.trim(now)
            if state.is_idle(now):
                self._free(name, state)
            else:
                self._topics.move_to_end(name)
        for key in [key for key, (*_, whole) in self._allowances.items() if whole <= now]:
            del self._allowances[key]

    def _free_unused(self, name: str, state: _Topic) -> None:
        if not (state.offset or state.followers or state.members):
            self._free(name, state)

    def _free(self, name: str, state: _Topic) -> None:
        del self._topics[name]
        if state.offset and state.epoch == self._epoch:
            self._epoch = secrets.token_hex(8)

    def _state(self, topic: str) -> _Topic:
        state = self._topics.get(topic)
        if state is None:
            state = self._topics[topic] = _Topic(self._epoch, None)
            state.published = self._clock()
        return state
