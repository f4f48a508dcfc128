"""A bounded buffer between a socket and the one who receives."""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import Enum

from networkpype.exceptions import BufferOverflowError, ConfigurationError
from networkpype.websocket.response import WebSocketResponse

__all__ = ("Inbox", "OverflowPolicy", "ReceiveBuffer")


class OverflowPolicy(Enum):
    """What happens to a message for which there is no room."""

    BLOCK = "block"
    DROP_OLDEST = "drop_oldest"
    LATEST = "latest"
    RAISE = "raise"


@dataclass(frozen=True, kw_only=True)
class ReceiveBuffer:
    """Read the socket all the time, keep at most `max_messages` until they are received.

    `policy`, a member of OverflowPolicy or its value, says what happens when it is full:

    - `block`: the socket is not read until there is room, and the server feels it.
    - `drop_oldest`: the oldest message makes room.
    - `latest`: a message takes the place of one with the same `key(response)`, always; when it is
      full of other keys, the oldest message makes room. A message whose key is None never takes
      the place of another one.
    - `raise`: the connection is closed; what is in the buffer is still received, then
      BufferOverflowError is raised.

    `WebSocketConnection.dropped_count` tells how many messages made room or were replaced.
    """

    policy: OverflowPolicy | str = OverflowPolicy.BLOCK
    max_messages: int = 1024
    key: Callable[[WebSocketResponse], Hashable] | None = None

    def __post_init__(self) -> None:
        """Raise ConfigurationError for values that make no sense."""
        try:
            object.__setattr__(self, "policy", OverflowPolicy(self.policy))
        except ValueError as error:
            known = ", ".join(policy.value for policy in OverflowPolicy)
            raise ConfigurationError(
                f"{self.policy!r} is not an overflow policy; known: {known}."
            ) from error
        if self.max_messages < 1:
            raise ConfigurationError("max_messages of a ReceiveBuffer is below 1.")
        if (self.policy is OverflowPolicy.LATEST) is (self.key is None):
            raise ConfigurationError("The policy latest, and no other one, takes a key function.")


class Inbox:
    """The messages of one connection that wait to be received; one reader, one receiver."""

    def __init__(self, settings: ReceiveBuffer) -> None:
        self._policy = settings.policy
        self._max_messages = settings.max_messages
        self._key = settings.key
        self._responses: deque[WebSocketResponse] = deque()
        # Only for LATEST: by key, in the order of arrival of each key's first message. The same
        # object as a key of its own stands for a message without one.
        self._by_key: dict[Hashable, WebSocketResponse] = {}
        self._end: Exception | None = None
        self._arrival: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self.dropped_count = 0

    @property
    def is_receiving(self) -> bool:
        """Tell whether a receiver waits."""
        return self._arrival is not None

    async def put(self, response: WebSocketResponse) -> None:
        """Take `response` in, or raise BufferOverflowError; waits for room if so told.

        After the end it does nothing.
        """
        if self._policy is OverflowPolicy.LATEST:
            self._put_latest(response)
        else:
            if len(self._responses) >= self._max_messages:
                if self._policy is OverflowPolicy.RAISE:
                    raise BufferOverflowError(
                        f"The receive buffer is full: {self._max_messages} messages."
                    )
                if self._policy is OverflowPolicy.BLOCK:
                    await self._wait_for_room()
                else:
                    self._responses.popleft()
                    self.dropped_count += 1
            if self._end is None:
                self._responses.append(response)
        _wake(self._arrival)

    def get_nowait(self) -> WebSocketResponse | None:
        """Return the oldest message, None if there is none; raise the end, when it has come."""
        if self._by_key:
            return self._by_key.pop(next(iter(self._by_key)))
        if self._responses:
            _wake(self._room)
            return self._responses.popleft()
        if self._end is not None:
            raise self._end
        return None

    async def wait(self) -> None:
        """Wait until there is a message or the end."""
        self._arrival = asyncio.get_running_loop().create_future()
        try:
            await self._arrival
        finally:
            self._arrival = None

    def end(self, error: Exception) -> None:
        """Have `error` raised after the messages that are here."""
        if self._end is None:
            self._end = error
        _wake(self._arrival)
        _wake(self._room)

    def discard(self, error: Exception) -> None:
        """Drop the messages that are here and have `error` raised at once."""
        self._responses.clear()
        self._by_key.clear()
        self._end = error
        _wake(self._arrival)
        _wake(self._room)

    def _put_latest(self, response: WebSocketResponse) -> None:
        assert self._key is not None  # noqa: S101  (ReceiveBuffer sees to it)
        key = self._key(response)
        if key is None:
            key = object()
        if key in self._by_key:
            self.dropped_count += 1
        elif len(self._by_key) >= self._max_messages:
            del self._by_key[next(iter(self._by_key))]
            self.dropped_count += 1
        self._by_key[key] = response

    async def _wait_for_room(self) -> None:
        self._room = asyncio.get_running_loop().create_future()
        try:
            await self._room
        finally:
            self._room = None


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
