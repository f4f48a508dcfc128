"""Declarations of rate limits."""

import dataclasses
from collections.abc import Collection, Iterable
from typing import Self

__all__ = ("LinkedLimitWeightPair", "RateLimit", "TaskLog")


@dataclasses.dataclass
class LinkedLimitWeightPair:
    """A link to another limit, of which one request consumes `weight`."""

    limit_id: str
    weight: int = 1


@dataclasses.dataclass
class RateLimit:
    """At most `limit` in any half-open window of `time_interval` seconds.

    One request under this id consumes `weight` of this limit. It also consumes the weight of each
    link, followed recursively. Each link counts once; a limit that several links point to is
    consumed by the sum of their weights.
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
        """Return the limits whose id is not in `limit_ids`."""
        return [rate_limit for rate_limit in rate_limits if rate_limit.limit_id not in limit_ids]


@dataclasses.dataclass
class TaskLog:
    """A record of one consumption; `timestamp` is in seconds on the clock of the event loop."""

    timestamp: float
    rate_limit: RateLimit
    weight: int = 1
