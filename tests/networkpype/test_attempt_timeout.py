"""An attempt that hangs leaves time for the next one."""

import asyncio

import pytest
from aiohttp import web

from networkpype.exceptions import AttemptTimeoutError, ConfigurationError, DeadlineExceeded
from networkpype.factory import ConnectionManagersFactory
from networkpype.rest.method import RESTMethod
from networkpype.rest.request import RESTRequest
from networkpype.retry import RetryPolicy
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler

pytestmark = pytest.mark.slow


class Hanging:
    """Hang in the head or in the body so many times, then answer."""

    def __init__(self, times, where):
        self.times = times
        self.where = where
        self.calls = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.calls += 1
        if self.calls > self.times:
            return web.json_response({"call": self.calls})
        if self.where == "body":
            response = web.StreamResponse(headers={"Content-Length": "100"})
            await response.prepare(request)
            await response.write(b"[")
        await asyncio.sleep(30)
        raise AssertionError("The client has waited.")


def make_factory(**policy) -> ConnectionManagersFactory:
    policy = {
        "max_attempts": 3,
        "backoff_seconds": 0.0,
        "attempt_timeout_seconds": 0.2,
        **policy,
    }
    throttler = AsyncThrottler([RateLimit("any", 3, 0.5)], safety_margin_pct=0.0)
    return ConnectionManagersFactory(throttler, retry=RetryPolicy(**policy))


@pytest.mark.parametrize("where", ["head", "body"])
@pytest.mark.parametrize("timeout", [None, 20])
def test_a_hanging_attempt_is_followed_by_another(run, serve, where, timeout):
    hanging = Hanging(2, where)

    async def main() -> None:
        async with serve({"/x": hanging.handle}) as server, make_factory() as factory:
            manager = await factory.get_rest_manager()
            url = server.url("/x")
            assert await manager.execute_request(url, "any", timeout=timeout) == {"call": 3}

    run(main())


@pytest.mark.parametrize(
    ("method", "headers", "calls"),
    [
        (RESTMethod.GET, None, 3),
        (RESTMethod.POST, None, 1),
        (RESTMethod.POST, {"Idempotency-Key": "1"}, 3),
    ],
)
def test_the_last_one_raises(run, serve, method, headers, calls):
    hanging = Hanging(99, "head")

    async def main() -> None:
        async with serve({"/x": hanging.handle}) as server, make_factory() as factory:
            manager = await factory.get_rest_manager()
            with pytest.raises(AttemptTimeoutError) as caught:
                await manager.execute_request(
                    server.url("/x"), "any", method=method, headers=headers
                )
            assert (caught.value.attempts, caught.value.was_sent) == (calls, True)
            assert isinstance(caught.value, TimeoutError)

    run(main())
    assert hanging.calls == calls


def test_the_deadline_comes_first(run, serve):
    hanging = Hanging(99, "head")

    async def main() -> None:
        async with (
            serve({"/x": hanging.handle}) as server,
            make_factory(attempt_timeout_seconds=10.0) as factory,
        ):
            manager = await factory.get_rest_manager()
            with pytest.raises(DeadlineExceeded):
                await manager.execute_request(server.url("/x"), "any", timeout=0.2)

    run(main())
    assert hanging.calls == 1


def test_a_wait_for_a_limit_is_not_part_of_an_attempt(run, serve):
    async def main() -> None:
        async with serve() as server, make_factory(max_attempts=1) as factory:
            manager = await factory.get_rest_manager()
            answers = [manager.execute_request(server.url(), "any") for _ in range(6)]
            assert len(await asyncio.gather(*answers)) == 6

    run(main())


def test_a_stream_may_take_longer(run, serve):
    async def slowly(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(4):
            await response.write(b"x")
            await asyncio.sleep(0.1)
        return response

    async def main() -> None:
        async with serve({"/x": slowly}) as server, make_factory() as factory:
            manager = await factory.get_rest_manager()
            response = await manager.call(RESTRequest(RESTMethod.GET, server.url("/x")))
            assert [chunk async for chunk in response.iter_bytes()] == [b"x"] * 4

    run(main())


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_it_is_positive(seconds):
    with pytest.raises(ConfigurationError, match="attempt_timeout_seconds"):
        RetryPolicy(attempt_timeout_seconds=seconds)
