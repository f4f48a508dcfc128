"""The limits of a program, kept exactly."""

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from networkpype.exceptions import ConfigurationError, UnknownLimitError
from networkpype.throttler._forecast import forecast
from networkpype.throttler._links import consumption, index_limits
from networkpype.throttler._turnstile import Route, Turnstile
from networkpype.throttler._window import Window
from networkpype.throttler.context import AsyncRequestContext, Hold
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.server_limits import ServerLimits, correct_windows

__all__ = ("AsyncRequestContext", "AsyncThrottler", "Hold")

_LOGGER = logging.getLogger(__name__)
_DEFAULT_SERVER_LIMITS: Final = ServerLimits()


class AsyncThrottler:
    """Admit requests so that no limit is exceeded in any half-open window of its interval.

    Of each limit, `limits_share_percentage` percent (rounded down, at least 1) are for this
    program, and of those the fraction `safety_margin_pct` is left unused. A request goes as soon
    as it is first, by priority, then by arrival, among those that wait for any of the limits that
    it consumes, and fits into all of them. One level of priority is worth
    `priority_aging_seconds` of waiting, so that nobody waits for ever. `server_limits` is how
    responses correct the usage, None for not at all. `retry_interval` has no effect.

    Serves one event loop at a time, from one thread. Raises ConfigurationError (a ValueError) for
    limits that can never work: an id twice, an unknown or circular link, a weight over its limit,
    numbers out of range.
    """

    def __init__(
        self,
        rate_limits: Sequence[RateLimit],
        retry_interval: float = 0.1,
        safety_margin_pct: float = 0.05,
        limits_share_percentage: Decimal | None = None,
        *,
        server_limits: ServerLimits | None = _DEFAULT_SERVER_LIMITS,
        priority_aging_seconds: float = 10.0,
    ) -> None:
        if not 0 <= safety_margin_pct < 1:
            raise ConfigurationError(
                f"safety_margin_pct is a fraction from 0 to below 1, not {safety_margin_pct!r}."
            )
        if not 0 < priority_aging_seconds < math.inf:
            raise ConfigurationError(
                f"priority_aging_seconds must be above 0, not {priority_aging_seconds!r}."
            )
        self._share_percentage = _checked_share(limits_share_percentage)
        self._retry_interval = retry_interval
        self._safety_margin_fraction = safety_margin_pct
        self._priority_aging_seconds = priority_aging_seconds
        self._server_limits = server_limits
        self._turnstile = Turnstile(priority_aging_seconds)
        self._configured: list[RateLimit] = []
        self._by_id: dict[str, RateLimit] = {}
        # Contexts keep this very dict, so it is changed and never replaced.
        self._routes: dict[str, Route] = {}
        self.rate_limits = rate_limits

    @property
    def rate_limits(self) -> list[RateLimit]:
        """The limits, as a deep copy, each with the share of it that is for this program.

        Set it, to limits without the share, to change them while requests wait. What was consumed
        stays consumed; a waiter whose limit is gone gets UnknownLimitError. If the new ones raise
        ConfigurationError, nothing has changed.
        """
        return copy.deepcopy(list(self._by_id.values()))

    @rate_limits.setter
    def rate_limits(self, rate_limits: Sequence[RateLimit]) -> None:
        configured = copy.deepcopy(list(rate_limits))
        by_id = index_limits(configured)
        by_id = {limit_id: self._shared(limit) for limit_id, limit in by_id.items()}
        consumed = {limit_id: consumption(limit_id, by_id) for limit_id in by_id}
        self._check_weights(by_id, consumed)
        self._check_server_limits(by_id)
        self._configured = configured
        self._by_id = by_id
        self._configure_windows()
        windows = self._turnstile.windows
        self._routes.clear()
        for limit_id, weights in consumed.items():
            self._routes[limit_id] = tuple(
                (windows[consumed_id], weight) for consumed_id, weight in weights.items() if weight
            )
        self._turnstile.reroute(self._find_route)

    @property
    def configured_rate_limits(self) -> list[RateLimit]:
        """The limits as they were set, before the share; a deep copy."""
        return copy.deepcopy(self._configured)

    @property
    def limits_share_percentage(self) -> Decimal:
        """The percentage of each limit that is for this program."""
        return self._share_percentage

    @property
    def limits_pct(self) -> Decimal:
        """`limits_share_percentage` as a fraction."""
        return self._share_percentage / 100

    def get_related_limits(
        self, limit_id: str
    ) -> tuple[RateLimit | None, list[tuple[RateLimit, int]]]:
        """Return the limit, and (limit, weight) of all that a request under it consumes.

        The first of those is the limit itself; (None, []) for an unknown id.
        """
        rate_limit = self._by_id.get(limit_id)
        if rate_limit is None:
            return None, []
        weights = consumption(limit_id, self._by_id)
        related = [(self._by_id[related_id], weight) for related_id, weight in weights.items()]
        return copy.deepcopy((rate_limit, related))

    def copy(self) -> "AsyncThrottler":
        """Return a throttler with the same limits and nothing consumed."""
        return AsyncThrottler(
            self._configured,
            self._retry_interval,
            self._safety_margin_fraction,
            self._share_percentage,
            server_limits=self._server_limits,
            priority_aging_seconds=self._priority_aging_seconds,
        )

    def execute_task(self, limit_id: str, *, priority: float = 0) -> AsyncRequestContext:
        """Return a context that is entered when the request may go, and counts from there.

        The highest `priority` goes first.
        Raises UnknownLimitError (a ValueError) for an unknown id.
        """
        if limit_id not in self._routes:
            raise UnknownLimitError(f"Rate limit not found for ID: {limit_id}")
        return AsyncRequestContext(self._turnstile, self._routes, limit_id, priority)

    def hold(self, limit_id: str, *, priority: float = 0) -> Hold:
        """Return a context that is entered when the request may go, and counts when told to.

        The highest `priority` goes first.
        Entering raises UnknownLimitError (a ValueError) for an unknown id.
        """
        return Hold(self._turnstile, self._routes, limit_id, priority)

    def try_acquire(self, limit_id: str, *, priority: float = 0) -> bool:
        """Consume and count from now if that can be without waiting; return whether it could.

        Raises UnknownLimitError (a ValueError) for an unknown id.
        """
        route = self._known_route(limit_id)
        turnstile = self._turnstile
        now = turnstile.now()
        if not turnstile.would_admit(route, turnstile.rank(priority, now), now):
            return False
        turnstile.take(route, now)
        return True

    def estimate_wait(self, limit_id: str, *, priority: float = 0) -> float:
        """Return the seconds that a request would wait if it came now and nobody after it.

        What is held is taken to count from now. Takes time in proportion to those who wait.
        Raises UnknownLimitError (a ValueError) for an unknown id.
        """
        route = self._known_route(limit_id)
        turnstile = self._turnstile
        now = turnstile.now()
        rank = turnstile.rank(priority, now)
        if turnstile.would_admit(route, rank, now):
            return 0.0
        before = [waiter.route for waiter in turnstile.waiters_before(rank)]
        return forecast(before, route, now) - now

    def observe(self, limit_id: str, status: int, headers: Mapping[str, str]) -> None:
        """Correct the usage by what a response to a request under `limit_id` says.

        An unknown id is ignored: the limit may have been removed since the request was sent.
        """
        route = self._routes.get(limit_id)
        if self._server_limits is None or route is None:
            return
        verdict = self._server_limits.read(status, headers)
        now = self._turnstile.now()
        windows = [window for window, _ in route]
        if verdict.freeze_seconds > 0:
            _LOGGER.warning(
                "Status %d: requests under limit %r wait for %.1f s.",
                status,
                limit_id,
                verdict.freeze_seconds,
            )
            for window in windows:
                window.frozen_until = max(window.frozen_until, now + verdict.freeze_seconds)
        if verdict.reports:
            correct_windows(
                verdict.reports, windows, self._turnstile.windows, self._server_limits, now
            )

    def _find_route(self, limit_id: str) -> Route | UnknownLimitError:
        route = self._routes.get(limit_id)
        if route is None:
            return UnknownLimitError(f"Rate limit {limit_id!r} was removed.")
        return route

    def _known_route(self, limit_id: str) -> Route:
        route = self._routes.get(limit_id)
        if route is None:
            raise UnknownLimitError(f"Rate limit not found for ID: {limit_id}")
        return route

    def _shared(self, rate_limit: RateLimit) -> RateLimit:
        """Return a limit with our share of it."""
        share = int(Decimal(rate_limit.limit) * self._share_percentage / 100)
        return RateLimit(
            rate_limit.limit_id,
            max(1, share),
            rate_limit.time_interval,
            rate_limit.weight,
            rate_limit.linked_limits,
        )

    def _effective_limit(self, shared_limit: int) -> int:
        return max(1, int(shared_limit * (1 - self._safety_margin_fraction)))

    def _check_weights(
        self, by_id: Mapping[str, RateLimit], consumed: Mapping[str, Mapping[str, int]]
    ) -> None:
        for limit_id, weights in consumed.items():
            for consumed_id, weight in weights.items():
                effective_limit = self._effective_limit(by_id[consumed_id].limit)
                if weight > effective_limit:
                    raise ConfigurationError(
                        f"A request under limit {limit_id!r} consumes {weight} of "
                        f"{consumed_id!r}, of which there are {effective_limit} after share and "
                        "safety margin."
                    )

    def _check_server_limits(self, by_id: Mapping[str, RateLimit]) -> None:
        limit_ids = {} if self._server_limits is None else self._server_limits.limit_ids
        for name, limit_id in limit_ids.items():
            if limit_id not in by_id:
                raise ConfigurationError(
                    f"server_limits maps {name!r} to {limit_id!r}, which does not exist."
                )

    def _configure_windows(self) -> None:
        """Set the windows to the limits; the past of those that stay is kept."""
        windows = self._turnstile.windows
        now = self._turnstile.time()
        for limit_id in list(windows):
            # What a removed limit consumed is remembered until it is over, should it come back.
            if windows[limit_id].is_idle(now) and limit_id not in self._by_id:
                del windows[limit_id]
        for configured in self._configured:
            limit_id = configured.limit_id
            shared = self._by_id[limit_id]
            window = windows.setdefault(limit_id, Window(limit_id))
            window.configured_limit = configured.limit
            window.shared_limit = shared.limit
            window.limit = self._effective_limit(shared.limit)
            window.interval = float(configured.time_interval)


def _checked_share(percentage: Decimal | None) -> Decimal:
    if percentage is None:
        return Decimal(100)
    share = percentage if isinstance(percentage, Decimal) else Decimal(str(percentage))
    if not 0 < share <= 100:
        raise ConfigurationError(
            f"limits_share_percentage is a percentage above 0, up to 100, not {percentage!r}."
        )
    return share
