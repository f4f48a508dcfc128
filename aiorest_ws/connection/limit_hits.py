"""Count the hits of limits, and log them without flooding the log."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from aiorest_ws.log import logger

__all__ = ("AddressCount", "CappedLog", "LimitHits")

LINES_PER_SECOND = 10


class CappedLog:
    """A log with ten lines of a kind per second, so that an attack cannot fill the disk."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._lines: dict[str, tuple[int, int]] = {}
        self._unsaid: Counter[str] = Counter()

    def info(self, kind: str, line: str, fields: dict[str, Any]) -> None:
        """Log a line, with the number of those of its kind that were left out before it."""
        second = int(self._seconds())
        then, lines = self._lines.get(kind, (second, 0))
        if then != second:
            lines = 0
        if lines >= LINES_PER_SECOND:
            self._unsaid[kind] += 1
            return
        self._lines[kind] = (second, lines + 1)
        unsaid = self._unsaid.pop(kind, 0)
        more = f" ({unsaid} more before it)" if unsaid else ""
        logger.info("%s%s", line, more, extra=fields)


class LimitHits(Counter[str]):
    """The hits of each limit, by its name in `Limits`."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        super().__init__()
        self._log = CappedLog(seconds)

    def note(self, name: str, peer: str, words: str) -> None:
        """Count a hit of the limit `name`, and log what was done."""
        self[name] += 1
        fields = {"event": "limit", "limit": name, "peer": peer}
        self._log.info(name, f"limit {name}: {peer} {words}", fields)


class AddressCount(Counter[str]):
    """How many connections each address has, of which it may have `most`."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def add(self, address: str) -> int:
        """Count a connection; return by how many there are too many."""
        self[address] += 1
        return self.over(address)

    def over(self, address: str) -> int:
        """Return by how many connections there are too many; not above 0 for none."""
        return self[address] - self._most

    def remove(self, address: str) -> None:
        """Note that a connection that was counted has ended."""
        self[address] -= 1
        if not self[address]:
            del self[address]
