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
    """A token bucket: it gains `per_second` messages, and holds as many, at least one."""

    __slots__ = ("_allowance", "_at", "_burst", "_per_second", "_seconds")

    def __init__(self, per_second: float, seconds: Callable[[], float]) -> None:
        self._per_second = per_second
        self._burst = max(1, ceil(per_second))
        self._seconds = seconds
        self._allowance: float = self._burst
        self._at = seconds()

    def admits_one_more(self) -> bool:
        """Take a message out of the bucket; tell whether there was one."""
        now = self._seconds()
        gained = (now - self._at) * self._per_second
        self._at = now
        self._allowance = min(self._allowance + gained, self._burst) - 1
        return self._allowance >= 0
