"""Admit requests under exact rate limits."""

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from networkpype._log import get_logger
from networkpype.exceptions import ConfigurationError, UnknownLimitError
from networkpype.throttler._admission_queue import AdmissionQueue
from networkpype.throttler._links import consumption, index_limits
from networkpype.throttler._window import Cost, Window, cost_of
from networkpype.throttler.context import AsyncRequestContext, Hold
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.server_limits import ServerLimits, correct_windows

__all__ = ("AsyncRequestContext", "AsyncThrottler", "Hold")

_LOGGER = get_logger(__name__)
_DEFAULT_SERVER_LIMITS: Final = ServerLimits()
# Servers choose the names of their reports, so there may be any number of them.
_MAX_LOGGED_NAMES: Final = 100


class AsyncThrottler:
    """Admit requests so that no limit is exceeded in any half-open window of its interval.

    This program uses `limits_share_percentage` percent of each limit (rounded down, at least 1),
    less the fraction `safety_margin_pct`. Requests go in order of priority, then of arrival. One
    level of priority equals `priority_aging_seconds` of waiting, so no request waits forever. A
    request is due at the earliest moment at which all limits that it consumes have room for it
    and for the requests before it when these are due. A later request goes first if that makes no
    earlier one due later.
    `server_limits` says how responses correct the usage; None turns this off. `retry_interval`
    has no effect.

    Serves one event loop at a time, from one thread. Raises ConfigurationError (a ValueError) for
    limits that cannot work: a duplicate id, an unknown or circular link, a weight above its limit,
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
        self._admission_queue = AdmissionQueue(priority_aging_seconds)
        self._foreign_reports: set[str] = set()
        self._configured: list[RateLimit] = []
        self._by_id: dict[str, RateLimit] = {}
        # Contexts keep a reference to this dict: change it, never replace it.
        self._costs: dict[str, Cost] = {}
        self.rate_limits = rate_limits

    @classmethod
    def logger(cls) -> logging.Logger:
        """Return the logger of this module."""
        return get_logger(__name__)

    @property
    def rate_limits(self) -> list[RateLimit]:
        """A deep copy of the limits, reduced to the share of this program.

        Assign full limits to change them while requests wait. Usage is kept; a waiter whose limit
        was removed raises UnknownLimitError. Invalid limits raise ConfigurationError and change
        nothing.
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
        windows = self._admission_queue.windows
        self._costs.clear()
        for limit_id, weights in consumed.items():
            self._costs[limit_id] = tuple(
                (windows[consumed_id], weight) for consumed_id, weight in weights.items() if weight
            )
        self._admission_queue.update_costs(self._updated_cost)

    @property
    def configured_rate_limits(self) -> list[RateLimit]:
        """A deep copy of the limits as they were set, before the share."""
        return copy.deepcopy(self._configured)

    @property
    def limits_share_percentage(self) -> Decimal:
        """The percentage of each limit that this program uses."""
        return self._share_percentage

    @property
    def limits_pct(self) -> Decimal:
        """`limits_share_percentage` as a fraction."""
        return self._share_percentage / 100

    def get_related_limits(
        self, limit_id: str
    ) -> tuple[RateLimit | None, list[tuple[RateLimit, int]]]:
        """Return the limit, and a list of (limit, weight) that one request under it consumes.

        The list begins with the limit itself. Returns (None, []) for an unknown id.
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

    def execute_task(
        self, limit_id: str, *, priority: float = 0, weight: int = 1
    ) -> AsyncRequestContext:
        """Return a context manager that waits for admission and counts from then.

        The highest `priority` goes first. It counts as `weight` requests, in linked limits too.
        Raises UnknownLimitError (a ValueError) for an unknown id, ConfigurationError for a weight
        that no limit can ever admit.
        """
        if weight != 1 or limit_id not in self._costs:
            cost_of(limit_id, self._costs, weight)  # to raise now
        return AsyncRequestContext(self._admission_queue, self._costs, limit_id, priority, weight)

    def hold(self, limit_id: str, *, priority: float = 0, weight: int = 1) -> Hold:
        """Return a context manager that waits for admission and counts when told to.

        The highest `priority` goes first. It counts as `weight` requests, in linked limits too.
        Entering raises what `execute_task` raises.
        """
        return Hold(self._admission_queue, self._costs, limit_id, priority, weight)

    def try_acquire(self, limit_id: str, *, priority: float = 0, weight: int = 1) -> bool:
        """Consume, counted from now, if that needs no waiting; return whether it did.

        Raises what `execute_task` raises.
        """
        cost = cost_of(limit_id, self._costs, weight)
        queue = self._admission_queue
        now = queue.now()
        if not queue.would_admit(cost, queue.rank(priority, now), now):
            return False
        queue.consume(cost, now)
        return True

    def estimate_wait(self, limit_id: str, *, priority: float = 0, weight: int = 1) -> float:
        """Return the seconds until a request would be due if it arrived now.

        Later requests of the same or lower priority do not change that. Assumes that existing
        holds count from now; the wait is longer if they count later. Takes time in proportion to
        the number of waiters.
        Raises what `execute_task` raises.
        """
        cost = cost_of(limit_id, self._costs, weight)
        queue = self._admission_queue
        now = queue.now()
        rank = queue.rank(priority, now)
        if queue.would_admit(cost, rank, now):
            return 0.0
        return queue.due(cost, rank, now) - now

    def observe(self, limit_id: str, status: int, headers: Mapping[str, str]) -> None:
        """Correct the usage from the response to a request under `limit_id`.

        Ignores an unknown id: the limit may have been removed since the request was sent.
        """
        cost = self._costs.get(limit_id)
        if self._server_limits is None or cost is None:
            return
        verdict = self._server_limits.read(status, headers)
        if verdict.freeze_seconds <= 0 and not verdict.reports:
            return
        now = self._admission_queue.now()
        windows = [window for window, _ in cost]
        if verdict.freeze_seconds > 0:
            _LOGGER.warning(
                "Status %d: pausing requests under limit %r for %.1f s.",
                status,
                limit_id,
                verdict.freeze_seconds,
            )
            for window in windows:
                window.frozen_until = max(window.frozen_until, now + verdict.freeze_seconds)
        if verdict.reports:
            foreign = correct_windows(
                verdict.reports, windows, self._admission_queue.windows, self._server_limits, now
            )
            for name in foreign:
                self._log_foreign_report(name, limit_id)
        # A waiter that is due later now may have been in the way of others.
        self._admission_queue.admit_waiters(now)

    def _log_foreign_report(self, name: str, limit_id: str) -> None:
        if name not in self._foreign_reports and len(self._foreign_reports) < _MAX_LOGGED_NAMES:
            self._foreign_reports.add(name)
            _LOGGER.warning(
                "The server's report %.100r fits no limit of a request under %r, and is ignored; "
                "limit_ids of ServerLimits says which limit it is of.",
                name,
                limit_id,
            )

    def _updated_cost(self, limit_id: str, weight: int) -> Cost | ConfigurationError:
        if limit_id not in self._costs:
            return UnknownLimitError(f"Rate limit {limit_id!r} was removed.")
        try:
            return cost_of(limit_id, self._costs, weight)
        except ConfigurationError as error:
            return error

    def _shared(self, rate_limit: RateLimit) -> RateLimit:
        """Return the limit reduced to the share of this program."""
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
                        f"{consumed_id!r}, which allows {effective_limit} after share and safety "
                        "margin."
                    )

    def _check_server_limits(self, by_id: Mapping[str, RateLimit]) -> None:
        limit_ids = {} if self._server_limits is None else self._server_limits.limit_ids
        for name, limit_id in limit_ids.items():
            if limit_id not in by_id:
                raise ConfigurationError(
                    f"server_limits maps {name!r} to {limit_id!r}, which does not exist."
                )

    def _configure_windows(self) -> None:
        """Set the windows to the limits, and keep their usage."""
        windows = self._admission_queue.windows
        now = self._admission_queue.time()
        for limit_id in list(windows):
            # Keep the usage of a removed limit until it expires: the limit may be added again.
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
