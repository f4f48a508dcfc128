"""When and how a lost WebSocket is connected again."""

import asyncio
import random
from collections.abc import Awaitable, Callable
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

__all__ = ("DEFAULT_FINAL_CLOSE_CODES", "ReconnectPolicy")

# RFC 6455, section 7.4.1: each says that the same messages would end the next connection too.
# 1002 protocol error, 1003 unsupported data, 1007 inconsistent data, 1008 policy violation,
# 1009 message too big, 1010 extension missing.
DEFAULT_FINAL_CLOSE_CODES = frozenset({1002, 1003, 1007, 1008, 1009, 1010})

# Statuses below 500 that a later handshake may not meet: timeout, too early, too many requests.
_PASSING_STATUSES = frozenset({408, 425, 429})

# 2 ** 1024 is no float; by then every cap is long reached.
_MAX_DOUBLINGS = 64


@dataclass(frozen=True, kw_only=True)
class ReconnectPolicy:
    """Reconnect after an unexpected end of a WebSocket.

    The wait before attempt n is uniform between 0 and `initial_delay_seconds * 2 ** (n - 1)`,
    capped at `max_delay_seconds` (full jitter). `max_attempts` bounds the attempts in a row, None
    is for ever; a data message ends the row, so that a server which accepts and drops at once is
    met with growing waits. Each attempt has `connect_timeout_seconds` for its handshake.

    Then `on_reconnect` runs, which may send and receive on the manager it is given (a login), then
    the subscribed requests are sent again, signed anew. A Gap is handed out before new data.

    Closed by the server with 1000, 1001, 1005, 1006, 1011 to 1014, 3000 to 4999: connected again,
    unless the code is in `final_close_codes`, by default 1002, 1003, 1007, 1008, 1009 and 1010,
    which say that the next connection would end the same way; the same codes are final when we
    close for the server's fault. An attempt is the last one when the handshake is answered with a
    status below 500 other than 408, 425 and 429, when the certificate or the URL is not valid, or
    when the factory is closed.

    After `data_timeout_seconds` without a data message the connection counts as lost, even
    when pings are answered; the time counts while a receiver (or the receive buffer) waits.
    `sleep` and `rng` (uniform in [0, 1)) are there for tests.
    """

    initial_delay_seconds: float = 0.5
    max_delay_seconds: float = 30.0
    max_attempts: int | None = None
    connect_timeout_seconds: float | None = 10.0
    data_timeout_seconds: float | None = None
    final_close_codes: frozenset[int] = DEFAULT_FINAL_CLOSE_CODES
    on_reconnect: Callable[[Any], Awaitable[None]] | None = None
    sleep: Callable[[float], Awaitable[Any]] = field(default=asyncio.sleep, repr=False)
    rng: Callable[[], float] = field(default=random.random, repr=False)

    def __post_init__(self) -> None:
        """Raise ConfigurationError for values that make no sense."""
        if self.initial_delay_seconds < 0 or self.max_delay_seconds < 0:
            raise ConfigurationError("A delay of a ReconnectPolicy is negative.")
        if self.max_attempts is not None and self.max_attempts < 1:
            raise ConfigurationError("max_attempts of a ReconnectPolicy is below 1.")
        for name in ("connect_timeout_seconds", "data_timeout_seconds"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigurationError(f"{name} of a ReconnectPolicy is not positive.")

    def allows_attempt(self, attempt: int) -> bool:
        """Tell whether attempt number `attempt`, from 1, of a row may be made."""
        return self.max_attempts is None or attempt <= self.max_attempts

    def delay_seconds(self, attempt: int) -> float:
        """Return how long to wait before attempt number `attempt`, from 1; random."""
        doubled = self.initial_delay_seconds * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS)
        return self.rng() * min(self.max_delay_seconds, doubled)

    def is_final(self, error: Exception) -> bool:
        """Tell whether `error` ends the connection for good."""
        if isinstance(error, WebSocketClosedError):
            return error.code in self.final_close_codes
        if isinstance(error, WebSocketHandshakeError | HTTPStatusError):
            return error.status < 500 and error.status not in _PASSING_STATUSES
        if isinstance(error, InvalidURLError | aiohttp.ClientConnectorCertificateError):
            return True
        # What is left of the network's own troubles, timeouts included. All else (a factory that
        # is closed, a request that cannot be signed, an error in a hook) would come again.
        return not isinstance(error, TransportError | OSError)
