"""Estimate the clock of a server."""

import asyncio
import inspect
import logging
import math
import statistics
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from networkpype._clocks import ClockComparison, boot_clock
from networkpype._log import get_logger
from networkpype.exceptions import ConfigurationError, DeadlineExceeded

__all__ = ("TimeSynchronizer",)

_LOGGER = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Sample:
    offset_ms: float
    rtt_ms: float


class TimeSynchronizer:
    """Estimate the clock of a server from samples.

    The offset is the mean of the median and the weighted average of the last `max_samples`
    samples, with the weights 1, 3, 5, ... from the oldest to the newest. Without samples, uses the
    local clock. Two options:

    - `best_rtt_samples` uses only that number of samples, those with the shortest round trip,
      because a slow response says little about the time at which it was made.
    - `max_slew_ms_per_second` (below 1000) moves the offset gradually to a new estimate, so that
      `time()` never jumps or goes back; only the first sample applies at once.

    A time provider may take `provider_timeout_s` seconds.

    `clock` is a steady clock: by default, on Linux, one that goes on while the machine is
    suspended. `wall_clock` returns seconds since the epoch. If one of them has moved over 1 s more
    than the other since the last use (a suspended machine, a wall clock that was set), all samples
    are discarded.
    """

    def __init__(
        self,
        max_samples: int = 5,
        *,
        best_rtt_samples: int | None = None,
        max_slew_ms_per_second: float | None = None,
        provider_timeout_s: float | None = 10.0,
        clock: Callable[[], float] = boot_clock,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if max_samples < 1:
            raise ConfigurationError(f"max_samples must be at least 1, not {max_samples!r}.")
        if best_rtt_samples is not None and not 1 <= best_rtt_samples <= max_samples:
            raise ConfigurationError(
                f"best_rtt_samples must be from 1 to max_samples, not {best_rtt_samples!r}."
            )
        if max_slew_ms_per_second is not None and not 0 < max_slew_ms_per_second < 1000:
            raise ConfigurationError(
                f"max_slew_ms_per_second must be between 0 and 1000, not {max_slew_ms_per_second}."
            )
        if provider_timeout_s is not None and not provider_timeout_s > 0:
            raise ConfigurationError(
                f"provider_timeout_s must be above 0, not {provider_timeout_s!r}."
            )
        self._provider_timeout_s = provider_timeout_s
        self._best_rtt_samples = best_rtt_samples
        self._max_slew = math.inf if max_slew_ms_per_second is None else max_slew_ms_per_second
        self._clock = clock
        self._wall_clock = wall_clock
        self._clocks = ClockComparison(clock, wall_clock)
        self._samples: deque[_Sample] = deque(maxlen=max_samples)
        # The offset according to the samples, None without samples.
        self._estimate_ms: float | None = None
        self._slew_from_ms = 0.0
        self._slew_started_at = 0.0
        self._slew_ends_at = -math.inf
        self._first_sample: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    @classmethod
    def logger(cls) -> logging.Logger:
        """Return the logger of this module."""
        return get_logger(__name__)

    @property
    def time_offset_ms(self) -> float:
        """The offset in milliseconds from the steady clock to the server's time."""
        self._look_for_a_jump()
        estimate_ms = self._estimate_ms
        if estimate_ms is None:
            return (self._wall_clock() - self._clock()) * 1000
        return self._offset_ms_at(self._clock(), estimate_ms)

    def time(self) -> float:
        """Return the server's time in seconds since the epoch."""
        self._look_for_a_jump()
        estimate_ms = self._estimate_ms
        if estimate_ms is None:
            return self._wall_clock()
        now = self._clock()
        if now >= self._slew_ends_at:
            return now + estimate_ms / 1000
        return now + self._offset_ms_at(now, estimate_ms) / 1000

    def add_time_offset_ms_sample(self, offset: float, *, rtt_ms: float = math.inf) -> None:
        """Add a sample in milliseconds; `rtt_ms` is its round-trip time.

        Raises ValueError for an offset that is not finite.
        """
        if not math.isfinite(offset):
            raise ValueError(f"A time offset must be a finite number, not {offset!r}.")
        self._look_for_a_jump()
        self._samples.append(_Sample(offset, rtt_ms))
        now = self._clock()
        if self._estimate_ms is None:
            self._estimate_ms = self._estimated_ms()
            self._slew_ends_at = -math.inf
            return
        current_ms = self._offset_ms_at(now, self._estimate_ms)
        self._estimate_ms = self._estimated_ms()
        self._slew_from_ms = current_ms
        self._slew_started_at = now
        self._slew_ends_at = now + abs(self._estimate_ms - current_ms) / self._max_slew

    @property
    def is_initialized(self) -> bool:
        """Whether there is a sample, so that `time()` estimates the server's clock."""
        self._look_for_a_jump()
        return bool(self._samples)

    def clear_time_offset_ms_samples(self) -> None:
        """Discard all samples and return to the local clock."""
        self._samples.clear()
        self._estimate_ms = None

    async def update_server_time_offset_with_time_provider(
        self, time_provider: Awaitable[float]
    ) -> None:
        """Await the server's time, in milliseconds since the epoch, and add a sample.

        Logs and raises the errors of the provider. Raises DeadlineExceeded (a TimeoutError) if it
        takes longer than `provider_timeout_s`. Adds nothing if a clock has jumped meanwhile.
        """
        self._look_for_a_jump()
        before = self._clock()
        try:
            server_ms = await self._in_time(time_provider)
            after = self._clock()
            offset_ms = server_ms - (before + after) / 2 * 1000
            if self._look_for_a_jump():
                _LOGGER.warning("A clock has jumped while the server's time was read.")
                return
            self.add_time_offset_ms_sample(offset_ms, rtt_ms=(after - before) * 1000)
        except Exception:
            _LOGGER.exception("Could not read the server's time.")
            raise

    async def update_server_time_if_not_initialized(self, time_provider: Awaitable[float]) -> None:
        """Add a sample if there is none.

        Of concurrent callers, only one awaits its provider. A provider that is not needed is not
        awaited; a coroutine is then closed.
        """
        try:
            if not self.is_initialized:
                async with self._lock():
                    if not self.is_initialized:
                        await self.update_server_time_offset_with_time_provider(time_provider)
        finally:
            # No effect on a coroutine that has been awaited.
            if inspect.iscoroutine(time_provider):
                time_provider.close()

    async def _in_time(self, time_provider: Awaitable[float]) -> float:
        scope = asyncio.timeout(self._provider_timeout_s)
        try:
            async with scope:
                return await time_provider
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise DeadlineExceeded(
                f"Reading the server's time was not done within {self._provider_timeout_s} s."
            ) from error

    def _look_for_a_jump(self) -> bool:
        """Discard the samples if a clock has jumped; return whether one has."""
        has_jumped = self._clocks.have_jumped()
        if has_jumped:
            self.clear_time_offset_ms_samples()
        return has_jumped

    def _lock(self) -> asyncio.Lock:
        """Return the lock of the running loop, because a lock works in one loop only."""
        loop = asyncio.get_running_loop()
        if self._first_sample is None or self._first_sample[0] is not loop:
            self._first_sample = (loop, asyncio.Lock())
        return self._first_sample[1]

    def _offset_ms_at(self, now: float, estimate_ms: float) -> float:
        if now >= self._slew_ends_at:
            return estimate_ms
        moved_ms = (now - self._slew_started_at) * self._max_slew
        return self._slew_from_ms + math.copysign(moved_ms, estimate_ms - self._slew_from_ms)

    def _estimated_ms(self) -> float:
        samples = list(self._samples)
        if self._best_rtt_samples is not None:
            # Prefer the newer of equal ones; the formula needs them in order of arrival.
            newest_first = reversed(list(enumerate(samples)))
            best = sorted(newest_first, key=lambda entry: entry[1].rtt_ms)
            samples = [sample for _, sample in sorted(best[: self._best_rtt_samples], key=_index)]
        offsets_ms = [sample.offset_ms for sample in samples]
        weights = [2 * index + 1 for index in range(len(offsets_ms))]
        weighted_ms = statistics.fmean(offsets_ms, weights)
        return (statistics.median(offsets_ms) + weighted_ms) / 2


def _index(entry: tuple[int, _Sample]) -> int:
    return entry[0]
