"""No body takes more memory than was allowed."""

import gzip
import tracemalloc

import aiohttp
import pytest
from aiohttp import web

from networkpype.exceptions import BodyTooLargeError, ConfigurationError, HTTPStatusError
from networkpype.factory import ConnectionManagersFactory, ConnectionsFactory
from networkpype.rest.connection import RESTConnection
from networkpype.rest.method import RESTMethod
from networkpype.rest.request import RESTRequest
from networkpype.retry import RetryPolicy
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler

MIB = 2**20
BOMB = gzip.compress(b"\0" * (50 * MIB))


async def bomb(request: web.Request) -> web.Response:
    status = int(request.query.get("status", "200"))
    return web.Response(status=status, body=BOMB, headers={"Content-Encoding": "gzip"})


async def announced(request: web.Request) -> web.Response:
    return web.Response(status=int(request.query.get("status", "200")), body=b"x" * (3 * MIB))


async def chunked(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(status=int(request.query.get("status", "200")))
    response.enable_chunked_encoding()
    await response.prepare(request)
    try:
        for _ in range(30):
            await response.write(b"y" * 100_000)
    except ConnectionError:
        pass  # the client has closed the connection
    return response


ROUTES = {"/bomb": bomb, "/announced": announced, "/chunked": chunked}
everywhere = pytest.mark.parametrize("path", ROUTES)


def make_factory(**arguments) -> ConnectionManagersFactory:
    throttler = AsyncThrottler([RateLimit("any", 1000, 1)], server_limits=None)
    return ConnectionManagersFactory(throttler, max_body_bytes=MIB, **arguments)


@everywhere
def test_a_body_that_is_too_large_is_not_read(run, serve, path):
    async def main() -> None:
        async with serve(ROUTES) as server, make_factory() as factory:
            manager = await factory.get_rest_manager()
            tracemalloc.start()
            with pytest.raises(BodyTooLargeError) as caught:
                await manager.execute_request(f"{server.url(path)}?key=secret", "any")
            assert tracemalloc.get_traced_memory()[1] < 12 * MIB
            tracemalloc.stop()
            error = caught.value
            assert (error.status, error.max_body_bytes) == (200, MIB)
            assert error.url == server.url(path)
            assert len(error.body_start) <= 4096
            # The connection is not used again.
            assert await manager.execute_request(server.url(), "any") == {"n": 1}

    run(main())


@everywhere
@pytest.mark.parametrize("read", ["read", "text", "json"])
def test_it_holds_for_each_way_to_read_a_whole_body(run, serve, path, read):
    async def main() -> None:
        async with (
            serve(ROUTES) as server,
            ConnectionsFactory(max_body_bytes=MIB) as factory,
            aiohttp.ClientSession() as session,
        ):
            for connection in (
                await factory.get_rest_connection(),
                RESTConnection(session, max_body_bytes=MIB),
            ):
                response = await connection.call(RESTRequest(RESTMethod.GET, server.url(path)))
                with pytest.raises(BodyTooLargeError):
                    await getattr(response, read)()

    run(main())


@everywhere
@pytest.mark.parametrize("retry", [None, RetryPolicy(max_attempts=2, backoff_seconds=0)])
def test_the_status_of_an_error_is_kept_when_its_body_is_too_large(run, serve, path, retry):
    async def main() -> None:
        async with serve(ROUTES) as server, make_factory(retry=retry) as factory:
            manager = await factory.get_rest_manager()
            url = f"{server.url(path)}?status=503"
            for return_err in (False, True):
                with pytest.raises(HTTPStatusError) as caught:
                    await manager.execute_request(url, "any", return_err=return_err)
                assert caught.value.status == 503
                assert len(caught.value.body) == 4096
            response = await manager.call(RESTRequest(RESTMethod.GET, url))
            assert response.status == 503
            response.release()

    run(main())


@everywhere
def test_streams_have_no_bound(run, serve, path):
    async def main() -> None:
        async with serve(ROUTES) as server, make_factory() as factory:
            manager = await factory.get_rest_manager()
            response = await manager.call(RESTRequest(RESTMethod.GET, server.url(path)))
            received = 0
            async for chunk in response.iter_bytes():
                received += len(chunk)
            assert received >= 30 * 100_000

    run(main())


@pytest.mark.parametrize("size", [10, 4096, 4097, 900_000])
def test_the_text_of_an_error_is_short_and_its_body_whole(run, serve, size):
    async def main() -> None:
        async def answer(_request: web.Request) -> web.Response:
            return web.Response(status=400, text="e" * size)

        async with serve({"/x": answer}) as server, make_factory() as factory:
            manager = await factory.get_rest_manager()
            with pytest.raises(HTTPStatusError) as caught:
                await manager.execute_request(server.url("/x"), "any")
            assert len(str(caught.value)) < min(size, 4096) + 200
            assert caught.value.body == "e" * size

    run(main())


@pytest.mark.parametrize("size", [2**20 - 1, 2**20])
def test_a_body_of_the_bound_is_read(run, serve, size):
    async def main() -> None:
        async def answer(_request: web.Request) -> web.Response:
            headers = {"Content-Encoding": "gzip"}
            return web.Response(body=gzip.compress(b"z" * size), headers=headers)

        async with serve({"/x": answer}) as server, make_factory() as factory:
            manager = await factory.get_rest_manager()
            response = await manager.call(RESTRequest(RESTMethod.GET, server.url("/x")))
            assert len(await response.read()) == size

    run(main())


def test_a_bound_is_positive():
    with pytest.raises(ConfigurationError, match="max_body_bytes"):
        RESTConnection(None, max_body_bytes=0)
