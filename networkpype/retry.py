"""Retries of REST requests: which, how many, and the delay between them.

The loop is tenacity's; the rules are here. Off unless a manager has a `RetryPolicy`.
"""

import asyncio
import dataclasses
import math
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import aiohttp
from tenacity import AsyncRetrying, RetryCallState

from networkpype.exceptions import (
    ConfigurationError,
    ConnectionFailedError,
    HTTPStatusError,
    PayloadError,
    TLSError,
    TransportError,
)
from networkpype.throttler.server_limits import parse_retry_after

__all__ = ("IDEMPOTENT_METHODS", "RetryBudget", "RetryPolicy", "run_attempts")

T = TypeVar("T")

# RFC 9110, section 9.2.2.
IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


class RetryBudget:
    """Limit the share of requests that are retries, to avoid overloading a failing server.

    Starts with `capacity` retries. Each request adds `ratio` of a retry (0.1: one in ten), each
    retry takes one.
    """

    # The standard mode of the AWS SDKs allows 100 retries too (500 tokens, 5 for a retry).
    def __init__(self, *, capacity: float = 100.0, ratio: float = 0.1) -> None:
        if not 0 < capacity < math.inf:
            raise ConfigurationError(f"capacity must be above 0, not {capacity!r}.")
        if not 0 <= ratio < math.inf:
            raise ConfigurationError(f"ratio must be at least 0, not {ratio!r}.")
        self._capacity = float(capacity)
        self._ratio = float(ratio)
        self._balance = self._capacity

    @property
    def balance(self) -> float:
        """The number of retries that are left."""
        return self._balance

    def earn(self) -> None:
        """Add the share of one request."""
        self._balance = min(self._capacity, self._balance + self._ratio)

    def spend(self) -> bool:
        """Take one retry; return False if none is left."""
        if self._balance < 1:
            return False
        self._balance -= 1
        return True


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Which requests are retried, how often and how fast.

    Idempotent methods (RFC 9110, section 9.2.2) and requests with an idempotency key are retried
    after a failed connection, a truncated response body, or one of `statuses`. Other requests are
    retried only if they were surely not processed: after a 429 (if it is in `statuses`), a
    connection that could not be made, or one that was lost before the first byte was sent.

    The delay before
    retry n is uniform between 0 and `backoff_seconds * 2 ** (n - 1)`, capped at
    `max_backoff_seconds`. It is added to the server's `Retry-After`, so that clients that were
    refused together do not return together. There is no retry if `Retry-After` exceeds
    `max_retry_after_seconds`.

    An attempt that takes longer than `attempt_timeout_seconds`, from when it waits for a
    connection to the end of the body (with `call`: of the response head), raises
    AttemptTimeoutError and is retried like one whose connection failed.

    The budget belongs to the policy: managers with the same policy object share it.
    """

    max_attempts: int = 3
    backoff_seconds: float = 0.25
    max_backoff_seconds: float = 20.0
    max_retry_after_seconds: float = 60.0
    attempt_timeout_seconds: float | None = None
    statuses: frozenset[int] = frozenset({408, 425, 429, 500, 502, 503, 504})
    budget: RetryBudget = dataclasses.field(default_factory=RetryBudget)

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ConfigurationError(f"max_attempts must be at least 1, not {self.max_attempts}.")
        for name in ("backoff_seconds", "max_backoff_seconds", "max_retry_after_seconds"):
            seconds = getattr(self, name)
            if not 0 <= seconds < math.inf:
                raise ConfigurationError(f"{name} must be at least 0, not {seconds!r}.")
        seconds = self.attempt_timeout_seconds
        if seconds is not None and not 0 < seconds < math.inf:
            raise ConfigurationError(f"attempt_timeout_seconds must be above 0, not {seconds!r}.")
        if not all(400 <= status <= 599 for status in self.statuses):
            raise ConfigurationError(f"statuses must be 400 to 599, not {sorted(self.statuses)}.")

    def is_transient(self, error: BaseException | None) -> bool:
        """Return whether the same request may succeed when sent again."""
        if isinstance(error, HTTPStatusError):
            return error.status in self.statuses
        # A rejected certificate will be rejected again.
        if isinstance(error, TLSError | aiohttp.ServerFingerprintMismatch):
            return False
        return isinstance(error, ConnectionFailedError | PayloadError)

    @staticmethod
    def is_unprocessed(error: BaseException | None) -> bool:
        """Return whether the server surely did not process the request."""
        if isinstance(error, HTTPStatusError):
            return error.status == 429
        return isinstance(error, TransportError) and not error.was_sent

    def backoff_ceiling_seconds(self, failed_attempts: int) -> float:
        """Return the longest delay after `failed_attempts`."""
        try:
            ceiling = math.ldexp(self.backoff_seconds, failed_attempts - 1)
        except OverflowError:
            return self.max_backoff_seconds
        return min(self.max_backoff_seconds, ceiling)


# Over 40 lines: tenacity takes its rules as functions, which share the policy.
async def run_attempts(
    policy: RetryPolicy | None,
    attempt: Callable[[int], Awaitable[T]],
    *,
    method: str,
    has_idempotency_key: bool,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    wall_clock: Callable[[], float] = time.time,
    rng: random.Random | None = None,
) -> T:
    """Await `attempt(1)`, `attempt(2)`, ... until one succeeds or `policy` stops.

    Raises what the last attempt raised.
    """
    if policy is None:
        return await attempt(1)
    policy.budget.earn()
    is_idempotent = method.upper() in IDEMPOTENT_METHODS or has_idempotency_key
    jitter = random.SystemRandom() if rng is None else rng

    def retry_after(state: RetryCallState) -> float:
        error = _error_of(state)
        if not isinstance(error, HTTPStatusError):
            return 0.0
        seconds = parse_retry_after(error.headers, wall_clock())
        return 0.0 if seconds is None else seconds

    def should_retry(state: RetryCallState) -> bool:
        error = _error_of(state)
        return policy.is_transient(error) and (is_idempotent or policy.is_unprocessed(error))

    def delay(state: RetryCallState) -> float:
        ceiling = policy.backoff_ceiling_seconds(state.attempt_number)
        return retry_after(state) + jitter.uniform(0.0, ceiling)

    def should_stop(state: RetryCallState) -> bool:
        return (
            state.attempt_number >= policy.max_attempts
            or retry_after(state) > policy.max_retry_after_seconds
            # Last, because it spends the budget.
            or not policy.budget.spend()
        )

    attempts = AsyncRetrying(
        sleep=sleep, retry=should_retry, wait=delay, stop=should_stop, reraise=True
    )
    number = 0

    async def next_attempt() -> T:
        nonlocal number
        number += 1
        return await attempt(number)

    return await attempts(next_attempt)


def _error_of(state: RetryCallState) -> BaseException | None:
    return None if state.outcome is None else state.outcome.exception()
