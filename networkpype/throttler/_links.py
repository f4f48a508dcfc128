"""Check declared limits, and compute what one request consumes of each."""

import graphlib
import math
from collections.abc import Mapping, Sequence

from networkpype.exceptions import ConfigurationError
from networkpype.throttler.rate_limit import RateLimit

__all__ = ("consumption", "index_limits")


def index_limits(rate_limits: Sequence[RateLimit]) -> dict[str, RateLimit]:
    """Return the limits by id; raise ConfigurationError for limits that cannot work."""
    by_id: dict[str, RateLimit] = {}
    for rate_limit in rate_limits:
        if rate_limit.limit_id in by_id:
            raise ConfigurationError(f"Two limits have the id {rate_limit.limit_id!r}.")
        by_id[rate_limit.limit_id] = rate_limit
        _check_numbers(rate_limit)
    links = {
        limit_id: [link.limit_id for link in rate_limit.linked_limits]
        for limit_id, rate_limit in by_id.items()
    }
    for limit_id, targets in links.items():
        for target in targets:
            if target not in by_id:
                raise ConfigurationError(
                    f"Limit {limit_id!r} links to {target!r}, which does not exist."
                )
    try:
        graphlib.TopologicalSorter(links).prepare()
    except graphlib.CycleError as error:
        cycle = " -> ".join(repr(limit_id) for limit_id in reversed(error.args[1]))
        raise ConfigurationError(f"Limits form a cycle: {cycle}.") from error
    return by_id


def consumption(limit_id: str, by_id: Mapping[str, RateLimit]) -> dict[str, int]:
    """Return the weight of each limit that one request consumes, its own limit first."""
    weights = {limit_id: by_id[limit_id].weight}
    unvisited = [limit_id]
    visited = {limit_id}
    for visiting in unvisited:
        for link in by_id[visiting].linked_limits:
            weights[link.limit_id] = weights.get(link.limit_id, 0) + link.weight
            if link.limit_id not in visited:
                visited.add(link.limit_id)
                unvisited.append(link.limit_id)
    return weights


def _check_numbers(rate_limit: RateLimit) -> None:
    name = f"Limit {rate_limit.limit_id!r}"
    for field in ("limit", "time_interval"):
        number = getattr(rate_limit, field)
        if not _is_positive(number):
            raise ConfigurationError(f"{name}: {field} must be above 0, not {number!r}.")
    if not _is_weight(rate_limit.weight):
        raise ConfigurationError(
            f"{name}: weight must be a whole number, at least 0, not {rate_limit.weight!r}."
        )
    for link in rate_limit.linked_limits:
        if not _is_weight(link.weight):
            raise ConfigurationError(
                f"{name}: weight of the link to {link.limit_id!r} must be a whole number, at "
                f"least 0, not {link.weight!r}."
            )


def _is_positive(number: float) -> bool:
    try:
        return bool(0 < number < math.inf)
    except TypeError:  # not a number
        return False


def _is_weight(number: object) -> bool:
    return isinstance(number, int) and number >= 0
