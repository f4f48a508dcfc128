"""Bound what all clients together have not read."""

from collections.abc import Iterable
from typing import Protocol

__all__ = ("UnsentBudget",)


class SlowConnection(Protocol):
    """What the budget needs of a connection."""

    @property
    def unsent_bytes(self) -> int:
        """The bytes that have been sent, and that the system has not taken."""

    def abort_slow_client(self, limit: str, words: str) -> None:
        """Abort the connection, which is over a limit."""


class UnsentBudget:
    """Bound the unsent bytes of all connections; the largest are aborted.

    `note` is called for each write-paused client. Clients below that mark are looked at by
    `audit`.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._unsent: dict[SlowConnection, int] = {}
        self._total = 0

    def note(self, connection: SlowConnection, unsent: int) -> None:
        """Note that a client has not read so many bytes."""
        self._total += unsent - self._unsent.get(connection, 0)
        self._unsent[connection] = unsent
        if self._total > self._max_bytes:
            self._relieve(self._unsent)

    def forget(self, connection: SlowConnection) -> None:
        """Note that a client keeps up, or is gone."""
        self._total -= self._unsent.pop(connection, 0)

    def audit(self, connections: Iterable[SlowConnection]) -> None:
        """Look at all connections: many with little unsent may be over the limit together."""
        self._relieve(connections)

    def _relieve(self, connections: Iterable[SlowConnection]) -> None:
        waiting = sorted(
            ((connection.unsent_bytes, connection) for connection in connections),
            key=lambda pair: pair[0],
        )
        total = sum(unsent for unsent, _ in waiting)
        while total > self._max_bytes:
            unsent, largest = waiting.pop()
            total -= unsent
            largest.abort_slow_client("unsent_bytes_in_all", f"aborted, {unsent} bytes not read")
        self._unsent.update((one, unsent) for unsent, one in waiting if one in self._unsent)
        self._total = sum(self._unsent.values())
