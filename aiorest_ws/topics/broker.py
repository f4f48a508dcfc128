"""Brokers store the messages of topics and deliver them, within a process or between processes.

An offset counts the messages of a topic, from 1 on and without a gap, within an epoch. A new epoch
means that offsets of before are no longer valid.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from aiorest_ws.codecs import encode_json

__all__ = ("ENVELOPE_BYTES", "Broker", "Message", "Position", "Receiver", "Replay", "Retention")

# The space in a push for everything besides its data: topic, epoch, offset, echoed members.
ENVELOPE_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a topic: after the message with this offset."""

    epoch: str
    offset: int


@dataclass(frozen=True, slots=True)
class Retention:
    """The history of a topic: it is limited by messages, bytes of data and age in seconds.

    With 0 messages there is no history.
    """

    messages: int
    bytes: int
    seconds: float


class Message:
    """A published message.

    `body` is the part of a push that is the same for all subscribers: the members from `topic` on,
    and the closing brace. `key` is for topics with the policy `latest`.
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
        """The published data, in JSON."""
        return self.body[-self._size - 1 : -1]

    @property
    def size(self) -> int:
        """The size of the data in bytes."""
        return self._size


@dataclass(frozen=True, slots=True)
class Replay:
    """Messages of a topic in order, and the position of its last one.

    Messages that are missing before the first are no longer in the history.
    """

    head: Position
    messages: Sequence[Message]


class Receiver(Protocol):
    """What a broker delivers to, in the reactor thread."""

    def deliver(self, message: Message) -> None:
        """Receive a message of any topic.

        Messages of one topic come in order. One may come twice, and some may be missing, which
        offset and epoch show.
        """

    def joined(self, topic: str, member: str, info: bytes) -> None:
        """Note that a subscriber has joined; `info` is JSON."""

    def left(self, topic: str, member: str) -> None:
        """Note that a subscriber has left."""

    def resync(self) -> None:
        """Get the head of each followed topic again: messages may have been missed."""


class Broker(ABC):
    """Stores messages. A process has one broker, and uses it in the reactor thread.

    Methods raise TopicsUnavailable while the storage cannot be reached.
    """

    # Whether other processes see the same topics.
    is_shared: ClassVar[bool]

    @abstractmethod
    async def start(self, receiver: Receiver) -> None:
        """Deliver all published messages to `receiver`."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop delivering; close connections, and remove the members of this process."""

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
        """Give a message its offset, store and deliver it; or do none of these.

        Retry for `wait_seconds` while the storage cannot be reached.
        """

    @abstractmethod
    async def head(self, topic: str) -> Position:
        """Return the position of the last message; that of a new topic has offset 0."""

    @abstractmethod
    async def replay(self, topic: str, after: Position, *, messages: int, size: int) -> Replay:
        """Return the oldest `messages` after `after`, with at most `size` bytes of data.

        At least one message is returned, whatever its size. If the topic is in another epoch, or
        `after` is after its head, the whole history is replayed.
        """

    @abstractmethod
    def follow(self, topic: str, retention: Retention) -> None:
        """Keep the epoch of a topic until `unfollow`."""

    @abstractmethod
    def unfollow(self, topic: str) -> None:
        """Release a topic without subscribers in this process."""

    @abstractmethod
    async def enter(self, topic: str, member: str, info: bytes, *, is_announced: bool) -> None:
        """Add a subscriber of this process, and tell all receivers if it is announced."""

    @abstractmethod
    async def leave(self, topic: str, member: str) -> None:
        """Remove a subscriber of this process, and tell those that were told of it."""

    @abstractmethod
    async def members(self, topic: str) -> dict[str, bytes]:
        """Return the subscribers of a topic, in all processes, with their `info`."""

    @abstractmethod
    async def admit(self, key: str, per_second: float) -> bool:
        """Take one from the allowance of `key`; tell whether there was one left."""

    def sweep(self) -> None:  # noqa: B027  for brokers that do not free things by themselves
        """Free what is no longer needed; called once a second."""

    async def declare(self, patterns: Mapping[str, Retention]) -> None:  # noqa: B027
        """Tell publishers in other processes which topics are registered here."""
