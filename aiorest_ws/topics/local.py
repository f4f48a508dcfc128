"""A topic, as a process knows it whose clients subscribe to it."""

from twisted.internet.defer import Deferred, succeed

from aiorest_ws.topics.broker import Message
from aiorest_ws.topics.subscription import Subscription

__all__ = ("LocalTopic",)


class LocalTopic:
    """A topic that somebody here subscribes to: where it is, and its subscriptions.

    Those that are live are in groups that get the very same bytes.
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
        """Return those that are live, by what stands before the common part, and the form."""
        if self._snapshot is None:
            self._snapshot = [
                (prefix, is_binary, tuple(members))
                for (prefix, is_binary), members in self._groups.items()
            ]
        return self._snapshot

    def start_live(self, subscription: Subscription) -> None:
        """Send what comes from now on to a subscription."""
        subscription.is_live = True
        key = (subscription.prefix, subscription.is_binary)
        self._groups.setdefault(key, {})[subscription] = None
        self._snapshot = None

    def end_live(self, subscription: Subscription) -> None:
        """Send it nothing more."""
        if not subscription.is_live:
            return
        subscription.is_live = False
        key = (subscription.prefix, subscription.is_binary)
        del self._groups[key][subscription]
        if not self._groups[key]:
            del self._groups[key]
        self._snapshot = None

    def is_at(self, subscription: Subscription) -> bool:
        """Tell whether a client knows of all that has arrived here."""
        return subscription.epoch == self.epoch and subscription.sent >= self.seen
