"""Bound what all clients together have not read."""

from collections.abc import Iterable

from aiorest_ws.interfaces import Connection

__all__ = ("UnsentBudget",)


class UnsentBudget:
    """Bound the unsent bytes of all connections; the largest are aborted.

    `note` is called for each write-paused client. Clients below that mark are looked at by
    `audit`.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._unsent: dict[Connection, int] = {}
        self._total = 0

    def note(self, connection: Connection, unsent: int) -> None:
        """Note that a client has not read so many bytes."""
        self._total += unsent - self._unsent.get(connection, 0)
        self._unsent[connection] = unsent
        if self._total > self._max_bytes:
            self._relieve(self._unsent)

    def forget(self, connection: Connection) -> None:
        """Note that a client keeps up, or is gone."""
        self._total -= self._unsent.pop(connection, 0)

    def audit(self, connections: Iterable[Connection]) -> None:
        """Look at all connections: many with little unsent may be over the limit together."""
        self._relieve(connections)

    def _relieve(self, connections: Iterable[Connection]) -> None:
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
