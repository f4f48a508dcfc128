"""Queued messages, and the rate of messages."""

from collections import deque
from collections.abc import Callable
from math import ceil

__all__ = ("MessageQueue", "MessageRate")

# The memory of a queued message besides its bytes.
MESSAGE_OVERHEAD_BYTES = 128


class MessageQueue:
    """Messages that have been read and not handled; `size` is what they take, in bytes."""

    __slots__ = ("_messages", "size")

    def __init__(self) -> None:
        self._messages: deque[tuple[bytes, bool]] = deque()
        self.size = 0

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, payload: bytes, is_binary: bool) -> None:
        """Add a message at the end."""
        self._messages.append((payload, is_binary))
        self.size += len(payload) + MESSAGE_OVERHEAD_BYTES

    def take(self) -> tuple[bytes, bool]:
        """Remove the oldest message, and return it and whether it is binary."""
        payload, is_binary = self._messages.popleft()
        self.size -= len(payload) + MESSAGE_OVERHEAD_BYTES
        return payload, is_binary


class MessageRate:
    """A token bucket for messages."""

    __slots__ = ("_allowance", "_at", "_seconds")

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._allowance: float | None = None
        self._at = seconds()

    def admits_one_more(self, per_second: float) -> bool:
        """Take a message out of the bucket; tell whether there was one.

        The bucket gains `per_second` messages, and holds as many, at least one.
        """
        burst = max(1, ceil(per_second))
        now = self._seconds()
        gained = burst if self._allowance is None else (now - self._at) * per_second
        self._at = now
        self._allowance = min((self._allowance or 0.0) + gained, burst) - 1
        return self._allowance >= 0
