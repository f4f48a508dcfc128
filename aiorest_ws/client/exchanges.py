"""Calls, streams and subscriptions: what a client waits for."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiorest_ws.client.errors import ClientError, ConnectionLost, Overflow, failure

__all__ = ("Call", "Gap", "Inbox", "Message", "Stream", "Subscription")

_MAX_MESSAGES = 1000
_MAX_BYTES = 2**20


@dataclass(frozen=True)
class Message:
    """A push; `position` is what `subscribe(since=)` takes."""

    topic: str
    data: Any
    position: Mapping[str, Any]


@dataclass(frozen=True)
class Gap:
    """Messages before `position` are missing: fetch the state anew."""

    topic: str
    position: Mapping[str, Any]


class Call:
    """A request with one answer."""

    def __init__(self, request: dict[str, Any], *, repeatable: bool) -> None:
        self.request = request
        self.repeatable = repeatable
        self.sent = False
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def take(self, message: Mapping[str, Any], size: int) -> bool:
        """Take an answer of `size` bytes; return whether it is the last one."""
        del size
        if not self.answer.done():
            if "detail" in message:
                self.answer.set_exception(failure(message))
            else:
                self.answer.set_result(message.get("data"))
        return True

    def fail(self, error: ClientError) -> None:
        """End with `error`."""
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # Its waiter may be gone.


class Inbox:
    """A queue with a bound, and an end."""

    def __init__(self) -> None:
        self._items: deque[tuple[Any, int]] = deque()
        self._bytes = 0
        self._end: ClientError | None = None
        self._ended = False
        self._changed = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """Whether the next item is one too many."""
        return len(self._items) >= _MAX_MESSAGES or self._bytes >= _MAX_BYTES

    @property
    def is_half_empty(self) -> bool:
        """Whether there is room for half of what fits."""
        return len(self._items) <= _MAX_MESSAGES // 2 and self._bytes <= _MAX_BYTES // 2

    def put(self, item: Any, size: int) -> None:
        """Add an item of `size` bytes."""
        self._items.append((item, size))
        self._bytes += size
        self._changed.set()

    def end(self, error: ClientError | None) -> None:
        """Let the consumer take what is there, then stop with `error`."""
        if not self._ended:
            self._ended, self._end = True, error
            self._changed.set()

    async def take(self) -> Any:
        """Return the next item; raise the error, or StopAsyncIteration, at the end."""
        while not self._items:
            if self._ended:
                raise StopAsyncIteration if self._end is None else self._end
            self._changed.clear()
            await self._changed.wait()
        item, size = self._items.popleft()
        self._bytes -= size
        return item


class Stream:
    """A request with many answers."""

    def __init__(self, request: dict[str, Any], cancel: Callable[[], None]) -> None:
        self.request = request
        self.repeatable = False
        self.sent = False
        self.inbox = Inbox()
        self._cancel = cancel

    def take(self, message: Mapping[str, Any], size: int) -> bool:
        """Take an item; return whether it is the last one."""
        if "detail" in message:
            self.inbox.end(failure(message))
            return True
        if message.get("stream") != "next":
            if "data" in message:
                self.inbox.put(message["data"], size)
            self.inbox.end(None)
            return True
        if self.inbox.is_full:
            self.inbox.end(Overflow("The consumer of a stream is too slow."))
            self._cancel()
            return True
        self.inbox.put(message["data"], size)
        return False

    def fail(self, error: ClientError) -> None:
        """End with `error`."""
        self.inbox.end(error)


class Subscription:
    """A topic that is followed across connections.

    `ask(method)` sends SUBSCRIBE or UNSUBSCRIBE for it. Above the bound of the inbox it leaves the
    topic, and comes back from the last message kept when half is consumed.
    """

    def __init__(
        self, topic: str, since: Mapping[str, Any] | None, ask: Callable[[str], None]
    ) -> None:
        self.topic = topic
        self.since = since
        self.inbox = Inbox()
        self.is_paused = False
        self.is_live = False
        self._ask = ask

    def lose(self) -> None:
        """Note that the connection is gone."""
        self.is_live = False

    def answered(self, message: Mapping[str, Any]) -> None:
        """Take the answer to a SUBSCRIBE."""
        if "detail" in message:
            self.inbox.end(failure(message))
            return
        self.is_live = not self.is_paused
        if self.since is None or "last" in self.since:
            data = message["data"]
            self.since = {"epoch": data["epoch"], "offset": data["offset"]}

    def push(self, message: Mapping[str, Any], size: int) -> None:
        """Take a push, a gap, or the end of the subscription."""
        if "unsubscribed" in message:
            status = message["unsubscribed"]
            self.inbox.end(failure({"status": status, "detail": "The subscription has ended."}))
            return
        if not self.is_live:
            return
        if self.inbox.is_full:
            self.is_paused, self.is_live = True, False
            self._ask("UNSUBSCRIBE")
            return
        position = {"epoch": message["epoch"], "offset": message["offset"]}
        self.since = position
        if message.get("gap"):
            self.inbox.put(Gap(self.topic, position), size)
        elif not message.get("excluded"):
            self.inbox.put(Message(self.topic, message["data"], position), size)

    def fail(self, error: ClientError) -> None:
        """End with `error`."""
        self.inbox.end(error)

    async def next(self) -> Message | Gap:
        """Return the next message or gap."""
        item: Message | Gap = await self.inbox.take()
        if self.is_paused and self.inbox.is_half_empty:
            self.is_paused = False
            self._ask("SUBSCRIBE")
        return item


LOST_TEXT = "The connection was lost before the answer."


def lost() -> ConnectionLost:
    """Return the error of a call that was sent and not answered."""
    return ConnectionLost(LOST_TEXT, maybe_executed=True)
