"""Throttlers for tests, and a loop with virtual time."""

import asyncio
import math
import selectors
from typing import Any

from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still while it works and jumps to the next timer when it waits."""

    def __init__(self, start: float = 0.0) -> None:
        loop = self

        class Selector(selectors.DefaultSelector):
            def select(self, timeout: float | None = None) -> list[Any]:
                if timeout is None:
                    raise AssertionError("Everything waits, and no timer will fire.")
                if timeout > 0:
                    loop.jump()
                return super().select(0)

        super().__init__(Selector())
        self.now = start
        self._clock_resolution = math.ulp(start)

    def jump(self) -> None:
        self.now = self._scheduled[0].when()
        # A timer must not fire early, not even by asyncio's usual nanosecond.
        self._clock_resolution = math.ulp(self.now)

    def time(self) -> float:
        return self.now

    def pending_timers(self) -> list[asyncio.TimerHandle]:
        return [timer for timer in self._scheduled if not timer.cancelled()]


def one_limit(limit: int = 2, interval: float = 1.0, **arguments: Any) -> AsyncThrottler:
    arguments.setdefault("safety_margin_pct", 0.0)
    return AsyncThrottler([RateLimit("a", limit, interval)], **arguments)


def now() -> float:
    return asyncio.get_running_loop().time()


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def hold_and_refund(
    throttler: AsyncThrottler, limit_id: str = "a", **arguments: Any
) -> None:
    async with throttler.hold(limit_id, **arguments):
        pass
