"""Who goes first: a request goes when it is due, or before if that moves no due time before it."""

import asyncio
import random

import pytest
from throttlers import now, turns

from networkpype.throttler.rate_limit import LinkedLimitWeightPair, RateLimit
from networkpype.throttler.throttler import AsyncThrottler


def limit(limit_id: str, count: int, interval: float, **links: int) -> RateLimit:
    pairs = [LinkedLimitWeightPair(linked_id, weight) for linked_id, weight in links.items()]
    return RateLimit(limit_id, count, interval, 1, pairs)


def make(*limits: RateLimit) -> AsyncThrottler:
    return AsyncThrottler(limits, safety_margin_pct=0.0)


DAY = 86_400.0


@pytest.mark.parametrize(
    ("limits", "blocked", "free"),
    [
        ([limit("order", 99, 10.0, weight=1, day=1), limit("cancel", 99, 10.0, weight=1)], 5, 1),
        ([limit("order", 99, 10.0, weight=4, day=1), limit("cancel", 99, 10.0, weight=9)], 1, 5),
        ([limit("order", 99, DAY, day=1, weight=1), limit("cancel", 99, 1.0, weight=1)], 40, 20),
    ],
)
@pytest.mark.parametrize("how", ["acquire", "hold", "try"])
def test_an_exhausted_limit_does_not_hold_up_those_who_do_not_use_it(
    virtual, limits, blocked, free, how
):
    async def main() -> None:
        throttler = make(*limits, limit("weight", 60, 60.0), limit("day", 3, DAY))
        for _ in range(3):
            assert throttler.try_acquire("order")
        await asyncio.sleep(100.0)
        orders = [asyncio.ensure_future(throttler.execute_task("order").acquire())]
        orders += [
            asyncio.ensure_future(throttler.hold("order").__aenter__()) for _ in range(blocked)
        ]
        await turns()
        for _ in range(free):
            assert throttler.estimate_wait("cancel") == 0.0
            if how == "acquire":
                await throttler.execute_task("cancel").acquire()
            elif how == "hold":
                async with throttler.hold("cancel") as hold:
                    hold.count()
            else:
                assert throttler.try_acquire("cancel")
        assert now() == 100.0
        await orders[0]
        assert now() == DAY
        for order in orders:
            order.cancel()

    virtual(main())


@pytest.mark.parametrize(
    ("sizes", "needs"),
    [((1, 1), (1, 1)), ((5, 3), (1, 1)), ((5, 3), (5, 3)), ((4, 1), (2, 1))],
)
@pytest.mark.parametrize("seed", range(3))
def test_nobody_starves_beside_endless_requests_for_one_limit_each(virtual, sizes, needs, seed):
    """Each of the two limits is nearly always full, and seldom both have room at once."""

    async def main() -> float:
        chance = random.Random(seed)
        throttler = make(
            limit("both", 99, 1.0, a=needs[0], b=needs[1]),
            limit("a", sizes[0], 1.0),
            limit("b", sizes[1], 1.7),
        )

        async def flood(limit_id: str) -> None:
            while True:
                await throttler.execute_task(limit_id).acquire()
                await asyncio.sleep(chance.uniform(0.0, 0.1))

        floods = [asyncio.ensure_future(flood(each)) for each in "abababab"]
        await asyncio.sleep(chance.uniform(5.0, 10.0))
        arrived, seconds = now(), throttler.estimate_wait("both")
        await throttler.execute_task("both").acquire()
        for each in floods:
            each.cancel()
        assert now() == pytest.approx(arrived + seconds)
        return now() - arrived

    # Those who came before it may take a window each.
    assert virtual(main()) <= 15.0


@pytest.mark.parametrize("seed", range(10))
def test_a_due_time_never_moves_later_whatever_arrives(virtual, seed):
    async def main() -> None:
        chance = random.Random(seed)
        throttler = make(
            limit("x", 7, 3.0, all=1),
            limit("y", 4, 1.3, all=3),
            limit("z", 5, 2.1, x=2),
            limit("all", 12, 4.0),
        )
        late = []

        async def consume(limit_id: str) -> None:
            due = now() + throttler.estimate_wait(limit_id)
            await throttler.execute_task(limit_id).acquire()
            if now() > due + 1e-9:
                late.append((limit_id, due, now()))

        async with asyncio.TaskGroup() as group:
            for _ in range(150):
                group.create_task(consume(chance.choice(["x", "y", "z", "all"])))
                await asyncio.sleep(chance.choice([0.0, 0.1, 0.3, 1.0]))
        assert late == []

    virtual(main())


def test_a_light_request_goes_before_a_heavy_one_that_it_does_not_delay(virtual):
    async def main() -> list[tuple[str, float]]:
        throttler = make(limit("heavy", 9, 10.0, total=6), limit("total", 10, 10.0))
        admitted = []

        async def consume(limit_id: str) -> None:
            await throttler.execute_task(limit_id).acquire()
            admitted.append((limit_id, now()))

        for _ in range(7):
            assert throttler.try_acquire("total")
        async with asyncio.TaskGroup() as group:
            await asyncio.sleep(1.0)
            group.create_task(consume("heavy"))
            # Due at 10: 4 of 10 are free then for others, of which 3 are free now.
            for _ in range(5):
                group.create_task(consume("total"))
        return admitted

    assert virtual(main()) == [
        ("total", 1.0),
        ("total", 1.0),
        ("total", 1.0),
        ("heavy", 10.0),
        ("total", 10.0),
        ("total", 11.0),
    ]


def test_a_pause_of_one_limit_frees_those_who_waited_for_it(virtual):
    """A waiter that is due later than before is no longer in the way."""

    async def main() -> None:
        throttler = make(limit("both", 9, 1.0, a=1, b=1), limit("a", 1, 1.0), limit("b", 1, 1.0))
        assert throttler.try_acquire("a")
        await asyncio.sleep(0.5)
        both = asyncio.ensure_future(throttler.execute_task("both").acquire())
        await turns()
        b = asyncio.ensure_future(throttler.execute_task("b").acquire())
        await turns()
        assert not b.done()
        throttler.observe("a", 429, {"Retry-After": "30"})
        await b
        assert now() == 0.5
        await both
        assert now() == 30.5

    virtual(main())


def test_thousands_can_be_cancelled_at_once(virtual):
    async def main() -> int:
        throttler = make(limit("a", 1, 1e6))
        assert throttler.try_acquire("a")
        waiting = [
            asyncio.ensure_future(throttler.execute_task("a").acquire()) for _ in range(5_000)
        ]
        await turns()
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return len(asyncio.get_running_loop().pending_timers())

    assert virtual(main()) == 0
