"""A client's subscription, and what waits for a client that does not keep up."""

from collections import OrderedDict, deque
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from aiorest_ws.codecs import encode_json, encode_message
from aiorest_ws.topics.broker import Message, Position, Replay
from aiorest_ws.topics.routes import TopicRoute

__all__ = ("Note", "PushQueue", "Subscriber", "Subscription")

# What an entry takes besides its data.
ENTRY_OVERHEAD = 200


class Subscriber(Protocol):
    """What topics need of a connection."""

    def push(self, subscription: "Subscription", entry: "Message | Note") -> None:
        """Send a push now, or keep it for when the client has read what was sent before."""

    def send_push(self, payload: bytes, is_binary: bool) -> bool:
        """Send now; tell whether that could be, for a message may be too large."""

    def push_frame(self, frame: bytes, size: int) -> bool:
        """Send a frame that others get, too, if nothing is special about this connection."""

    def writable(self) -> Any:
        """Return an awaitable that is done when the client keeps up."""

    def room_for_push(self, size: int) -> Deferred[None] | None:
        """Return None, or what fires when there is more room among the pushes that wait."""

    def end_pushes(self, subscription: "Subscription") -> None:
        """Let the client go: its subscription has failed."""

    def forget_pushes(self, subscription: "Subscription") -> None:
        """Let go of what waits to be sent for a subscription."""


class Note:
    """A push without an offset: who came, who left."""

    __slots__ = ("body",)

    key = None
    offset = None

    def __init__(self, topic: str, what: str, told: dict[str, Any]) -> None:
        self.body = encode_json({"topic": topic, what: told})[1:]

    @property
    def size(self) -> int:
        """The bytes of it."""
        return len(self.body)


class Subscription:
    """One topic of one connection.

    `sent` is the offset that the client knows of: of the last push, or of the last gap.
    """

    __slots__ = (
        "batch",
        "connection",
        "epoch",
        "has_gap",
        "is_begun",
        "is_binary",
        "is_ended",
        "is_live",
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
        connection: Any,
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
        # The members that only this subscriber's pushes have, up to where those of all begin.
        self.prefix = encode_json(echo)[:-1] + b","
        self.is_binary = is_binary
        self.member = member
        self.epoch = ""
        self.sent = 0
        self.has_gap = False
        self.is_begun = self.is_live = self.is_ended = False
        self.batch: Replay | None = None
        self.pending: Deferred[Any] | None = None
        self.notes: list[Note] = []
        self.waiting: OrderedDict[Any, Message | Note] | None = None
        self.waiting_bytes = 0
        self.turns = 0

    @property
    def position(self) -> Position:
        """What the client knows of."""
        return Position(self.epoch, self.sent)

    def payload(self, body: bytes) -> bytes:
        """Return a push in the form of the SUBSCRIBE."""
        return encode_message(self.prefix + body, self.is_binary)

    def send(self, entry: "Message | Note") -> None:
        """Send a push, and a gap before it if some are missing in between."""
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
        """Tell the client that it has missed everything up to `offset`."""
        self.sent = offset
        self.has_gap = False
        position = {"topic": self.name, "epoch": self.epoch, "offset": offset, "gap": True}
        self.connection.send_push(self.payload(encode_json(position)[1:]), self.is_binary)


class PushQueue:
    """The pushes that wait for one client, of all its topics, in at most `size` bytes."""

    def __init__(self, size: int) -> None:
        self._most = size
        self._bytes = 0
        # One for each entry that waits: whose is the next.
        self._turns: deque[Subscription] = deque()
        self._holders: dict[Subscription, None] = {}
        # The last offset that each was not sent, if nothing waits behind it.
        self._owing: dict[Subscription, int] = {}
        self._waiting_for_room: list[Deferred[None]] = []

    def __bool__(self) -> bool:
        return bool(self._turns or self._owing)

    def has_room(self, size: int) -> bool:
        """Tell whether an entry of that many bytes would not push out others."""
        return not self._bytes or self._bytes + size + ENTRY_OVERHEAD <= self._most

    def room(self) -> Deferred[None]:
        """Return a Deferred that fires when there is more room than now, or nobody to need it."""
        waiting: Deferred[None] = Deferred(self._waiting_for_room.remove)
        self._waiting_for_room.append(waiting)
        return waiting

    def add(self, subscription: Subscription, entry: "Message | Note") -> bool:
        """Take an entry; older ones may have to go. False: its policy is to let the client go."""
        if subscription.waiting is None:
            subscription.waiting = OrderedDict()
        waiting = subscription.waiting
        policy = subscription.route.policy
        is_latest = policy == "latest" and entry.offset is not None
        key = ("key", entry.key) if is_latest else object()
        replaced = waiting.pop(key, None)
        if replaced is not None:
            self._account(subscription, replaced, -1)
        if policy == "disconnect" and not self.has_room(entry.size):
            return False
        waiting[key] = entry
        self._account(subscription, entry, 1)
        if subscription.turns < len(waiting):
            subscription.turns += 1
            self._turns.append(subscription)
        self._holders[subscription] = None
        while self._bytes > self._most and self._drop_one():
            pass
        return True

    def send_next(self) -> None:
        """Send the entry whose turn it is, or a gap that is owed."""
        if not self._turns:
            subscription, offset = self._owing.popitem()
            if subscription.has_gap:
                subscription.send_gap(max(offset, subscription.sent))
            return
        subscription = self._turns.popleft()
        subscription.turns -= 1
        if subscription.waiting:
            _, entry = subscription.waiting.popitem(last=False)
            self._account(subscription, entry, -1)
            if not subscription.waiting:
                self._holders.pop(subscription, None)
            subscription.send(entry)
        self._tell_of_room()

    def forget(self, subscription: Subscription) -> None:
        """Let go of what waits for a subscription."""
        self._owing.pop(subscription, None)
        self._holders.pop(subscription, None)
        self._bytes -= subscription.waiting_bytes
        if subscription.turns:
            self._turns = deque(one for one in self._turns if one is not subscription)
        subscription.waiting = None
        subscription.waiting_bytes = subscription.turns = 0
        self._tell_of_room()

    def clear(self) -> None:
        """Let go of everything: the client is gone."""
        for subscription in {**self._holders, **self._owing}:
            self.forget(subscription)
        self._tell_of_room()

    def _drop_one(self) -> bool:
        """Drop the oldest entry of who has most, if its policy allows that."""
        largest = max(
            (one for one in self._holders if one.route.policy != "disconnect"),
            key=lambda one: one.waiting_bytes,
            default=None,
        )
        if largest is None or not largest.waiting:
            return False
        _, dropped = largest.waiting.popitem(last=False)
        self._account(largest, dropped, -1)
        largest.has_gap = True
        self._owing[largest] = max(self._owing.get(largest, 0), dropped.offset or 0)
        return True

    def _account(self, subscription: Subscription, entry: "Message | Note", sign: int) -> None:
        size = sign * (entry.size + ENTRY_OVERHEAD)
        subscription.waiting_bytes += size
        self._bytes += size

    def _tell_of_room(self) -> None:
        waiting, self._waiting_for_room = self._waiting_for_room, []
        for one in waiting:
            one.callback(None)
