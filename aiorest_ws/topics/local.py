"""A topic with subscribers in this process."""

from twisted.internet.defer import Deferred, succeed

from aiorest_ws.topics.broker import Message
from aiorest_ws.topics.subscription import Subscription

__all__ = ("LocalTopic",)


class LocalTopic:
    """The state of a topic in this process, and its subscriptions.

    `epoch` and `seen` are the position of the last message; `seen` is -1 until it is `known`.
    Live subscriptions are in groups whose pushes have the same bytes.
    """

    __slots__ = (
        *("_groups", "_snapshot", "early", "epoch"),
        *("known", "name", "seen", "subscriptions"),
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.epoch = ""
        self.seen = -1
        self.known: Deferred[None] = succeed(None)
        self.early: Message | None = None
        self.subscriptions: dict[Subscription, None] = {}
        self._groups: dict[tuple[bytes, bool], dict[Subscription, None]] = {}
        self._snapshot: list[tuple[bytes, bool, tuple[Subscription, ...]]] | None = None

    def groups(self) -> list[tuple[bytes, bool, tuple[Subscription, ...]]]:
        """Return the live subscriptions, grouped by the prefix and the form of their pushes."""
        if self._snapshot is None:
            self._snapshot = [
                (prefix, is_binary, tuple(members))
                for (prefix, is_binary), members in self._groups.items()
            ]
        return self._snapshot

    def start_live(self, subscription: Subscription) -> None:
        """Add a subscription to those that get each new message."""
        subscription.is_live = True
        key = (subscription.prefix, subscription.is_binary)
        self._groups.setdefault(key, {})[subscription] = None
        self._snapshot = None

    def end_live(self, subscription: Subscription) -> None:
        """Remove it from those that get each new message."""
        if not subscription.is_live:
            return
        subscription.is_live = False
        key = (subscription.prefix, subscription.is_binary)
        del self._groups[key][subscription]
        if not self._groups[key]:
            del self._groups[key]
        self._snapshot = None

    def is_at(self, subscription: Subscription) -> bool:
        """Tell whether the client was sent everything that has arrived here."""
        return subscription.epoch == self.epoch and subscription.sent >= self.seen
