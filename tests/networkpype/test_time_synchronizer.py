"""The clock of a server."""

import asyncio
import inspect
import itertools
import math
import statistics
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from networkpype.exceptions import ConfigurationError
from networkpype.time_synchronizer import TimeSynchronizer


class Clocks:
    """A monotonic clock and a wall clock, moved by hand."""

    def __init__(self) -> None:
        self.monotonic = 1000.0
        self.wall = 1_700_000_000.0

    def pass_time(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds

    def synchronizer(self, *positional, **options) -> TimeSynchronizer:
        return TimeSynchronizer(
            *positional, clock=lambda: self.monotonic, wall_clock=lambda: self.wall, **options
        )


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def test_without_samples_it_is_the_local_clock(clocks):
    synchronizer = clocks.synchronizer()
    assert synchronizer.time() == clocks.wall
    assert synchronizer.time_offset_ms == (clocks.wall - clocks.monotonic) * 1000
    # Also when somebody sets it.
    clocks.wall -= 500.0
    assert synchronizer.time() == clocks.wall
    real = TimeSynchronizer()
    before = time.time()
    assert before - 1 <= real.time() <= time.time() + 1


@pytest.mark.parametrize(
    ("samples", "offset"),
    [
        ([5.0], 5.0),
        ([5.0, 50.0], 33.125),
        # The oldest of four is gone. What networkpype 1.1.5 gives for the same.
        ([5.0, 50.0, 7.0, 9.0], 10.944444444444445),
    ],
)
def test_offset_is_the_mean_of_median_and_weighted_average(clocks, samples, offset):
    synchronizer = clocks.synchronizer(3)
    for sample in samples:
        synchronizer.add_time_offset_ms_sample(sample)
    assert synchronizer.time_offset_ms == pytest.approx(offset, rel=1e-14)
    assert synchronizer.time() == pytest.approx(clocks.monotonic + offset / 1000, rel=1e-14)
    synchronizer.clear_time_offset_ms_samples()
    assert synchronizer.time() == clocks.wall


@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=12), st.integers(1, 7))
def test_offset_follows_the_formula(samples, max_samples):
    synchronizer = TimeSynchronizer(max_samples)
    for sample in samples:
        synchronizer.add_time_offset_ms_sample(sample)
    kept = samples[-max_samples:]
    weights = range(1, 2 * len(kept), 2)
    weighted = sum(w * s for w, s in zip(weights, kept, strict=True)) / sum(weights)
    expected = (statistics.median(kept) + weighted) / 2
    assert synchronizer.time_offset_ms == pytest.approx(expected, rel=1e-9, abs=1e-3)


def test_a_sample_is_measured_from_the_middle_of_the_round_trip(clocks):
    async def server_time() -> float:
        clocks.pass_time(0.2)
        server_ms = 5_000_000.0
        clocks.pass_time(0.4)
        return server_ms

    synchronizer = clocks.synchronizer()
    asyncio.run(synchronizer.update_server_time_offset_with_time_provider(server_time()))
    assert synchronizer.time_offset_ms == 5_000_000.0 - 1_000_300.0
    assert synchronizer.time() == pytest.approx(5000.3)


def test_errors_of_the_provider_are_logged_and_raised(clocks, caplog):
    async def broken() -> float:
        raise OSError("no route")

    async def nothing() -> float:
        return math.nan

    synchronizer = clocks.synchronizer()
    for provider, error in ((broken, OSError), (nothing, ValueError)):
        caplog.clear()
        with pytest.raises(error):
            asyncio.run(synchronizer.update_server_time_offset_with_time_provider(provider()))
        assert error.__name__ in caplog.text
    assert synchronizer.time() == clocks.wall


def test_a_cancellation_is_not_logged(clocks, caplog):
    async def main() -> None:
        synchronizer = clocks.synchronizer()
        waiting = asyncio.Event().wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(
                synchronizer.update_server_time_offset_with_time_provider(waiting), 0.01
            )

    asyncio.run(main())
    assert caplog.text == ""


def test_only_the_first_of_many_asks_the_server(clocks):
    asked = []

    async def server_time(name: str) -> float:
        asked.append(name)
        await asyncio.sleep(0)
        if name == "broken":
            raise OSError(name)
        return 5.0

    async def main() -> list[object]:
        synchronizer = clocks.synchronizer()
        names = ["broken", "first", "second", "third"]
        outcomes = await asyncio.gather(
            *(synchronizer.update_server_time_if_not_initialized(server_time(n)) for n in names),
            return_exceptions=True,
        )
        await synchronizer.update_server_time_if_not_initialized(server_time("late"))
        future = asyncio.get_running_loop().create_future()
        await synchronizer.update_server_time_if_not_initialized(future)
        assert not future.done()
        return outcomes

    outcomes = asyncio.run(main())
    assert [type(outcome) for outcome in outcomes] == [OSError, *[type(None)] * 3]
    assert asked == ["broken", "first"]


def test_a_provider_that_is_not_needed_is_closed(clocks):
    """Else Python warns that it was never awaited, also after a cancellation in the queue."""
    coroutines = []

    async def main() -> None:
        synchronizer = clocks.synchronizer()
        never = asyncio.get_running_loop().create_future()

        async def server_time() -> float:
            return await never

        def start() -> asyncio.Task[None]:
            coroutines.append(server_time())
            update = synchronizer.update_server_time_if_not_initialized(coroutines[-1])
            return asyncio.ensure_future(update)

        tasks = [start(), start()]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(tasks[1], return_exceptions=True)
        never.set_result(5.0)
        await tasks[0]
        await start()

    asyncio.run(main())
    assert {inspect.getcoroutinestate(each) for each in coroutines} == {inspect.CORO_CLOSED}


def test_it_serves_one_loop_after_the_other(clocks):
    synchronizer = clocks.synchronizer()

    async def fail() -> float:
        await asyncio.sleep(0)
        raise OSError

    async def main() -> None:
        updates = (synchronizer.update_server_time_if_not_initialized(fail()) for _ in range(3))
        outcomes = await asyncio.gather(*updates, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [OSError] * 3

    asyncio.run(main())
    asyncio.run(main())


# -- options


def test_best_round_trips_are_kept_in_their_order(clocks):
    synchronizer = clocks.synchronizer(4, best_rtt_samples=2)
    for offset, rtt_ms in ((1.0, 900.0), (10.0, 20.0), (500.0, 800.0), (20.0, 10.0)):
        synchronizer.add_time_offset_ms_sample(offset, rtt_ms=rtt_ms)
    # 10 and 20, with weights 1 and 3.
    assert synchronizer.time_offset_ms == (15.0 + 17.5) / 2
    # Of unknown round trip: worse than any.
    synchronizer.add_time_offset_ms_sample(7000.0)
    assert synchronizer.time_offset_ms == (15.0 + 17.5) / 2


def test_among_equal_round_trips_the_newer_count(clocks):
    synchronizer = clocks.synchronizer(4, best_rtt_samples=2)
    for offset in (100.0, 200.0, 10.0, 20.0):
        synchronizer.add_time_offset_ms_sample(offset)
    assert synchronizer.time_offset_ms == (15.0 + 17.5) / 2


def test_round_trips_are_measured(clocks):
    synchronizer = clocks.synchronizer(3, best_rtt_samples=1)

    async def server_time(seconds: float, offset_ms: float) -> float:
        middle = clocks.monotonic + seconds / 2
        clocks.pass_time(seconds)
        return middle * 1000 + offset_ms

    for seconds, offset_ms in ((0.5, 1.0), (0.125, 2.0), (0.25, 3.0)):
        provider = server_time(seconds, offset_ms)
        asyncio.run(synchronizer.update_server_time_offset_with_time_provider(provider))
    assert synchronizer.time_offset_ms == 2.0


def test_slewing_glides_from_one_estimate_to_the_next(clocks):
    synchronizer = clocks.synchronizer(1, max_slew_ms_per_second=10.0)
    synchronizer.add_time_offset_ms_sample(1000.0)
    assert synchronizer.time_offset_ms == 1000.0
    synchronizer.add_time_offset_ms_sample(1100.0)
    for gone, offset in ((0.0, 1000.0), (4.0, 1040.0), (5.0, 1090.0), (5.0, 1100.0)):
        clocks.pass_time(gone)
        assert synchronizer.time_offset_ms == pytest.approx(offset)
        assert synchronizer.time() == pytest.approx(clocks.monotonic + offset / 1000)
    # Turned round halfway.
    synchronizer.add_time_offset_ms_sample(1000.0)
    clocks.pass_time(2.0)
    synchronizer.add_time_offset_ms_sample(2000.0)
    assert synchronizer.time_offset_ms == pytest.approx(1080.0)
    clocks.pass_time(1.0)
    assert synchronizer.time_offset_ms == pytest.approx(1090.0)
    # The first sample after a clear is taken at once.
    synchronizer.clear_time_offset_ms_samples()
    synchronizer.add_time_offset_ms_sample(5.0)
    assert synchronizer.time_offset_ms == 5.0


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0.0, 100.0)), min_size=2, max_size=20))
def test_slewed_time_never_goes_back(steps):
    clocks = Clocks()
    synchronizer = clocks.synchronizer(max_slew_ms_per_second=999.0)
    synchronizer.add_time_offset_ms_sample(0.0)
    moments = []
    for offset, seconds in steps:
        synchronizer.add_time_offset_ms_sample(offset)
        moments.append(synchronizer.time())
        clocks.pass_time(seconds)
        moments.append(synchronizer.time())
    # A float of this size has steps of less than 1e-9.
    assert all(later >= earlier - 1e-9 for earlier, later in itertools.pairwise(moments))


@pytest.mark.parametrize(
    "options",
    [
        {"max_samples": 0},
        {"best_rtt_samples": 0},
        {"best_rtt_samples": 6},
        {"max_slew_ms_per_second": 0.0},
        {"max_slew_ms_per_second": 1000.0},
        {"max_slew_ms_per_second": math.nan},
    ],
)
def test_options_out_of_range_raise(options):
    with pytest.raises(ConfigurationError):
        TimeSynchronizer(**options)


@pytest.mark.parametrize("offset", [math.nan, math.inf])
def test_a_sample_must_be_a_number(clocks, offset):
    synchronizer = clocks.synchronizer()
    with pytest.raises(ValueError, match="finite"):
        synchronizer.add_time_offset_ms_sample(offset)
    assert synchronizer.time() == clocks.wall


def test_numpy_is_not_needed():
    assert "numpy" not in sys.modules
