"""Clocks, and how a jump of one is noticed."""

import time
from collections.abc import Callable

__all__ = ("ClockComparison", "boot_clock")

_BOOT_TIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)
_JUMP_SECONDS = 1.0


def boot_clock() -> float:
    """Return seconds that also count while the machine is suspended, where the system has them.

    Linux has them. Elsewhere, this is `time.monotonic()`, which may stand still meanwhile.
    """
    return time.monotonic() if _BOOT_TIME is None else time.clock_gettime(_BOOT_TIME)


class ClockComparison:
    """Compare a steady clock with the wall clock."""

    def __init__(self, clock: Callable[[], float], wall_clock: Callable[[], float]) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._difference = wall_clock() - clock()

    def suspended_seconds(self) -> float:
        """Return how much further the wall clock has moved since the last call, if over 1 s.

        The machine was suspended, or the wall clock was set forward.
        """
        return max(0.0, self._jump())

    def have_jumped(self) -> bool:
        """Return whether one has moved over 1 s more than the other since the last call.

        The machine was suspended, or the wall clock was set.
        """
        return self._jump() != 0

    def _jump(self) -> float:
        difference = self._wall_clock() - self._clock()
        moved, self._difference = difference - self._difference, difference
        return moved if abs(moved) > _JUMP_SECONDS else 0.0
