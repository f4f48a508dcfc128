"""Declarations of limits, and what is made of them."""

import itertools
import math
from decimal import Decimal

import pytest

from networkpype.exceptions import ConfigurationError
from networkpype.throttler.rate_limit import LinkedLimitWeightPair, RateLimit, TaskLog
from networkpype.throttler.throttler import AsyncThrottler


def linked(limit_id: str, *links: tuple[str, int], limit: int = 100) -> RateLimit:
    return RateLimit(limit_id, limit, 1.0, 1, [LinkedLimitWeightPair(*link) for link in links])


def test_defaults_are_those_of_the_contract():
    rate_limit = RateLimit("a", 10, 1.0)
    assert (rate_limit.weight, rate_limit.linked_limits) == (1, [])
    assert rate_limit.linked_limits is not RateLimit("a", 10, 1.0).linked_limits
    assert LinkedLimitWeightPair("a") == LinkedLimitWeightPair("a", 1)
    assert TaskLog(5.0, rate_limit) == TaskLog(timestamp=5.0, rate_limit=rate_limit, weight=1)


def test_filter_keeps_those_that_are_not_listed():
    limits = [RateLimit("a", 1, 1), RateLimit("b", 2, 1), RateLimit("c", 3, 1)]
    assert RateLimit.filter_rate_limits_list(limits, ["b"]) == [limits[0], limits[2]]
    assert RateLimit.filter_rate_limits_list(limits, []) == limits


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ([RateLimit("a", 0, 1)], "limit must be above 0"),
        ([RateLimit("a", -1, 1)], "limit must be above 0"),
        ([RateLimit("a", math.nan, 1)], "limit must be above 0"),
        ([RateLimit("a", 5, 0.0)], "time_interval must be above 0"),
        ([RateLimit("a", 5, math.inf)], "time_interval must be above 0"),
        ([RateLimit("a", "5", 1.0)], "limit must be above 0"),
        ([RateLimit("a", 5, 1.0, -1)], "weight must be a whole number"),
        ([RateLimit("a", 5, 1.0, 1.5)], "weight must be a whole number"),
        ([RateLimit("a", 5, 1.0, 6)], "consumes 6 of 'a', which allows 5"),
        ([linked("a", ("b", -1)), linked("b")], "weight of the link to 'b'"),
        ([linked("a", ("b", 101)), linked("b")], "consumes 101 of 'b'"),
        ([linked("a"), linked("a")], "Two limits have the id 'a'"),
        ([linked("a", ("b", 1))], "links to 'b', which does not exist"),
        ([linked("a", ("a", 1))], "cycle: 'a' -> 'a'"),
        (
            [linked("a", ("b", 1)), linked("b", ("c", 1)), linked("c", ("a", 1))],
            "form a cycle",
        ),
        # Reached only over a link of a link.
        (
            [linked("a", ("b", 1)), linked("b", ("c", 6)), linked("c", limit=5)],
            "consumes 6 of 'c'",
        ),
    ],
)
def test_limits_that_cannot_work_raise_when_the_throttler_is_built(limits, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        AsyncThrottler(limits, safety_margin_pct=0.0)
    assert isinstance(caught.value, ValueError)


def test_a_weight_over_what_share_and_margin_leave_raises():
    AsyncThrottler([RateLimit("a", 10, 1.0, 9)])
    with pytest.raises(ConfigurationError, match="consumes 10 of 'a', which allows 9"):
        AsyncThrottler([RateLimit("a", 10, 1.0, 10)])
    with pytest.raises(ConfigurationError, match="consumes 9 of 'a', which allows 4"):
        AsyncThrottler([RateLimit("a", 10, 1.0, 9)], limits_share_percentage=Decimal(50))


def test_a_circle_is_named_in_the_direction_of_its_links():
    limits = [linked("a", ("b", 1)), linked("b", ("c", 1)), linked("c", ("a", 1))]
    with pytest.raises(ConfigurationError) as caught:
        AsyncThrottler(limits)
    named = str(caught.value).rpartition(": ")[2].rstrip(".").replace("'", "").split(" -> ")
    assert set(itertools.pairwise(named)) == {("a", "b"), ("b", "c"), ("c", "a")}


def test_related_limits_are_all_that_is_consumed():
    limits = [linked("a", ("b", 3), ("c", 2)), linked("b", ("d", 5)), linked("c", ("d", 7))]
    limits.append(linked("d"))
    throttler = AsyncThrottler(limits)
    rate_limit, related = throttler.get_related_limits("a")
    assert rate_limit == limits[0]
    # Two links lead to `d`: it is consumed by their sum. Weights do not multiply.
    assert related == [(limits[0], 1), (limits[1], 3), (limits[2], 2), (limits[3], 12)]
    assert throttler.get_related_limits("d") == (limits[3], [(limits[3], 1)])
    assert throttler.get_related_limits("?") == (None, [])


def test_many_ways_to_one_limit_are_resolved_at_once():
    # 2 ** 40 ways lead to the last one.
    limits = []
    for level in range(40):
        ends = [(f"{level + 1}{side}", 1) for side in "xy"]
        limits += [linked(f"{level}{side}", *ends) for side in "xy"]
    limits += [linked("40x"), linked("40y")]
    _, related = AsyncThrottler(limits).get_related_limits("0x")
    assert {rate_limit.limit_id: weight for rate_limit, weight in related}["40x"] == 2


def test_what_is_got_are_copies():
    given = [linked("a", ("b", 1)), linked("b")]
    throttler = AsyncThrottler(given)
    given[0].limit = 7
    throttler.rate_limits[0].linked_limits[0].weight = 50
    throttler.get_related_limits("a")[1][0][0].limit = 1
    assert throttler.rate_limits == [linked("a", ("b", 1)), linked("b")]
    assert throttler.configured_rate_limits == throttler.rate_limits


@pytest.mark.parametrize("share", [None, Decimal(33), Decimal("0.5"), 33, 33.0])
def test_share_is_floored_and_at_least_one(share):
    throttler = AsyncThrottler([RateLimit("a", 10, 1.0)], limits_share_percentage=share)
    percentage = Decimal(100) if share is None else Decimal(share)
    assert throttler.limits_share_percentage == percentage
    assert throttler.limits_pct == percentage / 100
    assert throttler.rate_limits[0].limit == max(1, int(10 * percentage / 100))
    assert throttler.configured_rate_limits[0].limit == 10


def test_copy_does_not_take_the_share_twice():
    throttler = AsyncThrottler(
        [RateLimit("a", 10, 1.0)], limits_share_percentage=Decimal(50), safety_margin_pct=0.2
    )
    copied = throttler.copy().copy()
    assert copied.rate_limits == throttler.rate_limits == [RateLimit("a", 5, 1.0)]
    assert copied.limits_share_percentage == Decimal(50)
    # int(5 * 0.8): the margin is copied too.
    assert [copied.try_acquire("a") for _ in range(5)] == [True] * 4 + [False]
    assert throttler.try_acquire("a")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"safety_margin_pct": 5}, "is a fraction"),
        ({"safety_margin_pct": 1.0}, "is a fraction"),
        ({"safety_margin_pct": -0.1}, "is a fraction"),
        ({"safety_margin_pct": math.nan}, "is a fraction"),
        ({"limits_share_percentage": Decimal(0)}, "is a percentage"),
        ({"limits_share_percentage": Decimal(101)}, "is a percentage"),
        ({"priority_aging_seconds": 0}, "priority_aging_seconds"),
        ({"priority_aging_seconds": math.inf}, "priority_aging_seconds"),
    ],
)
def test_arguments_out_of_range_raise(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        AsyncThrottler([RateLimit("a", 10, 1.0)], **arguments)


@pytest.mark.parametrize(
    ("limit", "margin", "effective"),
    [(10, 0.05, 9), (100, 0.05, 95), (1, 0.05, 1), (10, 0.0, 10), (10, 0.99, 1), (20, 0.1, 18)],
)
def test_effective_limit_is_what_the_margin_leaves(limit, margin, effective):
    throttler = AsyncThrottler([RateLimit("a", limit, 60.0)], safety_margin_pct=margin)
    assert sum(throttler.try_acquire("a") for _ in range(limit + 5)) == effective
