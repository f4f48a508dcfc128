"""Abort clients that stop reading."""

from typing import Any

from aiorest_ws.interfaces import Connection

__all__ = ("SlowClientWatch",)

# The number of checks in the time of the limit.
CHECKS_PER_LIMIT = 4


class SlowClientWatch:
    """Abort a write-paused connection whose client reads nothing for `Limits.unsent_seconds`."""

    __slots__ = ("_connection", "_idle_checks", "_sent", "_timer")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sent = connection.sent_bytes
        self._idle_checks = 0
        self._timer: Any = None
        self._check_later()

    def stop(self) -> None:
        """Stop checking: the client has read, or is gone."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _check_later(self) -> None:
        factory = self._connection.factory
        seconds = factory.limits.unsent_seconds / CHECKS_PER_LIMIT
        self._timer = factory.timer_wheel.call_later(seconds, self._check)

    def _check(self) -> None:
        sent = self._connection.sent_bytes
        if sent > self._sent:
            self._sent, self._idle_checks = sent, 0
        else:
            self._idle_checks += 1
        if self._idle_checks >= CHECKS_PER_LIMIT:
            self._connection.abort_slow_client("unsent_seconds", "aborted, it reads nothing")
        else:
            self._check_later()
