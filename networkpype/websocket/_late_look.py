"""Look again at a socket before a verdict on its silence."""

import asyncio
from collections.abc import Callable

__all__ = ("LateLook",)

# A loop that was blocked finds its timers due before it has read what arrived meanwhile. Each turn
# of a loop reads a socket once, up to 256 KiB, so this reads a message of 4 MiB and wakes its
# reader.
_TURNS = 32


class LateLook:
    """Call `verdict` after the loop has read what has already arrived."""

    def __init__(self, loop: asyncio.AbstractEventLoop, verdict: Callable[[], None]) -> None:
        self._loop = loop
        self._verdict = verdict
        self._turns = 0
        self._handle: asyncio.Handle | None = None

    def start(self) -> None:
        """Start to read."""
        self._turns = _TURNS
        self._take_turn()

    def cancel(self) -> None:
        """Do not call `verdict`."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _take_turn(self) -> None:
        if self._turns:
            self._turns -= 1
            self._handle = self._loop.call_later(0, self._take_turn)
        else:
            self._handle = None
            self._verdict()
