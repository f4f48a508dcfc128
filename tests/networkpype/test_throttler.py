"""Single promises of the throttler; all of them together are in test_throttler_properties.py."""

import asyncio
import gc
import math
import selectors
import time
from fractions import Fraction
from typing import Any

import pytest

from networkpype.exceptions import ConfigurationError, UnknownLimitError
from networkpype.throttler.context import AsyncRequestContext
from networkpype.throttler.rate_limit import LinkedLimitWeightPair, RateLimit
from networkpype.throttler.throttler import AsyncThrottler


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer when there is nothing else to do."""

    def __init__(self, start: float = 0.0) -> None:
        loop = self

        class Selector(selectors.DefaultSelector):
            def select(self, timeout: float | None = None) -> list[Any]:
                if timeout is None:
                    raise AssertionError("Everything waits, and no timer will ring.")
                if timeout > 0:
                    loop.now = loop._scheduled[0].when()
                    loop._clock_resolution = math.ulp(loop.now)
                return super().select(0)

        super().__init__(Selector())
        self.now = start

    def time(self) -> float:
        return self.now


@pytest.fixture
def virtual():
    """Run a coroutine in virtual time."""

    def run_in_virtual_time(coroutine, start=0.0):
        with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(start)) as runner:
            return runner.run(coroutine)

    return run_in_virtual_time


def one_limit(limit: int = 2, interval: float = 1.0, **arguments: Any) -> AsyncThrottler:
    arguments.setdefault("safety_margin_pct", 0.0)
    return AsyncThrottler([RateLimit("a", limit, interval)], **arguments)


def now() -> float:
    return asyncio.get_running_loop().time()


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def hold_and_refund(
    throttler: AsyncThrottler, limit_id: str = "a", **arguments: Any
) -> None:
    async with throttler.hold(limit_id, **arguments):
        pass


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


# -- contexts


def test_context_can_be_used_again_and_acquired_alone(virtual):
    async def main() -> None:
        context = one_limit(3).execute_task("a")
        assert isinstance(context, AsyncRequestContext)
        async with context as entered:
            assert entered is None
        await context.acquire()
        assert context.within_capacity()
        async with context:
            assert not context.within_capacity()
        await asyncio.sleep(1.0)
        context.flush()
        assert context.within_capacity()

    virtual(main())


def test_a_question_changes_nothing(virtual):
    async def main() -> None:
        throttler = one_limit(1)
        context = throttler.execute_task("a")
        assert context.within_capacity()
        assert throttler.estimate_wait("a") == 0.0
        assert context.within_capacity()
        assert throttler.try_acquire("a")
        assert not context.within_capacity()
        assert throttler.estimate_wait("a") == 1.0

    virtual(main())


def test_it_can_be_asked_without_a_running_loop():
    throttler = one_limit(1, 3600.0)
    context = throttler.execute_task("a")
    assert context.within_capacity()
    assert throttler.try_acquire("a")
    assert not context.within_capacity()
    context.flush()

    async def main() -> None:
        assert not throttler.try_acquire("a")

    asyncio.run(main())


def test_contexts_know_limits_that_were_set_after_them(virtual):
    async def main() -> None:
        throttler = one_limit(1)
        context = throttler.execute_task("a")
        throttler.rate_limits = [RateLimit("a", 2, 1.0, 2)]
        await context.acquire()
        assert not context.within_capacity()
        throttler.rate_limits = [RateLimit("b", 2, 1.0)]
        for ask in (context.within_capacity, context.flush):
            with pytest.raises(UnknownLimitError):
                ask()
        with pytest.raises(UnknownLimitError):
            await context.acquire()

    virtual(main())


def test_a_block_counts_also_when_it_raises(virtual):
    async def main() -> None:
        throttler = one_limit(1)
        with pytest.raises(KeyError):
            async with throttler.execute_task("a"):
                raise KeyError
        assert not throttler.try_acquire("a")

    virtual(main())


# -- holds


@pytest.mark.parametrize(
    ("how", "free_at"), [("count", 7.0), ("sent", 9.0), ("admission", 5.0), ("nothing", 4.0)]
)
def test_when_a_hold_counts(virtual, how, free_at):
    """Admitted at 0, response head at 2, left at 4, interval 5."""

    async def main() -> None:
        throttler = one_limit(1, 5.0)

        async def request() -> None:
            async with throttler.hold("a") as hold:
                if how != "nothing":
                    hold.mark_sent()
                await asyncio.sleep(2.0)
                if how == "count":
                    hold.count()
                    hold.mark_sent()
                if how == "admission":
                    hold.count_from_admission()
                await asyncio.sleep(2.0)

        async with asyncio.TaskGroup() as group:
            group.create_task(request())
            await turns()
            async with throttler.execute_task("a"):
                assert now() == free_at

    virtual(main())


def test_a_hold_that_is_counted_from_long_ago_is_free_at_once(virtual):
    async def main() -> None:
        throttler = one_limit(1, 1.0)
        async with throttler.hold("a") as hold:
            await asyncio.sleep(1.0)
            assert not throttler.try_acquire("a")
            hold.count_from_admission()
            assert throttler.try_acquire("a")

    virtual(main())


def test_holds_that_count_from_admission_take_their_place_in_time(virtual):
    async def main() -> None:
        throttler = one_limit(2, 5.0)
        async with throttler.hold("a") as hold:
            await asyncio.sleep(2.0)
            assert throttler.try_acquire("a")
            await asyncio.sleep(1.0)
            hold.count_from_admission()
        for moment in (5.0, 7.0):
            async with throttler.execute_task("a"):
                assert now() == moment

    virtual(main())


def test_a_hold_is_for_one_block(virtual):
    async def main() -> None:
        throttler = one_limit(5)
        hold = throttler.hold("a")
        for too_early in (hold.count, hold.mark_sent, hold.count_from_admission):
            with pytest.raises(RuntimeError, match="not admitted"):
                too_early()
        async with hold:
            pass
        with pytest.raises(RuntimeError, match="once"):
            await hold.__aenter__()

    virtual(main())


# -- cancellation


def test_cancelled_after_admission_and_before_its_turn(virtual):
    async def main() -> None:
        throttler = one_limit(1, 5.0)
        async with throttler.hold("a"):
            cancelled = asyncio.ensure_future(throttler.execute_task("a").acquire())
            next_one = asyncio.ensure_future(throttler.execute_task("a").acquire())
            await turns()
        # Left: `cancelled` is admitted, but has not had its turn.
        assert not throttler.try_acquire("a")
        cancelled.cancel()
        await next_one
        assert now() == 0.0
        assert cancelled.cancelled()

    virtual(main())


def test_the_first_in_the_queue_gives_up(virtual):
    async def main() -> None:
        throttler = AsyncThrottler(
            [
                RateLimit("heavy", 2, 5.0, 1, [LinkedLimitWeightPair("a", 2)]),
                RateLimit("a", 2, 5.0),
            ],
            safety_margin_pct=0.0,
        )
        assert throttler.try_acquire("a")
        heavy = asyncio.ensure_future(throttler.execute_task("heavy").acquire())
        await turns()
        light = asyncio.ensure_future(throttler.execute_task("a").acquire())
        await turns()
        assert not light.done()
        heavy.cancel()
        await light
        assert now() == 0.0

    virtual(main())


def test_those_who_gave_up_leave_nothing_behind(virtual):
    """Behind one that waits for days, thousands may come and give up."""

    async def main() -> int:
        throttler = one_limit(1, 1e6)
        assert throttler.try_acquire("a")
        stays = asyncio.ensure_future(throttler.execute_task("a").acquire())
        for _ in range(200):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(throttler.execute_task("a").acquire(), 1.0)
        gc.collect()
        count = sum(type(each).__name__ == "Waiter" for each in gc.get_objects())
        stays.cancel()
        return count

    assert virtual(main()) < 50


def test_closing_a_coroutine_that_waits_refunds(virtual):
    async def main() -> None:
        throttler = one_limit(1, 5.0)
        async with throttler.hold("a"):
            waiting = throttler.hold("a").__aenter__()
            waiting.send(None)
            waiting.close()
        assert throttler.try_acquire("a")

    virtual(main())


def test_a_waiter_admitted_on_arrival_does_not_yield(virtual):
    """An urgent request passes those who wait for more than there is."""

    async def main() -> None:
        throttler = AsyncThrottler(
            [
                RateLimit("heavy", 2, 5.0, 1, [LinkedLimitWeightPair("a", 2)]),
                RateLimit("a", 2, 5.0),
            ],
            safety_margin_pct=0.0,
        )
        assert throttler.try_acquire("a")
        heavy = asyncio.ensure_future(throttler.execute_task("heavy").acquire())
        await turns()
        assert not throttler.try_acquire("a")
        with pytest.raises(StopIteration):
            throttler.hold("a", priority=1).__aenter__().send(None)
        heavy.cancel()
        await turns()

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


# -- loops


def test_it_goes_on_in_a_new_loop():
    throttler = one_limit(2, 3600.0)

    async def main() -> bool:
        return throttler.try_acquire("a")

    assert [asyncio.run(main()) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("new_start", [0.0, 5000.0])
def test_a_new_clock_goes_on_where_the_old_one_stood(virtual, new_start):
    throttler = one_limit(1, 10.0)

    async def first() -> None:
        await asyncio.sleep(100.0)
        throttler.observe("a", 200, {"X-MBX-USED-WEIGHT-10S": "1"})
        await asyncio.sleep(4.0)

    async def second() -> float:
        await throttler.execute_task("a").acquire()
        return now() - new_start

    virtual(first())
    # Its clock was last read when the server answered.
    assert virtual(second(), new_start) == 10.0


def test_what_is_held_when_the_loop_dies_counts_from_then(virtual):
    throttler = one_limit(2, 10.0)
    holds = []

    async def first() -> None:
        for _ in range(2):
            hold = throttler.hold("a")
            await hold.__aenter__()
            holds.append(hold)

    async def second() -> None:
        assert not throttler.try_acquire("a")
        # Settled by the change of the loop.
        holds[0].count()
        await holds[1].__aexit__(None, None, None)
        assert not throttler.try_acquire("a")
        await throttler.execute_task("a").acquire()
        assert now() == 10.0

    virtual(first())
    virtual(second())


def test_waiters_of_a_dead_loop_are_forgotten():
    throttler = one_limit(1, 10.0)
    loop = VirtualTimeLoop()
    waiting = throttler.execute_task("a").acquire()

    async def first() -> None:
        assert throttler.try_acquire("a")
        waiting.send(None)

    loop.run_until_complete(first())
    loop.close()

    async def second() -> None:
        await throttler.execute_task("a").acquire()
        waiting.close()
        await asyncio.sleep(10.0)
        assert throttler.try_acquire("a")

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(second())


def test_closing_a_waiter_after_its_loop_is_harmless():
    throttler = one_limit(1, 10.0)
    loop = VirtualTimeLoop()
    waiting = [throttler.execute_task("a").acquire() for _ in range(2)]

    async def first() -> None:
        assert throttler.try_acquire("a")
        for each in waiting:
            each.send(None)

    loop.run_until_complete(first())
    loop.close()
    for each in waiting:
        each.close()


def test_two_living_loops_are_refused():
    throttler = one_limit(1, 10.0)
    loops = [VirtualTimeLoop(), VirtualTimeLoop()]
    waiting = throttler.execute_task("a").acquire()

    async def first() -> None:
        assert throttler.try_acquire("a")
        waiting.send(None)

    async def second() -> bool:
        return throttler.try_acquire("a")

    try:
        loops[0].run_until_complete(first())
        with pytest.raises(ConfigurationError, match="another event loop"):
            loops[1].run_until_complete(second())
        waiting.close()
        # Nobody waits in the first one any more.
        assert not loops[1].run_until_complete(second())
    finally:
        for loop in loops:
            loop.close()


def test_windows_hold_on_a_loop_with_a_coarse_clock():
    """uvloop rounds its clock down to milliseconds; real time must be kept all the same."""
    uvloop = pytest.importorskip("uvloop")

    async def keep_busy() -> None:
        # A loop with something to do asks for the time more often than every millisecond.
        while True:
            await asyncio.sleep(0)

    async def main() -> None:
        busy = asyncio.ensure_future(keep_busy())
        for _ in range(5):
            throttler = one_limit(1, 0.01)
            # Late in a millisecond the rounding is worth most.
            while time.monotonic() % 0.001 < 0.0007:
                pass
            before = time.monotonic()
            await throttler.execute_task("a").acquire()
            await throttler.execute_task("a").acquire()
            assert time.monotonic() - before >= 0.01
        busy.cancel()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_a_timer_that_is_early_neither_spins_nor_admits():
    class EarlyLoop(VirtualTimeLoop):
        rings = 0

        def call_at(self, when, callback, *arguments, context=None):
            self.rings += 1
            return super().call_at(when - 0.0004, callback, *arguments, context=context)

    async def main() -> tuple[float, int]:
        loop = asyncio.get_running_loop()
        throttler = one_limit(1, 1.0)
        assert throttler.try_acquire("a")
        await throttler.execute_task("a").acquire()
        return loop.time(), loop.rings

    with asyncio.Runner(loop_factory=EarlyLoop) as runner:
        moment, rings = runner.run(main())
    assert 1.0 <= moment <= 1.002
    assert rings == 2


def test_nobody_waiting_means_no_timer(virtual):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        throttler = one_limit(1, 3600.0)
        assert throttler.try_acquire("a")
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(throttler.execute_task("a").acquire(), 1.0)
        assert [handle for handle in loop._scheduled if not handle.cancelled()] == []

    virtual(main())
