"""What was surely not processed is retried whatever its method; nothing else is."""

import asyncio
import socket

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver

from networkpype.auth import APIKeyAuth
from networkpype.exceptions import (
    ConnectError,
    DeadlineExceeded,
    HTTPStatusError,
    TransportError,
)
from networkpype.factory import ConnectionManagersFactory
from networkpype.rest.method import RESTMethod
from networkpype.rest.request import RESTRequest
from networkpype.retry import RetryPolicy
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler

NOT_IDEMPOTENT = [RESTMethod.POST, RESTMethod.PATCH]
methods = pytest.mark.parametrize("method", NOT_IDEMPOTENT)


class Ports(AbstractResolver):
    """Resolve to one port after another."""

    def __init__(self, *ports):
        self.ports = list(ports)

    async def resolve(self, host, port=0, family=socket.AF_INET):
        port = self.ports.pop(0) if len(self.ports) > 1 else self.ports[0]
        return [
            {
                "hostname": host,
                "host": "127.0.0.1",
                "port": port,
                "family": socket.AF_INET,
                "proto": 0,
                "flags": 0,
            }
        ]

    async def close(self):
        """Nothing is open."""


def make_factory(resolver=None, auth=None, **policy):
    policy = {"max_attempts": 3, "backoff_seconds": 0.0, **policy}
    throttler = AsyncThrottler(
        [RateLimit("any", 100, 60.0)], safety_margin_pct=0.0, server_limits=None
    )
    return ConnectionManagersFactory(
        throttler,
        auth,
        retry=RetryPolicy(**policy),
        session_kwargs=lambda: {
            "connector": aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False)
        },
    )


@methods
def test_a_refused_connection_is_tried_again(run, serve, unused_port, method):
    async def main() -> None:
        async with serve() as server:
            resolver = Ports(unused_port, unused_port, server.port)
            async with make_factory(resolver) as factory:
                manager = await factory.get_rest_manager()
                answer = await manager.execute_request(
                    "http://exchange/order", "any", data={"a": 1}, method=method
                )
                assert answer == {"n": 1}
            assert server.seen[0]["body"] == b'{"a": 1}'

    run(main())


@methods
def test_attempts_to_connect_end(run, unused_port, method):
    async def main() -> None:
        async with make_factory(Ports(unused_port)) as factory:
            manager = await factory.get_rest_manager()
            with pytest.raises(ConnectError) as caught:
                await manager.execute_request("http://exchange/order", "any", method=method)
            assert (caught.value.attempts, caught.value.was_sent) == (3, False)

    run(main())


@methods
@pytest.mark.parametrize("way", ["execute", "call"])
def test_a_429_is_tried_again(run, serve, method, way):
    statuses = [429, 429, 200]

    async def handle(_request: web.Request) -> web.Response:
        return web.json_response({}, status=statuses.pop(0))

    async def main() -> None:
        async with serve({"/x": handle}) as server, make_factory() as factory:
            manager = await factory.get_rest_manager()
            if way == "execute":
                await manager.execute_request(server.url("/x"), "any", method=method)
            else:
                request = RESTRequest(method, server.url("/x"), data=b"x")
                assert (await manager.call(request)).status == 200
        assert statuses == []

    run(main())


class Slow(APIKeyAuth):
    """Take time to sign with the connection in hand, during which the server closes it."""

    resign_after_s = 0.0

    def __init__(self, has_closed):
        super().__init__("key")
        self.has_closed = has_closed
        self.signatures = 0

    async def rest_authenticate(self, request):
        self.signatures += 1
        if self.signatures == 2:
            await self.has_closed()
        return await super().rest_authenticate(request)


@methods
def test_a_connection_lost_before_the_first_byte_is_replaced(run, serve, method):
    async def main() -> None:
        closing = []

        async def accept(reader, writer):
            closing.append(writer)
            await reader.read()

        async def has_closed():
            while not closing:
                await asyncio.sleep(0.01)
            closing[0].close()
            await asyncio.sleep(0.1)

        deaf = await asyncio.start_server(accept, "127.0.0.1", 0)
        port = deaf.sockets[0].getsockname()[1]
        async with deaf, serve() as server:
            resolver = Ports(port, server.port)
            async with make_factory(resolver, Slow(has_closed)) as factory:
                manager = await factory.get_rest_manager()
                answer = await manager.execute_request(
                    "http://exchange/order", "any", method=method, is_auth_required=True
                )
                assert answer == {"n": 1}

    run(main())


@methods
@pytest.mark.parametrize("how", [500, 503, 408, "abort"])
def test_what_may_have_been_processed_is_sent_once(run, serve, method, how):
    calls = []

    async def handle(request: web.Request) -> web.Response:
        calls.append(await request.read())
        if how == "abort":
            request.transport.abort()
            return web.Response()
        return web.Response(status=how)

    async def main() -> None:
        async with serve({"/x": handle}) as server, make_factory() as factory:
            manager = await factory.get_rest_manager()
            expected = TransportError if how == "abort" else HTTPStatusError
            with pytest.raises(expected) as caught:
                await manager.execute_request(server.url("/x"), "any", method=method)
            assert caught.value.attempts == 1
            assert how != "abort" or caught.value.was_sent
        assert len(calls) == 1

    run(main())


LOST, REFUSED, GONE, FAILED = "lost", 429, "gone", 503


@pytest.mark.parametrize(
    ("fates", "method", "maybe_processed"),
    [
        ([REFUSED, REFUSED, REFUSED], RESTMethod.POST, False),
        ([REFUSED, GONE, GONE], RESTMethod.POST, False),
        ([GONE, GONE, REFUSED], RESTMethod.GET, False),
        ([REFUSED, FAILED], RESTMethod.POST, True),
        ([GONE, LOST], RESTMethod.POST, True),
        # The last attempt was surely not processed; an earlier one may have been.
        ([LOST, REFUSED, REFUSED], RESTMethod.PUT, True),
        ([LOST, GONE, GONE], RESTMethod.DELETE, True),
        ([FAILED, REFUSED, GONE], RESTMethod.PUT, True),
        ([REFUSED, LOST, GONE], RESTMethod.GET, True),
        (["slow"], RESTMethod.POST, True),
        ([REFUSED, "slow"], RESTMethod.POST, True),
    ],
    ids=str,
)
def test_an_error_tells_whether_any_attempt_may_have_been_processed(
    run, serve, unused_port, fates, method, maybe_processed
):
    statuses = [fate for fate in fates if fate != GONE]

    async def handle(request: web.Request) -> web.Response:
        # aiohttp repeats what is lost once itself: the last fate stays.
        fate = statuses.pop(0) if len(statuses) > 1 else statuses[0]
        if fate == "slow":
            await asyncio.sleep(30)
        if fate == LOST:
            request.transport.abort()
            return web.Response()
        return web.Response(status=fate, headers={"Connection": "close"})

    async def main() -> None:
        async with serve({"/x": handle}) as server:
            resolver = Ports(*[unused_port if fate == GONE else server.port for fate in fates])
            async with make_factory(resolver) as factory:
                manager = await factory.get_rest_manager()
                with pytest.raises((TransportError, HTTPStatusError, DeadlineExceeded)) as caught:
                    await manager.execute_request(
                        "http://exchange/x",
                        "any",
                        method=method,
                        timeout=0.5 if "slow" in fates else None,
                    )
        assert caught.value.maybe_processed is maybe_processed
        assert caught.value.attempts >= len(fates)
        assert len(statuses) == 1

    run(main())


def test_an_error_while_waiting_for_a_limit_tells_that_nothing_was_processed(run, serve):
    async def main() -> None:
        async with serve() as server:
            throttler = AsyncThrottler([RateLimit("any", 1, 60.0)], safety_margin_pct=0.0)
            async with ConnectionManagersFactory(throttler) as factory:
                manager = await factory.get_rest_manager()
                await manager.execute_request(server.url(), "any")
                with pytest.raises(DeadlineExceeded) as caught:
                    await manager.execute_request(server.url(), "any", timeout=0.05)
                assert caught.value.maybe_processed is False
            assert len(server.seen) == 1

    run(main())


def test_statuses_without_429_are_respected(run, serve):
    async def handle(_request: web.Request) -> web.Response:
        return web.Response(status=429)

    async def main() -> None:
        statuses = frozenset({503})
        async with serve({"/x": handle}) as server, make_factory(statuses=statuses) as factory:
            manager = await factory.get_rest_manager()
            with pytest.raises(HTTPStatusError) as caught:
                await manager.execute_request(server.url("/x"), "any", method=RESTMethod.POST)
            assert caught.value.attempts == 1

    run(main())
