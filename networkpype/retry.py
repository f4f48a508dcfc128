"""Retries of REST requests: which, how often, how long in between.

The loop is tenacity's, the rules are here. Off unless a manager is given a `RetryPolicy`.
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
)
from networkpype.throttler.server_limits import parse_retry_after

__all__ = ("IDEMPOTENT_METHODS", "RetryBudget", "RetryPolicy", "run_attempts")

T = TypeVar("T")

# RFC 9110, section 9.2.2.
IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


class RetryBudget:
    """The share of the requests that may be retries, so that a broken server gets some rest.

    There are `capacity` retries at first. Every request earns `ratio` of a retry (0.1: one in
    ten), every retry spends one.
    """

    # A hundred is what the standard mode of the AWS SDKs comes to (500 tokens, 5 for a retry).
    def __init__(self, *, capacity: float = 100.0, ratio: float = 0.1) -> None:
        if not 0 < capacity < math.inf:
            raise ConfigurationError(f"capacity must be a number above 0, not {capacity!r}.")
        if not 0 <= ratio < math.inf:
            raise ConfigurationError(f"ratio must be a number from 0 on, not {ratio!r}.")
        self._capacity = float(capacity)
        self._ratio = float(ratio)
        self._balance = self._capacity

    @property
    def balance(self) -> float:
        """How many retries there are."""
        return self._balance

    def earn(self) -> None:
        """Take note of a request."""
        self._balance = min(self._capacity, self._balance + self._ratio)

    def spend(self) -> bool:
        """Take one retry, if there is one; return whether there was."""
        if self._balance < 1:
            return False
        self._balance -= 1
        return True


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """What is retried, how often and how fast.

    Retried are idempotent methods (RFC 9110, section 9.2.2) and requests with an idempotency key,
    after a connection that failed, a response body that broke off, or one of `statuses`. The
    pause before retry n is drawn from 0 to `backoff_seconds * 2 ** (n - 1)`, at most
    `max_backoff_seconds`, and comes on top of the server's `Retry-After`, so that clients that
    were sent away together do not come back together. If `Retry-After` is more than
    `max_retry_after_seconds`, there is no retry.

    The budget belongs to the policy: managers with the same policy object share it.
    """

    max_attempts: int = 3
    backoff_seconds: float = 0.25
    max_backoff_seconds: float = 20.0
    max_retry_after_seconds: float = 60.0
    statuses: frozenset[int] = frozenset({408, 425, 429, 500, 502, 503, 504})
    budget: RetryBudget = dataclasses.field(default_factory=RetryBudget)

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ConfigurationError(f"max_attempts must be at least 1, not {self.max_attempts}.")
        for name in ("backoff_seconds", "max_backoff_seconds", "max_retry_after_seconds"):
            seconds = getattr(self, name)
            if not 0 <= seconds < math.inf:
                raise ConfigurationError(f"{name} must be a number from 0 on, not {seconds!r}.")
        if not all(400 <= status <= 599 for status in self.statuses):
            raise ConfigurationError(f"statuses must be 400 to 599, not {sorted(self.statuses)}.")

    def is_transient(self, error: BaseException | None) -> bool:
        """Return whether the same request, sent again, may succeed."""
        if isinstance(error, HTTPStatusError):
            return error.status in self.statuses
        # A certificate that is not accepted now is not accepted a second later.
        if isinstance(error, TLSError | aiohttp.ServerFingerprintMismatch):
            return False
        return isinstance(error, ConnectionFailedError | PayloadError)

    def backoff_ceiling_seconds(self, failed_attempts: int) -> float:
        """Return the longest back-off after so many failed attempts."""
        try:
            ceiling = math.ldexp(self.backoff_seconds, failed_attempts - 1)
        except OverflowError:
            return self.max_backoff_seconds
        return min(self.max_backoff_seconds, ceiling)


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
    """Await `attempt(1)`, `attempt(2)`, ... until one succeeds or `policy` says to give up.

    Raises what the last attempt raised.
    """
    if policy is None:
        return await attempt(1)
    policy.budget.earn()
    if method.upper() not in IDEMPOTENT_METHODS and not has_idempotency_key:
        return await attempt(1)
    jitter = random.SystemRandom() if rng is None else rng

    def retry_after(state: RetryCallState) -> float:
        error = _error_of(state)
        if not isinstance(error, HTTPStatusError):
            return 0.0
        seconds = parse_retry_after(error.headers, wall_clock())
        return 0.0 if seconds is None else seconds

    def is_wanted(state: RetryCallState) -> bool:
        return policy.is_transient(_error_of(state))

    def pause(state: RetryCallState) -> float:
        ceiling = policy.backoff_ceiling_seconds(state.attempt_number)
        return retry_after(state) + jitter.uniform(0.0, ceiling)

    def is_enough(state: RetryCallState) -> bool:
        return (
            state.attempt_number >= policy.max_attempts
            or retry_after(state) > policy.max_retry_after_seconds
            # Last: it spends.
            or not policy.budget.spend()
        )

    attempts = AsyncRetrying(
        sleep=sleep, retry=is_wanted, wait=pause, stop=is_enough, reraise=True
    )
    number = 0

    async def next_attempt() -> T:
        nonlocal number
        number += 1
        return await attempt(number)

    return await attempts(next_attempt)


def _error_of(state: RetryCallState) -> BaseException | None:
    return None if state.outcome is None else state.outcome.exception()
