"""What a client has sent and waits for."""

import itertools
from typing import Any

from aiorest_ws.client.errors import ClientError, ConnectionLost
from aiorest_ws.client.exchanges import Call, Stream, Subscription, lost
from aiorest_ws.client.link import Link, State

__all__ = ("Deliveries",)

# Too many requests, or a server that is full or stops: these pass.
_PASSING = frozenset({429, 503})


class Deliveries:
    """What is sent and waited for; the link's listener."""

    def __init__(self, offline_calls: int) -> None:
        self.link: Link
        self.end: ClientError | None = None
        self.subscriptions: dict[str, Subscription] = {}
        self._offline_calls = offline_calls
        self._exchanges: dict[int, Call | Stream] = {}
        self._asked: dict[int, Subscription] = {}
        self._ids = itertools.count(1)

    def start(self, exchange: Call | Stream) -> int:
        """Send, or keep until there is a connection."""
        if self.end is not None:
            raise ConnectionLost("The client is closed.") from self.end
        is_open = self.link.state is State.OPEN
        if not is_open and len(self._exchanges) >= self._offline_calls:
            raise ConnectionLost("Too many calls wait for a connection.")
        number = exchange.request["id"] = next(self._ids)
        self._exchanges[number] = exchange
        if is_open:
            self._send(exchange)
        return number

    def leave(self, number: int) -> None:
        """Forget an exchange; CANCEL it if the server may be at it."""
        exchange = self._exchanges.pop(number, None)
        if exchange is not None and exchange.sent:
            self.link.send({"method": "CANCEL", "id": number})

    def ask(self, subscription: Subscription, method: str) -> None:
        """Send SUBSCRIBE or UNSUBSCRIBE; without a connection, the next one asks anew."""
        if self.link.state is not State.OPEN:
            return
        number = next(self._ids)
        message: dict[str, Any] = {"method": method, "url": subscription.topic, "id": number}
        if method == "SUBSCRIBE":
            self._asked[number] = subscription
            if subscription.since is not None:
                message["since"] = subscription.since
        self.link.send(message)

    def opened(self) -> None:
        """Send what waits, and subscribe again from the last positions."""
        for exchange in tuple(self._exchanges.values()):
            self._send(exchange)
        for subscription in tuple(self.subscriptions.values()):
            if not subscription.is_paused:
                self.ask(subscription, "SUBSCRIBE")

    def took(self, message: dict[str, Any], size: int) -> None:
        """Give a message to the one who waits for it."""
        # A push repeats the id of its SUBSCRIBE.
        if "topic" in message:
            subscription = self.subscriptions.get(message["topic"])
            if subscription is not None:
                subscription.push(message, size)
            return
        number = message.get("id")
        if not isinstance(number, int):
            return
        asked = self._asked.pop(number, None)
        if asked is not None:
            if message.get("status") in _PASSING and asked.since is not None:
                self.link.later(lambda: self._ask_again(asked))
            else:
                asked.answered(message)
            return
        exchange = self._exchanges.get(number)
        if exchange is not None and exchange.take(message, size):
            self._exchanges.pop(number, None)

    def dropped(self) -> None:
        """Keep what may be repeated; fail what may have been executed."""
        self._asked.clear()
        for subscription in self.subscriptions.values():
            subscription.lose()
        for number, exchange in tuple(self._exchanges.items()):
            if exchange.sent and not exchange.repeatable:
                del self._exchanges[number]
                exchange.fail(lost())
            exchange.sent = False

    def ended(self, error: ClientError) -> None:
        """Fail all that waits."""
        self.end = error
        for exchange in self._exchanges.values():
            exchange.fail(lost() if exchange.sent else error)
        for subscription in self.subscriptions.values():
            subscription.fail(error)
        self._exchanges.clear()

    def _ask_again(self, subscription: Subscription) -> None:
        is_here = self.subscriptions.get(subscription.topic) is subscription
        # A connection that was opened meanwhile has asked.
        is_asked = subscription.is_live or any(one is subscription for one in self._asked.values())
        if is_here and not (subscription.is_paused or is_asked):
            self.ask(subscription, "SUBSCRIBE")

    def _send(self, exchange: Call | Stream) -> None:
        exchange.sent = True
        self.link.send(exchange.request)
