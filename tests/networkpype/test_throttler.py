"""Single promises of the throttler; all of them together are in test_throttler_properties.py."""

import asyncio
import math
from fractions import Fraction

import pytest
from throttlers import hold_and_refund, now, one_limit, turns

from networkpype.exceptions import ConfigurationError, UnknownLimitError
from networkpype.throttler.rate_limit import LinkedLimitWeightPair, RateLimit
from networkpype.throttler.throttler import AsyncThrottler


def test_the_window_slides(virtual):
    async def main() -> list[float]:
        throttler, moments = one_limit(2, 1.0), []
        for pause in (0.0, 0.6, 0.0, 0.0, 0.0):
            await asyncio.sleep(pause)
            async with throttler.execute_task("a"):
                moments.append(now())
        return moments

    assert virtual(main()) == [0.0, 0.6, 1.0, 1.6, 2.0]


@pytest.mark.parametrize(
    ("start", "interval"), [(0.1, 0.2), (0.3, 0.1), (1.1, 2.2), (1e6 + 0.7, 0.1), (0.1, 0.7)]
)
def test_no_window_is_shortened_by_rounding(virtual, start, interval):
    """The end of a window is the first float that is not before it."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        throttler = one_limit(1, interval)
        assert throttler.try_acquire("a")
        end = start + interval
        while Fraction(end) < Fraction(start) + Fraction(interval):
            end = math.nextafter(end, math.inf)
        while Fraction(math.nextafter(end, 0.0)) >= Fraction(start) + Fraction(interval):
            end = math.nextafter(end, 0.0)
        loop.now = math.nextafter(end, 0.0)
        assert not throttler.try_acquire("a")
        assert throttler.estimate_wait("a") == end - loop.now
        async with throttler.execute_task("a"):
            assert now() == end

    virtual(main(), start)


def test_disjoint_limits_do_not_wait_for_each_other(virtual):
    async def main() -> None:
        throttler = AsyncThrottler([RateLimit("a", 1, 5.0), RateLimit("b", 1, 1.0)])
        async with throttler.execute_task("a"), asyncio.TaskGroup() as group:
            group.create_task(throttler.execute_task("a").acquire())
            await turns()
            async with throttler.execute_task("b"):
                assert now() == 0.0

    virtual(main())


def test_a_waiter_keeps_its_place_in_every_queue(virtual):
    """Light requests do not starve one that waits for another of its limits."""

    async def main() -> list[tuple[str, float]]:
        link = [LinkedLimitWeightPair("shared", 2)]
        throttler = AsyncThrottler(
            [RateLimit("heavy", 5, 1.0, 1, link), RateLimit("shared", 2, 1.0)],
            safety_margin_pct=0.0,
        )
        admitted = []

        async def consume(limit_id: str) -> None:
            async with throttler.execute_task(limit_id):
                admitted.append((limit_id, now()))

        async with asyncio.TaskGroup() as group:
            for limit_id in ("shared", "heavy", "shared"):
                group.create_task(consume(limit_id))
                await asyncio.sleep(0.25)
        return admitted

    assert virtual(main()) == [("shared", 0.0), ("heavy", 1.0), ("shared", 2.0)]


def test_priority_goes_first_and_age_catches_up(virtual):
    async def main() -> list[str]:
        throttler, admitted = one_limit(1, 1.0, priority_aging_seconds=3.0), []

        async def consume(name: str, priority: int) -> None:
            async with throttler.execute_task("a", priority=priority):
                admitted.append(name)

        async with asyncio.TaskGroup() as group:
            group.create_task(consume("first", 0))
            await turns()
            group.create_task(consume("low", 0))
            # One urgent request a second, for ever, would starve the low one.
            for second in range(8):
                group.create_task(consume(f"urgent {second}", 1))
                await asyncio.sleep(1.0)
        return admitted

    admitted = virtual(main())
    assert admitted[:2] == ["first", "urgent 0"]
    # After three seconds its age is worth more than the priority of the newcomers.
    assert admitted.index("low") == 4


@pytest.mark.parametrize("priority", [math.inf, -math.inf, math.nan])
def test_priority_must_be_finite(virtual, priority):
    async def main() -> None:
        throttler = one_limit(1)
        assert throttler.try_acquire("a")
        with pytest.raises(ConfigurationError, match="finite"):
            await hold_and_refund(throttler, priority=priority)

    virtual(main())


def test_unknown_ids_raise(virtual):
    async def main() -> None:
        throttler = one_limit()
        for ask in (throttler.execute_task, throttler.try_acquire, throttler.estimate_wait):
            with pytest.raises(UnknownLimitError, match="b"):
                ask("b")
        with pytest.raises(ValueError, match="Rate limit not found for ID: b"):
            await hold_and_refund(throttler, "b")
        throttler.observe("b", 429, {"Retry-After": "5"})

    virtual(main())


# -- limits set at run time


def test_grown_limits_wake_waiters_at_once(virtual):
    async def main() -> None:
        throttler = one_limit(1, 5.0)
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(throttler.execute_task("a").acquire())
            await turns()
            throttler.rate_limits = [RateLimit("a", 3, 5.0)]
        assert now() == 0.0
        assert not throttler.try_acquire("a")

    virtual(main())


def test_shrunk_limits_hold_for_what_was_consumed_before(virtual):
    async def main() -> None:
        throttler = one_limit(3, 5.0)
        for _ in range(3):
            assert throttler.try_acquire("a")
            await asyncio.sleep(1.0)
        throttler.rate_limits = [RateLimit("a", 1, 5.0)]
        await throttler.execute_task("a").acquire()
        assert now() == 7.0

    virtual(main())


def test_waiters_of_a_removed_limit_are_told(virtual):
    async def main() -> None:
        throttler = one_limit(1, 5.0)
        assert throttler.try_acquire("a")
        waiting = [asyncio.ensure_future(hold_and_refund(throttler)) for _ in range(2)]
        await turns()
        waiting[0].cancel()
        throttler.rate_limits = [RateLimit("b", 1, 5.0)]
        with pytest.raises(UnknownLimitError, match="'a' was removed"):
            await waiting[1]
        await turns()
        assert waiting[0].cancelled()
        # What it consumed is remembered, should it come back.
        throttler.rate_limits = [RateLimit("a", 1, 5.0)]
        assert not throttler.try_acquire("a")
        throttler.rate_limits = [RateLimit("b", 1, 5.0)]
        await asyncio.sleep(5.0)
        throttler.rate_limits = [RateLimit("b", 1, 5.0)]
        throttler.rate_limits = [RateLimit("a", 1, 5.0)]
        assert throttler.try_acquire("a")

    virtual(main())


def test_a_waiter_whose_limit_costs_nothing_any_more_goes(virtual):
    async def main() -> None:
        throttler = one_limit(1, 5.0)
        assert throttler.try_acquire("a")
        waiting = asyncio.ensure_future(throttler.execute_task("a").acquire())
        await turns()
        throttler.rate_limits = [RateLimit("a", 1, 5.0, 0)]
        await waiting
        assert now() == 0.0

    virtual(main())


def test_wrong_limits_change_nothing(virtual):
    async def main() -> None:
        throttler = one_limit(1, 5.0)
        with pytest.raises(ConfigurationError):
            throttler.rate_limits = [RateLimit("b", 1, 5.0), RateLimit("b", 1, 5.0)]
        with pytest.raises(ConfigurationError):
            throttler.rate_limits = [RateLimit("a", 9, 5.0, 10)]
        assert throttler.rate_limits == [RateLimit("a", 1, 5.0)]
        assert throttler.try_acquire("a")

    virtual(main())


def test_a_removed_limit_stays_frozen(virtual):
    async def main() -> None:
        throttler = one_limit(1, 1.0)
        throttler.observe("a", 429, {"Retry-After": "30"})
        throttler.rate_limits = [RateLimit("b", 1, 5.0)]
        throttler.rate_limits = [RateLimit("a", 1, 1.0)]
        assert throttler.estimate_wait("a") == 30.0

    virtual(main())


# -- estimates


def test_estimate_counts_those_who_wait(virtual):
    async def main() -> None:
        throttler = one_limit(2, 1.0)
        assert throttler.try_acquire("a")
        await asyncio.sleep(0.25)
        assert throttler.try_acquire("a")
        waiting = [asyncio.ensure_future(throttler.execute_task("a").acquire()) for _ in range(3)]
        await turns()
        # They go at 1.0, 1.25 and 2.0; it is 0.25.
        assert throttler.estimate_wait("a") == 2.0
        # Goes at 1.0 if it comes now.
        assert throttler.estimate_wait("a", priority=1) == 0.75
        await asyncio.gather(*waiting)
        assert now() == 2.0

    virtual(main())
