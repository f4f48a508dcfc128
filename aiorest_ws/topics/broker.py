"""What keeps the messages of topics and hands them on: in this process, or for many of them.

An offset counts the messages of a topic, from 1 on and without a gap, for as long as its epoch is
the same. A new epoch says that what an offset meant before is not known any more.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from aiorest_ws.codecs import encode_json

__all__ = ("ENVELOPE_BYTES", "Broker", "Message", "Position", "Receiver", "Replay", "Retention")

# What a push has besides its data: topic, epoch and offset, and mostly all that is echoed.
ENVELOPE_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a topic: behind the message with this offset."""

    epoch: str
    offset: int


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept of a topic: that many messages, bytes of data and seconds, whichever is least.

    With 0 messages nothing is kept.
    """

    messages: int
    bytes: int
    seconds: float


class Message:
    """What was published.

    `body` is the part of a push that is the same for all subscribers: the members from `topic` on,
    and the closing brace. `key` is for topics of which only the latest message of each key counts.
    """

    __slots__ = ("_size", "body", "epoch", "key", "offset", "topic")

    def __init__(
        self, topic: str, epoch: str, offset: int, data: bytes, key: str | None = None
    ) -> None:
        self.topic = topic
        self.epoch = epoch
        self.offset = offset
        self.key = key
        position = encode_json({"topic": topic, "epoch": epoch})
        self.body = b'%b,"offset":%d,"data":%b}' % (position[1:-1], offset, data)
        self._size = len(data)

    @property
    def data(self) -> bytes:
        """What was published, in JSON."""
        return self.body[-self._size - 1 : -1]

    @property
    def size(self) -> int:
        """The bytes of that."""
        return self._size


@dataclass(frozen=True, slots=True)
class Replay:
    """Messages of a topic in order, and where its last one is.

    What is missing before the first of them is not kept any more.
    """

    head: Position
    messages: Sequence[Message]


class Receiver(Protocol):
    """Where a broker brings what it hears, in the thread of the reactor."""

    def deliver(self, message: Message) -> None:
        """Take a message of any topic.

        Those of one topic come in order. One may come twice, and some may be missing: offset and
        epoch say so.
        """

    def joined(self, topic: str, member: str, info: bytes) -> None:
        """Take notice of a subscriber; `info` is JSON."""

    def left(self, topic: str, member: str) -> None:
        """Take notice that a subscriber is gone."""

    def resync(self) -> None:
        """Ask for the head of each followed topic again: messages may have been missed."""


class Broker(ABC):
    """Where messages are kept. A process has one, and uses it in the thread of the reactor.

    What cannot be reached raises TopicsUnavailable.
    """

    # Whether other processes see the same topics.
    is_shared: ClassVar[bool]

    @abstractmethod
    async def start(self, receiver: Receiver) -> None:
        """Bring what is published, by whomever, to `receiver`."""

    @abstractmethod
    async def stop(self) -> None:
        """Bring nothing more, and let go of connections and members."""

    @abstractmethod
    async def publish(
        self,
        topic: str,
        data: bytes,
        *,
        key: str | None,
        retention: Retention,
        wait_seconds: float,
    ) -> Position:
        """Give a message its offset, keep it and hand it on, or do nothing of it.

        A broker that cannot be reached is tried for `wait_seconds`.
        """

    @abstractmethod
    async def head(self, topic: str) -> Position:
        """Return where a topic is; one that nobody has heard of begins with offset 0."""

    @abstractmethod
    async def replay(self, topic: str, after: Position, *, messages: int, size: int) -> Replay:
        """Return what is kept behind `after`, from the oldest on: at most so many, and of `size`.

        One message is returned whatever its size. If the topic is in another epoch, or its head
        before `after`, it is all that is kept.
        """

    @abstractmethod
    def follow(self, topic: str, retention: Retention) -> None:
        """Keep a topic in its epoch as long as it is followed."""

    @abstractmethod
    def unfollow(self, topic: str) -> None:
        """Let go of a topic that nobody here subscribes to any more."""

    @abstractmethod
    async def enter(self, topic: str, member: str, info: bytes, *, is_announced: bool) -> None:
        """Note a subscriber of this process; all receivers hear of it if it is announced."""

    @abstractmethod
    async def leave(self, topic: str, member: str) -> None:
        """Forget a subscriber of this process; who heard of it hears that it is gone."""

    @abstractmethod
    async def members(self, topic: str) -> dict[str, bytes]:
        """Return who subscribes to a topic, in all processes, with what is told of them."""

    @abstractmethod
    async def admit(self, key: str, per_second: float) -> bool:
        """Take one from what `key` may do in a second; tell whether there was one left."""

    def sweep(self) -> None:  # noqa: B027  for brokers that do not free things by themselves
        """Free what is not needed any more; called once a second."""

    async def declare(self, patterns: Mapping[str, Retention]) -> None:  # noqa: B027
        """Tell publishers in other processes what is registered here, and what is kept of it."""
