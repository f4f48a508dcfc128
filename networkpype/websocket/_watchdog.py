"""Is the peer of a WebSocket still there?"""

import asyncio
from collections.abc import Callable

__all__ = ("JUST_NOW", "Watchdog")

# For `waiting_since`: a wait that the watchdog has not yet seen.
JUST_NOW = -1.0

# Times are found to be over when the timer looks, this often in each.
_LOOKS = 4


class Watchdog:
    """Ping a silent peer, and tell when it is dead or gives no data any more.

    Silence counts only while somebody waits for a message: bytes that we do not read say nothing
    about the peer. To keep clocks and timers off the hot path, the reader just sets
    `waiting_since` to JUST_NOW before each message and to None after it, and one timer looks now
    and then; what is to happen after t seconds happens after t to 1.25 t.

    After `ping_timeout` seconds of silence `on_silence` is called (send a ping); half of it
    later, without a frame of any kind, `on_dead`. After `data_timeout` seconds without data, pings
    and pongs or not, `on_dead`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        ping_timeout: float | None,
        data_timeout: float | None,
        on_silence: Callable[[], None],
        on_dead: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._ping_timeout = ping_timeout
        self._data_timeout = data_timeout
        self._on_silence = on_silence
        self._on_dead = on_dead
        self._silent_since = 0.0
        self._pinged_at: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.waiting_since: float | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._silent_since = self._loop.time()
        self._arm()

    def stop(self) -> None:
        """End watching."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def saw_control_frame(self) -> None:
        """Take note of a ping or a pong."""
        self._silent_since = self._loop.time()
        self._pinged_at = None

    def _arm(self) -> None:
        delays = [delay for delay in (self._ping_timeout, self._data_timeout) if delay is not None]
        if delays:
            self._timer = self._loop.call_later(min(delays) / _LOOKS, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        reason = self._judge(now)
        if reason is None:
            self._arm()
        else:
            self._timer = None
            self._on_dead(reason)

    def _judge(self, now: float) -> str | None:
        """Return why the peer counts as dead, None if it does not; ping it if it is silent."""
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
            self._on_silence()
            # While nobody waits for a message this keeps the path open, and proves nothing: the
            # next look forgets it.
            self._silent_since = self._pinged_at = now
        return None
