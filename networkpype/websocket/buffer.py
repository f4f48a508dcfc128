"""A bounded buffer between a socket and its receiver."""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import Enum

from networkpype.exceptions import BufferOverflowError, ConfigurationError
from networkpype.websocket.response import WebSocketResponse

__all__ = ("Inbox", "OverflowPolicy", "ReceiveBuffer")


class OverflowPolicy(Enum):
    """What happens to a message when the buffer is full."""

    BLOCK = "block"
    DROP_OLDEST = "drop_oldest"
    LATEST = "latest"
    RAISE = "raise"


@dataclass(frozen=True, kw_only=True)
class ReceiveBuffer:
    """Read the socket continuously, and keep at most `max_messages` until they are received.

    `policy`, an OverflowPolicy or its value, says what happens when the buffer is full:

    - `block`: stop reading the socket until there is room, which slows the server down.
    - `drop_oldest`: drop the oldest message.
    - `latest`: a message always replaces one with the same `key(response)`; if the buffer is full
      of other keys, drop the oldest message. A message whose key is None replaces none.
    - `raise`: close the connection; `receive()` returns the buffered messages, then raises
      BufferOverflowError.

    `WebSocketConnection.dropped_count` counts the messages that were dropped or replaced.
    """

    policy: OverflowPolicy | str = OverflowPolicy.BLOCK
    max_messages: int = 1024
    key: Callable[[WebSocketResponse], Hashable] | None = None

    def __post_init__(self) -> None:
        """Raise ConfigurationError for invalid values."""
        try:
            object.__setattr__(self, "policy", OverflowPolicy(self.policy))
        except ValueError as error:
            known = ", ".join(policy.value for policy in OverflowPolicy)
            raise ConfigurationError(
                f"{self.policy!r} is not an overflow policy; known: {known}."
            ) from error
        if self.max_messages < 1:
            raise ConfigurationError("max_messages of a ReceiveBuffer must be at least 1.")
        if (self.policy is OverflowPolicy.LATEST) is (self.key is None):
            raise ConfigurationError("A key function is required for the policy latest only.")


class Inbox:
    """The received messages of one connection, for one receiver."""

    def __init__(self, settings: ReceiveBuffer) -> None:
        self._policy = settings.policy
        self._max_messages = settings.max_messages
        # At least max_messages; more until a receiver has caught up.
        self._limit = settings.max_messages
        self._is_narrowing = False
        self._key = settings.key
        self._responses: deque[WebSocketResponse] = deque()
        # Only for LATEST: by key, in order of arrival of each key's first message. A message
        # without a key has a new object as its key.
        self._by_key: dict[Hashable, WebSocketResponse] = {}
        self._end: Exception | None = None
        self._arrival: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self.dropped_count = 0

    @property
    def is_receiving(self) -> bool:
        """Whether a receiver is waiting."""
        return self._arrival is not None

    async def put(self, response: WebSocketResponse) -> None:
        """Add `response`; depending on the policy, wait for room or raise BufferOverflowError.

        Does nothing after the end.
        """
        if self._policy is OverflowPolicy.LATEST:
            self._put_latest(response)
        else:
            if len(self._responses) >= self._limit:
                if self._policy is OverflowPolicy.RAISE:
                    raise BufferOverflowError(
                        f"The receive buffer is full: {self._max_messages} messages."
                    )
                if self._policy is OverflowPolicy.BLOCK:
                    try:
                        await self._wait_for_room()
                    except asyncio.CancelledError:
                        self._responses.append(response)
                        raise
                else:
                    self._responses.popleft()
                    self.dropped_count += 1
            if self._end is None:
                self._responses.append(response)
        _wake(self._arrival)

    def get_nowait(self) -> WebSocketResponse | None:
        """Return the oldest message or None; raise the error set by `end()` after the last."""
        if self._by_key:
            return self._by_key.pop(next(iter(self._by_key)))
        if self._responses:
            _wake(self._room)
            response = self._responses.popleft()
            if self._is_narrowing:
                self.narrow()
            return response
        if self._end is not None:
            raise self._end
        return None

    def take_all(self) -> list[WebSocketResponse]:
        """Remove and return the messages."""
        responses = [*self._by_key.values(), *self._responses]
        self._by_key.clear()
        self._responses.clear()
        _wake(self._room)
        return responses

    def widen(self, max_messages: int) -> None:
        """Let the policies `block` and `raise` keep up to `max_messages`, if that is more."""
        if self._policy in {OverflowPolicy.BLOCK, OverflowPolicy.RAISE}:
            self._limit = max(max_messages, self._max_messages)

    def narrow(self) -> None:
        """Return to the limit of the settings once there are fewer messages."""
        self._is_narrowing = len(self._responses) >= self._max_messages
        if not self._is_narrowing:
            self._limit = self._max_messages

    def wake(self) -> None:
        """Let a waiting receiver look again."""
        _wake(self._arrival)

    async def wait(self) -> None:
        """Wait until there is a message or the end."""
        self._arrival = asyncio.get_running_loop().create_future()
        try:
            await self._arrival
        finally:
            self._arrival = None

    def end(self, error: Exception) -> None:
        """Raise `error` after the buffered messages."""
        if self._end is None:
            self._end = error
        _wake(self._arrival)
        _wake(self._room)

    def discard(self, error: Exception) -> None:
        """Drop the buffered messages, and raise `error` at once."""
        self._responses.clear()
        self._by_key.clear()
        self._end = error
        _wake(self._arrival)
        _wake(self._room)

    def _put_latest(self, response: WebSocketResponse) -> None:
        assert self._key is not None  # noqa: S101  (checked by ReceiveBuffer)
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
