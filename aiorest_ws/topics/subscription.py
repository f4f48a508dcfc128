"""The subscription of a connection to a topic."""

from collections import OrderedDict
from collections.abc import Awaitable
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from aiorest_ws.codecs import encode_json, encode_message
from aiorest_ws.topics.broker import Message, Position, Replay
from aiorest_ws.topics.routes import TopicRoute

__all__ = ("Note", "Subscriber", "Subscription")


class Subscriber(Protocol):
    """What topics need of a connection."""

    def push(self, subscription: "Subscription", entry: "Message | Note") -> None:
        """Send a push, or queue it until the client has read what was sent before."""

    def send_push(self, payload: bytes, is_binary: bool) -> bool:
        """Send a push at once; return False if it is larger than a message may be."""

    def push_frame(self, frame: bytes, size: int) -> bool:
        """Send a frame made for many connections; return False if it does not fit this one."""

    def writable(self) -> Awaitable[None]:
        """Return an awaitable that is done when the client has read what was sent."""

    def room_for_push(self, size: int) -> Deferred[None] | None:
        """Return None if `size` bytes fit, else a Deferred that fires with more room."""

    def end_pushes(self, subscription: "Subscription") -> None:
        """Close the connection: the subscription has failed."""

    def forget_pushes(self, subscription: "Subscription") -> None:
        """Discard the queued pushes of a subscription."""


class Note:
    """A push without an offset: a member has joined or left."""

    __slots__ = ("body",)

    key = None
    offset = None

    def __init__(self, topic: str, event: str, member: dict[str, Any]) -> None:
        self.body = encode_json({"topic": topic, event: member})[1:]

    @property
    def size(self) -> int:
        """The size of the body in bytes."""
        return len(self.body)


class Subscription:
    """One topic of one connection.

    `sent` is the last offset that the client was sent, in a push or in a gap.
    """

    __slots__ = (
        "batch",
        "connection",
        "epoch",
        "has_gap",
        "is_binary",
        "is_ended",
        "is_live",
        "is_started",
        "member",
        "name",
        "notes",
        "pending",
        "prefix",
        "route",
        "sent",
        "turns",
        "waiting",
        "waiting_bytes",
    )

    def __init__(
        self,
        connection: Subscriber,
        name: str,
        route: TopicRoute,
        *,
        echo: dict[str, Any],
        is_binary: bool,
        member: str,
    ) -> None:
        self.connection = connection
        self.name = name
        self.route = route
        # The members that only this client's pushes have; the ones common to all follow.
        self.prefix = encode_json(echo)[:-1] + b","
        self.is_binary = is_binary
        self.member = member
        self.epoch = ""
        self.sent = 0
        self.has_gap = False
        self.is_started = self.is_live = self.is_ended = False
        self.batch: Replay | None = None
        self.pending: Deferred[Any] | None = None
        self.notes: list[Note] = []
        self.waiting: OrderedDict[Any, Message | Note] | None = None
        self.waiting_bytes = 0
        self.turns = 0

    @property
    def position(self) -> Position:
        """The last position that the client was sent."""
        return Position(self.epoch, self.sent)

    def payload(self, body: bytes) -> bytes:
        """Return the payload of a push: text or binary, as the SUBSCRIBE was."""
        return encode_message(self.prefix + body, self.is_binary)

    def send(self, entry: "Message | Note") -> None:
        """Send a push, with a gap before it if earlier ones are missing."""
        offset = entry.offset
        if offset is None:
            self.connection.send_push(self.payload(entry.body), self.is_binary)
            return
        if offset <= self.sent:
            return
        if self.has_gap or offset != self.sent + 1:
            self.send_gap(offset - 1)
        if self.connection.send_push(self.payload(entry.body), self.is_binary):
            self.sent = offset
        else:
            self.send_gap(offset)

    def send_gap(self, offset: int) -> None:
        """Send a gap: the client misses everything up to `offset`."""
        self.sent = offset
        self.has_gap = False
        position = {"topic": self.name, "epoch": self.epoch, "offset": offset, "gap": True}
        self.connection.send_push(self.payload(encode_json(position)[1:]), self.is_binary)
