"""The pushes that wait until a slow client has read what was sent before."""

from collections import OrderedDict, deque

from twisted.internet.defer import Deferred

from aiorest_ws.topics.broker import Message
from aiorest_ws.topics.subscription import Note, Subscription

__all__ = ("PushQueue",)

# What an entry takes in memory besides its data.
ENTRY_OVERHEAD_BYTES = 200


class PushQueue:
    """Queue the pushes of all topics of one connection, in at most `max_bytes` bytes.

    Each subscription has its own queue; they are sent in the order of arrival. When the queue is
    full, the policy of the topic says which entry is dropped; the client gets a gap for it.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._queued_bytes = 0
        # One item for each queued entry: the subscription that sends next.
        self._turns: deque[Subscription] = deque()
        # Subscriptions with entries, in the order in which they got their first one.
        self._queueing: dict[Subscription, None] = {}
        # The last dropped offset of each subscription, if no later entry is queued.
        self._owed_gaps: dict[Subscription, int] = {}
        self._waiting_for_room: list[Deferred[None]] = []

    def __bool__(self) -> bool:
        return bool(self._turns or self._owed_gaps)

    @property
    def size(self) -> int:
        """The bytes that the queued pushes take."""
        return self._queued_bytes

    def has_room(self, size: int) -> bool:
        """Tell whether an entry of `size` bytes fits without dropping another one."""
        is_empty = not self._queued_bytes
        return is_empty or self._queued_bytes + size + ENTRY_OVERHEAD_BYTES <= self._max_bytes

    def room(self) -> Deferred[None]:
        """Return a Deferred that fires when entries have left the queue."""
        waiting: Deferred[None] = Deferred(self._waiting_for_room.remove)
        self._waiting_for_room.append(waiting)
        return waiting

    def add(self, subscription: Subscription, entry: Message | Note) -> bool:
        """Queue an entry, and drop older ones as the policies allow.

        Return False if the policy is to disconnect the client.
        """
        if subscription.waiting is None:
            subscription.waiting = OrderedDict()
        waiting = subscription.waiting
        policy = subscription.route.policy
        is_latest = policy == "latest" and entry.offset is not None
        key = ("key", entry.key) if is_latest else object()
        replaced = waiting.pop(key, None)
        if replaced is not None:
            self._count(subscription, replaced, -1)
        if policy == "disconnect" and not self.has_room(entry.size):
            return False
        waiting[key] = entry
        self._count(subscription, entry, 1)
        if subscription.turns < len(waiting):
            subscription.turns += 1
            self._turns.append(subscription)
        self._queueing[subscription] = None
        while self._queued_bytes > self._max_bytes and self._drop_one():
            pass
        return True

    def send_next(self) -> None:
        """Send the oldest entry, or, after the last one, a gap for what was dropped."""
        if not self._turns:
            subscription, offset = self._owed_gaps.popitem()
            if subscription.has_gap:
                subscription.send_gap(max(offset, subscription.sent))
            return
        subscription = self._turns.popleft()
        subscription.turns -= 1
        if subscription.waiting:
            _, entry = subscription.waiting.popitem(last=False)
            self._count(subscription, entry, -1)
            if not subscription.waiting:
                self._queueing.pop(subscription, None)
            subscription.send(entry)
        self._announce_room()

    def forget(self, subscription: Subscription) -> None:
        """Discard what is queued for a subscription."""
        self._owed_gaps.pop(subscription, None)
        self._queueing.pop(subscription, None)
        self._queued_bytes -= subscription.waiting_bytes
        if subscription.turns:
            self._turns = deque(one for one in self._turns if one is not subscription)
        subscription.waiting = None
        subscription.waiting_bytes = subscription.turns = 0
        self._announce_room()

    def clear(self) -> None:
        """Discard everything: the connection is lost."""
        for subscription in {**self._queueing, **self._owed_gaps}:
            self.forget(subscription)
        self._announce_room()

    def _drop_one(self) -> bool:
        """Drop the oldest entry of the longest queue whose policy allows it."""
        largest = max(
            (one for one in self._queueing if one.route.policy != "disconnect"),
            key=lambda one: one.waiting_bytes,
            default=None,
        )
        if largest is None or not largest.waiting:
            return False
        _, dropped = largest.waiting.popitem(last=False)
        self._count(largest, dropped, -1)
        largest.has_gap = True
        self._owed_gaps[largest] = max(self._owed_gaps.get(largest, 0), dropped.offset or 0)
        return True

    def _count(self, subscription: Subscription, entry: Message | Note, sign: int) -> None:
        size = sign * (entry.size + ENTRY_OVERHEAD_BYTES)
        subscription.waiting_bytes += size
        self._queued_bytes += size

    def _announce_room(self) -> None:
        waiting, self._waiting_for_room = self._waiting_for_room, []
        for one in waiting:
            one.callback(None)
