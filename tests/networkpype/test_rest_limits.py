"""Limits as the server sees them."""

import asyncio
import random
import time
from collections.abc import Sequence

import aiohttp
import pytest
from aiohttp import web

from networkpype.exceptions import ConnectError, DeadlineExceeded
from networkpype.factory import ConnectionManagersFactory
from networkpype.rest.connection import RESTConnection
from networkpype.rest.manager import RESTManager
from networkpype.rest.method import RESTMethod
from networkpype.rest.processor.base import RESTPostProcessor
from networkpype.rest.request import RESTRequest
from networkpype.rest.response import RESTResponse
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler


def most_in_a_window(arrivals: Sequence[float], interval: float) -> int:
    """Return how many arrivals the fullest half-open window of `interval` seconds has."""
    ordered = sorted(arrivals)
    most = first = 0
    for last, arrival in enumerate(ordered):
        while arrival - ordered[first] >= interval:
            first += 1
        most = max(most, last - first + 1)
    return most


def test_the_oracle_counts_windows():
    assert most_in_a_window([0.0, 0.5, 0.99], 1.0) == 3
    assert most_in_a_window([0.0, 0.5, 1.0], 1.0) == 2
    assert most_in_a_window([], 1.0) == 0


@pytest.mark.slow
def test_stalls_never_let_more_than_the_limit_into_a_window(run, serve):
    """Requests stall on their way, so that one window's arrive together with the next one's.

    The times are those at which the server takes a request up, on its own clock. networkpype
    1.1.5, which counts from admission, lets 18 of 10 through.
    """
    limit, interval, stall_s = 10, 1.0, 0.95
    arrivals: list[float] = []
    answered = []
    dice = random.Random(1)

    async def counted(_request: web.Request) -> web.Response:
        # The stall is the way through the network, and ends with the server's own stamp.
        if dice.random() < 0.6:
            await asyncio.sleep(stall_s)
        arrivals.append(time.monotonic())
        return web.json_response({})

    async def main() -> None:
        throttler = AsyncThrottler([RateLimit("x", limit, interval)], safety_margin_pct=0.0)
        async with (
            serve({"/x": counted}) as server,
            ConnectionManagersFactory(throttler) as factory,
        ):
            managers = [await factory.get_rest_manager() for _ in range(3)]

            async def fetch(number: int) -> None:
                manager = managers[number % 3]
                await manager.execute_request(server.url("/x"), "x", timeout=50)
                answered.append(number)

            await asyncio.gather(*(fetch(number) for number in range(3 * limit)))

    run(main())
    assert len(answered) == len(arrivals) == 3 * limit
    assert most_in_a_window(arrivals, interval) <= limit


def test_what_was_never_sent_is_refunded(run, serve, unused_port):
    async def main() -> None:
        throttler = AsyncThrottler([RateLimit("x", 1, 3600.0)], safety_margin_pct=0.0)
        async with serve() as server, ConnectionManagersFactory(throttler) as factory:
            manager = await factory.get_rest_manager()
            for _ in range(3):
                with pytest.raises(ConnectError):
                    await manager.execute_request(f"http://127.0.0.1:{unused_port}/", "x")
            await manager.execute_request(server.url(), "x", timeout=30)

    run(main())


def test_what_was_sent_and_not_answered_counts(run, serve):
    async def main() -> None:
        gate = asyncio.Event()

        async def stall(_request: web.Request) -> web.Response:
            await gate.wait()
            return web.Response()

        throttler = AsyncThrottler([RateLimit("x", 1, 3600.0)], safety_margin_pct=0.0)
        async with (
            serve({"/stall": stall}) as server,
            ConnectionManagersFactory(throttler) as factory,
        ):
            manager = await factory.get_rest_manager()
            for _ in range(2):
                with pytest.raises(DeadlineExceeded):
                    await manager.execute_request(server.url("/stall"), "x", timeout=0.1)
            with pytest.raises(DeadlineExceeded):
                await manager.execute_request(server.url(), "x", timeout=0.1)
            assert server.seen == []
            gate.set()

    run(main())


def test_on_a_session_of_the_callers_whatever_may_have_been_sent_counts(run, serve):
    async def main() -> None:
        gate = asyncio.Event()

        async def stall(_request: web.Request) -> web.Response:
            await gate.wait()
            return web.Response()

        throttler = AsyncThrottler([RateLimit("x", 1, 3600.0)], safety_margin_pct=0.0)
        async with serve({"/stall": stall}) as server, aiohttp.ClientSession() as session:
            manager = RESTManager(RESTConnection(session), throttler)
            with pytest.raises(DeadlineExceeded):
                await manager.execute_request(server.url("/stall"), "x", timeout=0.1)
            with pytest.raises(DeadlineExceeded):
                await manager.execute_request(server.url(), "x", timeout=0.1)
            assert server.seen == []
            gate.set()

    run(main())


def test_a_request_counts_from_its_head_however_long_the_post_processors_take(run, serve):
    class Slow(RESTPostProcessor):
        async def post_process(self, response: RESTResponse) -> RESTResponse:
            if response.url.endswith("/slow"):
                reached.set()
                await gate.wait()
            return response

    reached, gate = asyncio.Event(), asyncio.Event()

    async def main() -> None:
        throttler = AsyncThrottler([RateLimit("x", 1, 0.05)], safety_margin_pct=0.0)
        factory = ConnectionManagersFactory(throttler, rest_post_processors=[Slow()])
        async with serve() as server, factory:
            manager = await factory.get_rest_manager()
            slow = asyncio.create_task(manager.execute_request(server.url("/slow"), "x"))
            await reached.wait()
            await manager.execute_request(server.url(), "x", timeout=30)
            gate.set()
            await slow

    run(main())


@pytest.mark.slow
def test_a_long_poll_counts_from_its_admission(run, serve):
    async def main() -> None:
        gate, polled = asyncio.Event(), asyncio.Event()

        async def poll(_request: web.Request) -> web.Response:
            polled.set()
            await gate.wait()
            return web.json_response({})

        throttler = AsyncThrottler([RateLimit("x", 1, 0.2)], safety_margin_pct=0.0)
        async with serve({"/poll": poll}) as server, ConnectionManagersFactory(throttler) as f:
            manager = await f.get_rest_manager()
            url = server.url("/poll")
            for count_from in ("admission", "response"):
                polled.clear()
                gate.clear()
                task = asyncio.create_task(
                    manager.execute_request(url, "x", count_from=count_from)
                )
                await polled.wait()
                request = RESTRequest(RESTMethod.GET, server.url(), throttler_limit_id="x")
                if count_from == "admission":
                    # Another one goes although the poll still hangs.
                    await (await manager.call(request, timeout=30)).read()
                else:
                    with pytest.raises(DeadlineExceeded):
                        await manager.call(request, timeout=0.5)
                gate.set()
                await task

    run(main())


def test_priority_decides_who_is_next(run, serve):
    async def main() -> None:
        throttler = AsyncThrottler([RateLimit("x", 1, 0.05)], safety_margin_pct=0.0)
        async with serve() as server, ConnectionManagersFactory(throttler) as factory:
            manager = await factory.get_rest_manager()
            await manager.execute_request(server.url("/first"), "x")

            async def fetch(path: str, priority: int) -> None:
                await manager.execute_request(server.url(path), "x", priority=priority)

            await asyncio.gather(fetch("/low", 0), fetch("/high", 5), fetch("/middle", 3))
            paths = [seen["path"] for seen in server.seen]
            assert paths == ["/first", "/high", "/middle", "/low"]

    run(main())


def test_a_429_freezes_the_limit_for_as_long_as_the_server_says(run, serve):
    async def main() -> None:
        async def busy(_request: web.Request) -> web.Response:
            return web.Response(status=429, headers={"Retry-After": "3600"})

        throttler = AsyncThrottler([RateLimit("x", 1000, 1.0)], safety_margin_pct=0.0)
        async with (
            serve({"/busy": busy}) as server,
            ConnectionManagersFactory(throttler) as factory,
        ):
            manager = await factory.get_rest_manager()
            with pytest.raises(OSError, match="429"):
                await manager.execute_request(server.url("/busy"), "x")
            with pytest.raises(DeadlineExceeded):
                await manager.execute_request(server.url(), "x", timeout=0.1)
            assert server.seen == []

    run(main())
