"""The admission queue: cancellation, changes of loops and clocks, timers."""

import asyncio
import gc
import time

import pytest
from throttlers import VirtualTimeLoop, now, one_limit, turns

from networkpype.exceptions import ConfigurationError
from networkpype.throttler.rate_limit import LinkedLimitWeightPair, RateLimit
from networkpype.throttler.throttler import AsyncThrottler

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
        await asyncio.sleep(1.0)
        light = asyncio.ensure_future(throttler.execute_task("a").acquire())
        await turns()
        assert not light.done()
        heavy.cancel()
        await light
        assert now() == 1.0

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
        await asyncio.sleep(1.0)
        assert not throttler.try_acquire("a")
        with pytest.raises(StopIteration):
            throttler.hold("a", priority=1).__aenter__().send(None)
        heavy.cancel()
        await turns()

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
        assert loop.pending_timers() == []

    virtual(main())
