"""Contexts and holds: when a request is counted, and when it is refunded."""

import asyncio

import pytest
from throttlers import now, one_limit, turns

from networkpype.exceptions import UnknownLimitError
from networkpype.throttler.context import AsyncRequestContext
from networkpype.throttler.rate_limit import RateLimit

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
