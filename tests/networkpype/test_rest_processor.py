"""Pre-processors and post-processors."""

import asyncio
import gc

import pytest
from aiohttp import web

from networkpype.exceptions import DeadlineExceeded
from networkpype.factory import ConnectionManagersFactory
from networkpype.rest.method import RESTMethod
from networkpype.rest.processor.base import RESTPostProcessor, RESTPreProcessor
from networkpype.rest.processor.time_synchronizer import TimeSynchronizerRESTPreProcessor
from networkpype.rest.request import RESTRequest
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler
from networkpype.time_synchronizer import TimeSynchronizer


def test_both_bases_are_abstract():
    with pytest.raises(TypeError, match="pre_process"):
        RESTPreProcessor()
    with pytest.raises(TypeError, match="post_process"):
        RESTPostProcessor()


class Provider:
    """A time provider that is let go on by hand."""

    def __init__(self) -> None:
        self.calls = 0
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> float:
        self.calls += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return 1_700_000_000_000.0


REQUEST = RESTRequest(RESTMethod.GET, "http://h/")


def test_requests_that_come_together_wait_for_one_sample():
    async def main() -> None:
        provider, synchronizer = Provider(), TimeSynchronizer()
        processor = TimeSynchronizerRESTPreProcessor(synchronizer, provider)
        tasks = [asyncio.create_task(processor.pre_process(REQUEST)) for _ in range(5)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)
        provider.gate.set()
        assert [await task for task in tasks] == [REQUEST] * 5
        await processor.pre_process(REQUEST)
        assert provider.calls == 1
        assert abs(synchronizer.time() - 1_700_000_000) < 60

    asyncio.run(main())


def test_one_that_is_cancelled_leaves_the_sample_to_the_others():
    async def main() -> None:
        provider = Provider()
        processor = TimeSynchronizerRESTPreProcessor(TimeSynchronizer(), provider)
        first, second = (asyncio.create_task(processor.pre_process(REQUEST)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        provider.gate.set()
        assert await second is REQUEST
        assert provider.calls == 1

    asyncio.run(main())


def test_an_error_that_nobody_waits_for_any_more_is_not_reported_by_asyncio():
    async def main() -> None:
        reported: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, info: reported.append(info))
        provider = Provider()
        provider.error = LookupError("down")
        processor = TimeSynchronizerRESTPreProcessor(TimeSynchronizer(), provider)
        task = asyncio.create_task(processor.pre_process(REQUEST))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        provider.gate.set()
        for _ in range(5):
            await asyncio.sleep(0)
        del processor, task
        provider.error = None
        gc.collect()
        assert (provider.calls, reported) == (1, [])

    asyncio.run(main())


def test_an_error_of_the_provider_reaches_all_that_wait_and_the_next_tries_anew():
    async def main() -> None:
        provider = Provider()
        provider.error = LookupError("down")
        provider.gate.set()
        processor = TimeSynchronizerRESTPreProcessor(TimeSynchronizer(), provider)
        results = await asyncio.gather(
            *(processor.pre_process(REQUEST) for _ in range(3)), return_exceptions=True
        )
        assert results == [provider.error] * 3
        provider.error = None
        assert await processor.pre_process(REQUEST) is REQUEST
        assert provider.calls == 2

    asyncio.run(main())


@pytest.mark.parametrize("limit", [1, 3])
def test_a_provider_that_uses_the_same_manager_does_not_deadlock(run, serve, limit):
    """Also when the requests that wait could hold the capacity that the provider needs."""

    async def main() -> None:
        async def clock(_request: web.Request) -> web.Response:
            clock_requests.append(1)
            return web.json_response({"time": 1_700_000_000_000})

        clock_requests: list[int] = []
        async with serve({"/time": clock}) as server:

            async def fetch_server_time() -> float:
                answer = await manager.execute_request(server.url("/time"), "any")
                return float(answer["time"])

            synchronizer = TimeSynchronizer()
            throttler = AsyncThrottler([RateLimit("any", limit, 0.05)], safety_margin_pct=0.0)
            processor = TimeSynchronizerRESTPreProcessor(synchronizer, fetch_server_time)
            factory = ConnectionManagersFactory(
                throttler, rest_pre_processors=[processor], time_synchronizer=synchronizer
            )
            async with factory:
                manager = await factory.get_rest_manager()
                await asyncio.gather(
                    *(manager.execute_request(server.url(), "any", timeout=30) for _ in range(4))
                )
            assert (len(clock_requests), len(server.seen)) == (1, 4)
            assert abs(synchronizer.time() - 1_700_000_000) < 60

    run(main())


def test_a_sample_that_does_not_come_ends_with_the_deadline(run, serve):
    async def main() -> None:
        provider = Provider()
        processor = TimeSynchronizerRESTPreProcessor(TimeSynchronizer(), provider)
        throttler = AsyncThrottler([RateLimit("any", 1, 60.0)])
        async with (
            serve() as server,
            ConnectionManagersFactory(throttler, rest_pre_processors=[processor]) as factory,
        ):
            manager = await factory.get_rest_manager()
            with pytest.raises(DeadlineExceeded):
                await manager.execute_request(server.url(), "any", timeout=0.02)
            provider.gate.set()
            await manager.execute_request(server.url(), "any", timeout=30)
            assert (provider.calls, len(server.seen)) == (1, 1)

    run(main())


def test_it_works_in_one_loop_after_the_other():
    provider_calls: list[int] = []

    async def provider() -> float:
        provider_calls.append(1)
        if len(provider_calls) == 1:
            await asyncio.Event().wait()
        return 0.0

    async def abandon(processor: TimeSynchronizerRESTPreProcessor) -> None:
        task = asyncio.create_task(processor.pre_process(REQUEST))
        await asyncio.sleep(0)
        task.cancel()

    processor = TimeSynchronizerRESTPreProcessor(TimeSynchronizer(), provider)
    # Unlike asyncio.run(), this leaves the task as it is, pending for ever.
    loop = asyncio.new_event_loop()
    loop.run_until_complete(abandon(processor))
    loop.close()
    assert asyncio.run(processor.pre_process(REQUEST)) is REQUEST
    assert len(provider_calls) == 2


def test_samples_that_are_cleared_are_taken_anew():
    """1.1 asked the synchronizer, not a flag of its own."""
    asked = []

    async def server_time():
        asked.append(1)
        return 1000.0

    async def main():
        synchronizer = TimeSynchronizer()
        processor = TimeSynchronizerRESTPreProcessor(synchronizer, server_time)
        for _ in range(2):
            await processor.before_admission()
        synchronizer.clear_time_offset_ms_samples()
        await processor.before_admission()

    asyncio.run(main())
    assert len(asked) == 2
