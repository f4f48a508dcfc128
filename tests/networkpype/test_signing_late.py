"""A request is signed when it has its connection, and strictly later than the one before."""

import asyncio
import time

import aiohttp
import pytest
from aiohttp import web

from networkpype.auth import Auth, HMACHeaderAuth, HMACQueryAuth
from networkpype.factory import ConnectionManagersFactory
from networkpype.rest.method import RESTMethod
from networkpype.rest.processor.base import RESTPreProcessor
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler

pytestmark = pytest.mark.slow

PAUSE = 0.3


class OwnAuth(Auth):
    """The time in the body, as some servers want it."""

    async def rest_authenticate(self, request):
        stamp = int(self.time_provider.time() * 1000)
        if request.method is RESTMethod.POST:
            request.data = f'{{"time": {stamp}, "pad": "{"x" * (stamp % 7)}"}}'
        request.headers = {**(request.headers or {}), "X-Timestamp": str(stamp)}
        return request

    async def ws_authenticate(self, request):
        return request


AUTHS = {
    "header": lambda **options: HMACHeaderAuth("key", "secret", **options),
    "query": lambda **options: HMACQueryAuth(
        "key", "secret", timestamp_param="X-Timestamp", **options
    ),
    "own": OwnAuth,
}


def stamp_of(request: web.Request) -> int:
    return int(request.headers.get("X-Timestamp") or request.query["X-Timestamp"])


def make_factory(auth, processors=(), **settings) -> ConnectionManagersFactory:
    throttler = AsyncThrottler([RateLimit("any", 1000, 1)])
    return ConnectionManagersFactory(
        throttler,
        auth,
        processors,
        session_kwargs=lambda: {"connector": aiohttp.TCPConnector(**settings)},
    )


@pytest.mark.parametrize("kind", AUTHS)
@pytest.mark.parametrize("method", [RESTMethod.GET, RESTMethod.POST])
@pytest.mark.parametrize("settings", [{"limit_per_host": 1}, {"limit": 1}])
def test_no_timestamp_is_older_than_its_connection(run, serve, kind, method, settings):
    ages = []
    bodies = []

    async def handle(request: web.Request) -> web.Response:
        ages.append(time.time() - stamp_of(request) / 1000)
        bodies.append(await request.text())
        await asyncio.sleep(PAUSE)
        return web.json_response({})

    class Marking(RESTPreProcessor):
        calls = 0

        async def pre_process(self, request):
            type(self).calls += 1
            request.headers = {**request.headers, "X-Mark": "1"}
            return request

    async def main() -> None:
        async with (
            serve({"/x": handle}) as server,
            make_factory(AUTHS[kind](), [Marking()], **settings) as factory,
        ):
            manager = await factory.get_rest_manager()
            await asyncio.gather(
                *(
                    manager.execute_request(
                        server.url("/x"),
                        "any",
                        {"a": 1},
                        {"b": 2} if method is RESTMethod.POST else None,
                        method,
                        is_auth_required=True,
                    )
                    for _ in range(3)
                )
            )

    run(main())
    assert Marking.calls == 3
    assert max(ages) < PAUSE
    if kind == "own" and method is RESTMethod.POST:
        assert all(body.startswith('{"time": ') and body.endswith('"}') for body in bodies)


@pytest.mark.parametrize("kind", ["header", "query"])
def test_unique_timestamps_rise_strictly_in_the_order_of_arrival(run, serve, kind):
    stamps = []

    async def handle(request: web.Request) -> web.Response:
        stamps.append(stamp_of(request))
        return web.json_response({})

    async def main() -> None:
        async with (
            serve({"/x": handle}) as server,
            make_factory(AUTHS[kind](unique=True), limit_per_host=1) as factory,
        ):
            manager = await factory.get_rest_manager()
            requests = [
                manager.execute_request(
                    server.url("/x"), "any", is_auth_required=True, priority=number % 3
                )
                for number in range(50)
            ]
            await asyncio.gather(*requests)

    run(main())
    assert stamps == sorted(set(stamps))
    assert len(stamps) == 50


def test_an_auth_that_sends_a_request_does_not_wait_for_its_own_connection(run, serve):
    async def slow(_request: web.Request) -> web.Response:
        await asyncio.sleep(0.1)
        return web.json_response({})

    class Asking(OwnAuth):
        manager = None

        async def rest_authenticate(self, request):
            await self.manager.execute_request(self.url, "any")
            return await super().rest_authenticate(request)

    async def main() -> None:
        auth = Asking()
        async with (
            serve({"/slow": slow}) as server,
            make_factory(auth, limit_per_host=1) as factory,
        ):
            auth.manager = await factory.get_rest_manager()
            auth.url = server.url("/time")
            await asyncio.wait_for(
                asyncio.gather(
                    *(
                        auth.manager.execute_request(
                            server.url("/slow"), "any", is_auth_required=True
                        )
                        for _ in range(3)
                    )
                ),
                20,
            )

    run(main())
