"""Detect dead peers of a WebSocket."""

import asyncio
import time
from collections.abc import Callable

from networkpype._clocks import ClockComparison
from networkpype.websocket._late_look import LateLook

__all__ = ("JUST_NOW", "Watchdog")

# A value of `waiting_since`: a wait that began after the last check.
JUST_NOW = -1.0

# The number of checks per timeout.
_CHECKS_PER_TIMEOUT = 4


class Watchdog:
    """Ping a silent peer, and report a peer that is dead or sends no data.

    Silence counts only while a reader waits for a message: unread bytes say nothing about the
    peer. To keep clocks and timers off the hot path, the reader only sets `waiting_since` to
    JUST_NOW before each message and to None after it. One timer checks it periodically, so a
    timeout of t seconds takes effect after t to 1.25 t.

    Calls `on_silence` (to send a ping) after `ping_timeout` seconds of silence, and `on_dead` if
    no frame arrives within half that time. Calls `on_dead` after `data_timeout` seconds without
    data, whether or not pings and pongs arrive. Before `on_dead`, the loop reads what has arrived:
    a check of a loop that was blocked comes too late to see it.

    When the wall clock has run on while the loop's clock stood still (the machine was suspended),
    it pings at once.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        ping_timeout: float | None,
        data_timeout: float | None,
        on_silence: Callable[[], None],
        on_dead: Callable[[str], None],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._loop = loop
        self._ping_timeout = ping_timeout
        self._data_timeout = data_timeout
        self._on_silence = on_silence
        self._on_dead = on_dead
        self._silent_since = 0.0
        self._pinged_at: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._clocks = ClockComparison(loop.time, wall_clock)
        self._late_look = LateLook(loop, self._judge)
        self.waiting_since: float | None = None

    def start(self) -> None:
        """Start watching."""
        self._silent_since = self._loop.time()
        self._schedule_check()

    def stop(self) -> None:
        """Stop watching."""
        self._late_look.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def saw_control_frame(self) -> None:
        """Record a ping or a pong."""
        self._silent_since = self._loop.time()
        self._pinged_at = None

    def _schedule_check(self) -> None:
        delays = [delay for delay in (self._ping_timeout, self._data_timeout) if delay is not None]
        if delays:
            self._timer = self._loop.call_later(min(delays) / _CHECKS_PER_TIMEOUT, self._check)

    def _check(self) -> None:
        self._timer = None
        now = self._loop.time()
        if self._clocks.suspended_seconds() and self._ping_timeout is not None:
            self._ping(now)
        if self._check_peer(now) is None:
            self._schedule_check()
        else:
            self._late_look.start()

    def _judge(self) -> None:
        reason = self._check_peer(self._loop.time())
        if reason is None:
            self._schedule_check()
        else:
            self._on_dead(reason)

    def _ping(self, now: float) -> None:
        self._on_silence()
        # Without a waiting reader, the ping only keeps the network path open; the next check
        # resets it.
        self._silent_since = self._pinged_at = now

    def _check_peer(self, now: float) -> str | None:
        """Return why the peer is considered dead, or None; ping it if it is silent."""
        if self.waiting_since is None:
            self._pinged_at = None
        elif self.waiting_since == JUST_NOW:
            self.waiting_since = self._silent_since = now
            self._pinged_at = None
        elif self._data_timeout is not None and now - self.waiting_since >= self._data_timeout:
            return f"No data for {self._data_timeout} s."
        if self._ping_timeout is None:
            return None
        if self._pinged_at is not None:
            if now - self._pinged_at >= self._ping_timeout / 2:
                return f"No answer to a ping within {self._ping_timeout / 2} s."
        elif now - self._silent_since >= self._ping_timeout:
            self._ping(now)
        return None
