"""The requests that are sent again on each new connection."""

from collections.abc import Iterator

from networkpype.websocket.request import WebSocketRequest

__all__ = ("Subscription", "Subscriptions")


class Subscription:
    """A request, and the session (an object for each connection) on which it was sent last."""

    __slots__ = ("is_kept", "request", "session")

    def __init__(self, request: WebSocketRequest) -> None:
        self.request = request
        self.is_kept = True
        self.session: object = None

    def is_wanted(self) -> bool:
        """Return whether it is still kept."""
        return self.is_kept


class Subscriptions:
    """Subscriptions in order, equal ones once."""

    def __init__(self) -> None:
        self._kept: list[Subscription] = []

    def add(self, request: WebSocketRequest) -> tuple[Subscription, bool]:
        """Return the subscription equal to `request`, and whether it is new."""
        for kept in self._kept:
            if kept.request == request:
                return kept, False
        subscription = Subscription(request)
        self._kept.append(subscription)
        return subscription, True

    def remove(self, request: WebSocketRequest) -> bool:
        """Remove the subscription equal to `request`; return whether there was one."""
        for kept in self._kept:
            if kept.request == request:
                self.discard(kept)
                return True
        return False

    def discard(self, subscription: Subscription) -> None:
        """Remove `subscription` if it is kept."""
        if subscription.is_kept:
            subscription.is_kept = False
            self._kept.remove(subscription)

    def clear(self) -> None:
        """Remove all."""
        while self._kept:
            self._kept.pop().is_kept = False

    def unsent(self, session: object) -> Iterator[Subscription]:
        """Yield what was not sent on `session`, including what is added in the meantime."""
        while True:
            waiting = (kept for kept in self._kept if kept.session is not session)
            subscription = next(waiting, None)
            if subscription is None:
                return
            subscription.session = session
            yield subscription
