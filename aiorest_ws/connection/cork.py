"""Send what a block of code sends in one write."""

from contextlib import nullcontext
from typing import Protocol

__all__ = ("NOTHING", "Cork")

# A block inside another one; the outer one writes.
NOTHING = nullcontext()


class Corkable(Protocol):
    """A connection that can delay its writes."""

    def cork(self) -> None:
        """Delay writes."""

    def uncork(self) -> None:
        """Write what was delayed."""


class Cork:
    """A block in which a connection delays its writes."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Corkable) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.cork()

    def __exit__(self, *_: object) -> None:
        self._connection.uncork()
