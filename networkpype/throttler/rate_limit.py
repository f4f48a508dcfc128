"""What a program says about the limits of a server."""

import dataclasses
from collections.abc import Collection, Iterable
from typing import Self

__all__ = ("LinkedLimitWeightPair", "RateLimit", "TaskLog")


@dataclasses.dataclass
class LinkedLimitWeightPair:
    """A link to another limit; `weight` is what one request consumes of it."""

    limit_id: str
    weight: int = 1


@dataclasses.dataclass
class RateLimit:
    """At most `limit` in any half-open window of `time_interval` seconds.

    A request under this id consumes `weight` of it, and of each limit that it links to, directly
    or over other links, the weight of the link. Each link is consumed once; a limit that several
    links lead to is consumed by the sum of their weights.
    """

    limit_id: str
    limit: int
    time_interval: float
    weight: int = 1
    linked_limits: list[LinkedLimitWeightPair] = dataclasses.field(default_factory=list)

    @classmethod
    def filter_rate_limits_list(
        cls, rate_limits: Iterable[Self], limit_ids: Collection[str]
    ) -> list[Self]:
        """Return the limits whose ids are not in `limit_ids`."""
        return [rate_limit for rate_limit in rate_limits if rate_limit.limit_id not in limit_ids]


@dataclasses.dataclass
class TaskLog:
    """A record of one consumption; `timestamp` is in seconds on the clock of the event loop."""

    timestamp: float
    rate_limit: RateLimit
    weight: int = 1
