"""What is sent in a block leaves in one write."""

from contextlib import nullcontext
from typing import Protocol

__all__ = ("NOTHING", "Cork")

# A block inside another one: the outer one writes.
NOTHING = nullcontext()


class Corkable(Protocol):
    """What can keep back what it sends."""

    def cork(self) -> None:
        """Keep back what is sent."""

    def uncork(self) -> None:
        """Write what was kept back."""


class Cork:
    """A block in which a connection keeps back what it sends."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Corkable) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.cork()

    def __exit__(self, *_: object) -> None:
        self._connection.uncork()
