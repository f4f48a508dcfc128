"""When and how a lost WebSocket is reconnected."""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from networkpype.exceptions import (
    ConfigurationError,
    HTTPStatusError,
    InvalidURLError,
    TransportError,
    WebSocketClosedError,
    WebSocketHandshakeError,
)
from networkpype.throttler.server_limits import parse_retry_after

__all__ = ("DEFAULT_FINAL_CLOSE_CODES", "DEFAULT_FINAL_STATUSES", "ReconnectPolicy")

# RFC 6455, section 7.4.1: with these codes, the next connection would end in the same way.
# 1002 protocol error, 1003 unsupported data, 1007 inconsistent data, 1008 policy violation,
# 1009 message too big, 1010 extension missing.
DEFAULT_FINAL_CLOSE_CODES = frozenset({1002, 1003, 1007, 1008, 1009, 1010})

# All below 500, but those that may be temporary: timeout, too early, too many requests.
DEFAULT_FINAL_STATUSES = frozenset(range(100, 500)) - {408, 425, 429}

_JITTER_FRACTION = 0.1

# 2.0 ** 1024 overflows; any cap is reached long before.
_MAX_DOUBLINGS = 64


@dataclass(frozen=True, kw_only=True)
class ReconnectPolicy:
    """Reconnect after a WebSocket was closed by the server or lost.

    The delay before attempt n is uniform between 0 and `initial_delay_seconds * 2 ** (n - 1)`,
    capped at `max_delay_seconds` (full jitter), and at least the `Retry-After` of a refused
    handshake. `max_attempts` limits consecutive attempts; None is no limit. The count starts anew
    after a connection that has lasted `stable_seconds`, counted from when it is ready for use: a
    server that greets and closes is met with growing delays. Each handshake, together with the
    functions for URL and headers, may take `connect_timeout_seconds`, and each whole attempt, with
    the hook and the subscriptions, `attempt_timeout_seconds`.

    Every `reconnect_every` seconds, or up to a tenth earlier (jitter), reconnects by itself, as
    `WebSocketManager.reconnect()` does.

    After the handshake, `on_reconnect` is called with the manager, on which it may send and
    receive (a login). Then the subscribed requests are sent again with new signatures. Until that
    is done, sends of other tasks raise ReconnectingError, or wait if `sends_wait`, and arriving
    messages are kept: at most 65,536, or what a receive buffer `drop_oldest` or `latest` holds. A
    Gap is returned before new data.

    Close codes in `final_close_codes` are final, whether the server sent the code or the client
    closed because of an invalid frame. The default is 1002, 1003, 1007, 1008, 1009 and 1010, after
    which the next connection would end in the same way. After any other code, reconnects. An
    attempt is the last one if the handshake is answered with a status in `final_statuses` (by
    default all below 500 other than 408, 425 and 429), if the certificate or the URL is invalid,
    or if the factory is closed.

    After `data_timeout_seconds` without a data message, the connection is considered lost, even if
    pings are answered; only the time counts during which a receiver (or the receive buffer) waits.
    `sleep`, `rng` (uniform in [0, 1)) and `wall_clock` (seconds since the epoch) exist for tests.
    """

    initial_delay_seconds: float = 0.5
    max_delay_seconds: float = 30.0
    max_attempts: int | None = None
    connect_timeout_seconds: float | None = 10.0
    attempt_timeout_seconds: float | None = None
    data_timeout_seconds: float | None = None
    reconnect_every: float | None = None
    stable_seconds: float = 30.0
    sends_wait: bool = False
    final_close_codes: Collection[int] = DEFAULT_FINAL_CLOSE_CODES
    final_statuses: Collection[int] = DEFAULT_FINAL_STATUSES
    # Any is the WebSocketManager, whose module imports this one.
    on_reconnect: Callable[[Any], Awaitable[None]] | None = None
    sleep: Callable[[float], Awaitable[object]] = field(default=asyncio.sleep, repr=False)
    rng: Callable[[], float] = field(default=random.random, repr=False)
    wall_clock: Callable[[], float] = field(default=time.time, repr=False)

    def __post_init__(self) -> None:
        """Raise ConfigurationError for invalid values."""
        if self.initial_delay_seconds < 0 or self.max_delay_seconds < 0:
            raise ConfigurationError("The delays of a ReconnectPolicy must not be negative.")
        if self.max_attempts is not None and self.max_attempts < 1:
            raise ConfigurationError("max_attempts of a ReconnectPolicy must be at least 1.")
        if not self.stable_seconds >= 0:
            raise ConfigurationError("stable_seconds of a ReconnectPolicy must not be negative.")
        for name in (
            "connect_timeout_seconds",
            "attempt_timeout_seconds",
            "data_timeout_seconds",
            "reconnect_every",
        ):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigurationError(f"{name} of a ReconnectPolicy must be above 0.")

    def allows_attempt(self, attempt: int) -> bool:
        """Return whether consecutive attempt number `attempt` (from 1) may be made."""
        return self.max_attempts is None or attempt <= self.max_attempts

    def delay_seconds(self, attempt: int) -> float:
        """Return a random delay before consecutive attempt number `attempt` (from 1)."""
        doubled = self.initial_delay_seconds * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS)
        return self.rng() * min(self.max_delay_seconds, doubled)

    def seconds_until_reconnect(self) -> float | None:
        """Return a random delay before the next reconnection that nothing has forced."""
        every = self.reconnect_every
        return None if every is None else every * (1 - _JITTER_FRACTION * self.rng())

    def retry_after_seconds(self, error: Exception) -> float:
        """Return how long a refused handshake asks to wait; 0 for any other error."""
        if not isinstance(error, WebSocketHandshakeError | HTTPStatusError):
            return 0.0
        seconds = parse_retry_after(error.headers or {}, self.wall_clock())
        return seconds if seconds is not None and math.isfinite(seconds) else 0.0

    def is_final(self, error: Exception) -> bool:
        """Return whether `error` rules out reconnecting."""
        if isinstance(error, WebSocketClosedError):
            return error.code in self.final_close_codes
        if isinstance(error, WebSocketHandshakeError | HTTPStatusError):
            return error.status in self.final_statuses
        if isinstance(error, InvalidURLError | aiohttp.ClientConnectorCertificateError):
            return True
        # Other network errors, including timeouts, may be temporary. Any other error (a closed
        # factory, a request that cannot be signed, an error in a hook) would be repeated.
        return not isinstance(error, TransportError | OSError)
