"""RESTConnection: on a session of the caller's, and what a factory's session adds."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from networkpype.auth import APIKeyAuth
from networkpype.exceptions import (
    ClosedError,
    ConnectionFailedError,
    RedirectError,
    StaleConnectionError,
    TooManyRedirectsError,
)
from networkpype.factory import ConnectionManagersFactory, ConnectionsFactory
from networkpype.rest.connection import RESTConnection
from networkpype.rest.manager import RESTManager
from networkpype.rest.method import RESTMethod
from networkpype.rest.request import RESTRequest
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler


def throttler(limit: int = 1000) -> AsyncThrottler:
    return AsyncThrottler([RateLimit("any", limit, 60.0)], safety_margin_pct=0.0)


def test_call_sends_what_the_request_says(run, serve):
    async def main() -> None:
        async with serve() as server, aiohttp.ClientSession() as session:
            connection = RESTConnection(session)
            request = RESTRequest(
                RESTMethod.POST, server.url("/x?a=%2F"), params={"b": "%2f"}, headers={"H": "1"}
            )
            request.data = "body"
            await (await connection.call(request)).read()
            await (await connection.call(request, encoded=True)).read()
            assert [s["query"] for s in server.seen] == ["a=/&b=%252f", "a=%2F&b=%252f"]
            assert server.seen[0]["headers"]["Content-Type"] == "text/plain; charset=utf-8"
            assert (server.seen[0]["headers"]["H"], server.seen[0]["body"]) == ("1", b"body")

    run(main())


def test_call_without_url_is_a_value_error(run):
    async def main() -> None:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(ValueError, match="Request URL cannot be None"):
                await RESTConnection(session).call(RESTRequest(RESTMethod.GET))

    run(main())


def test_call_names_the_nearest_argument(run):
    async def main() -> None:
        async with aiohttp.ClientSession() as session:
            request = RESTRequest(RESTMethod.GET, "http://127.0.0.1/")
            with pytest.raises(TypeError, match="proxy_headers"):
                await RESTConnection(session).call(request, proxy_header={})

    run(main())


def test_a_closed_session_is_a_clear_error(run):
    async def main() -> None:
        session = aiohttp.ClientSession()
        await session.close()
        request = RESTRequest(RESTMethod.GET, "http://127.0.0.1/")
        with pytest.raises(ClosedError, match="given to this RESTConnection is closed"):
            await RESTConnection(session).call(request)

    run(main())


async def redirect_loop(_request: web.Request) -> web.Response:
    raise web.HTTPFound("/loop")


def test_too_many_redirects(run, serve):
    async def main() -> None:
        async with serve({"/loop": redirect_loop}) as server, ConnectionsFactory() as factory:
            connection = await factory.get_rest_connection()
            with pytest.raises(TooManyRedirectsError) as caught:
                await connection.call(RESTRequest(RESTMethod.GET, server.url("/loop?k=hunter2")))
            assert isinstance(caught.value, aiohttp.TooManyRedirects)
            assert "hunter2" not in str(caught.value) + str(caught.value.__cause__)

    run(main())


@contextlib.asynccontextmanager
async def manager_on(kind: str) -> AsyncIterator[RESTManager]:
    auth = APIKeyAuth("hunter2")
    if kind == "factory":
        async with ConnectionManagersFactory(throttler(), auth) as factory:
            yield await factory.get_rest_manager()
    else:
        async with aiohttp.ClientSession() as session:
            yield RESTManager(RESTConnection(session), throttler(), auth=auth)


@pytest.mark.parametrize("kind", ["factory", "session"])
def test_a_signed_request_is_never_redirected_to_another_origin(run, serve, kind):
    async def main() -> None:
        async with serve() as other:

            async def away(_request: web.Request) -> web.Response:
                raise web.HTTPTemporaryRedirect(other.url("/stolen"))

            async with serve({"/away": away}) as server, manager_on(kind) as manager:
                for method in (RESTMethod.GET, RESTMethod.POST):
                    with pytest.raises(RedirectError):
                        await manager.execute_request(
                            server.url("/away"), "any", method=method, is_auth_required=True
                        )
                assert other.seen == []
                await manager.execute_request(server.url("/away"), "any")
                assert "X-API-Key" not in other.seen[0]["headers"]

    run(main())


def test_a_signed_request_follows_a_redirect_within_its_origin(run, serve):
    async def main() -> None:
        async def inside(_request: web.Request) -> web.Response:
            raise web.HTTPFound("/new")

        async with serve({"/old": inside}) as server, manager_on("factory") as manager:
            await manager.execute_request(server.url("/old"), "any", is_auth_required=True)
            assert server.seen[0]["path"] == "/new"

    run(main())


def test_on_a_session_of_the_callers_allow_redirects_decides(run, serve):
    async def main() -> None:
        async def inside(_request: web.Request) -> web.Response:
            raise web.HTTPFound("/new")

        async with serve({"/old": inside}) as server, manager_on("session") as manager:
            await manager.execute_request(
                server.url("/old"), "any", is_auth_required=True, allow_redirects=True
            )
            assert server.seen[0]["path"] == "/new"
            await manager.execute_request(server.url(), "any", is_auth_required=True)
            assert server.seen[1]["headers"]["X-API-Key"] == "hunter2"

    run(main())


class FickleServer:
    """Answer the first request of a connection; drop the connection at the second."""

    def __init__(self, *, answers: bool = True) -> None:
        self.heads: list[str] = []
        self.answers = answers

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for number in range(2):
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = [line for line in head.split("\r\n") if line.startswith("Content-Length")]
                if length:
                    await reader.readexactly(int(length[0].split(":")[1]))
                self.heads.append(head)
                if number == 0 and self.answers:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                    await writer.drain()
                else:
                    break
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


class CountingAuth(APIKeyAuth):
    """Sign each attempt differently."""

    signed = 0

    async def rest_authenticate(self, request: RESTRequest) -> RESTRequest:
        self.signed += 1
        request.headers["X-Nonce"] = str(self.signed)
        return request


def nonces(heads: list[str]) -> list[str]:
    return [line for head in heads for line in head.split("\r\n") if line.startswith("X-Nonce")]


@pytest.mark.parametrize("data", [None, "body", {"a": 1}])
def test_a_request_on_a_dropped_connection_is_sent_again_signed_anew_and_counted(run, data):
    """aiohttp alone sends it again with the same signature, and no limit knows."""

    async def main() -> None:
        fickle = FickleServer()
        server = await asyncio.start_server(fickle.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        limits = throttler(limit=3)
        async with server, ConnectionManagersFactory(limits, CountingAuth("k")) as factory:
            manager = await factory.get_rest_manager()
            options: dict[str, Any] = {"method": RESTMethod.PUT, "is_auth_required": True}
            for _ in range(2):
                await manager.execute_request(url, "any", data=data, **options)
            assert len(fickle.heads) == 3
            assert nonces(fickle.heads) == ["X-Nonce: 1", "X-Nonce: 2", "X-Nonce: 3"]
            with pytest.raises(TimeoutError):
                await manager.execute_request(url, "any", timeout=0.05)

    run(main())


@pytest.mark.parametrize("kind", ["post", "iterator", "form"])
def test_what_cannot_be_sent_twice_is_not(run, kind):
    async def body():
        yield b"once"

    async def main() -> None:
        fickle = FickleServer()
        server = await asyncio.start_server(fickle.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with server, ConnectionManagersFactory(throttler()) as factory:
            manager = await factory.get_rest_manager()
            await manager.execute_request(url, "any")
            method = RESTMethod.POST if kind == "post" else RESTMethod.PUT
            data = {"post": {}, "iterator": body(), "form": aiohttp.FormData({"a": "1"})}[kind]
            with pytest.raises(aiohttp.ClientError):
                await manager.execute_request(url, "any", method=method, data=data)
            assert len(fickle.heads) == 2

    run(main())


def test_a_server_that_drops_every_connection_is_an_error_after_two_attempts(run):
    async def main() -> None:
        fickle = FickleServer(answers=False)
        server = await asyncio.start_server(fickle.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with server, ConnectionManagersFactory(throttler()) as factory:
            manager = await factory.get_rest_manager()
            with pytest.raises(ConnectionFailedError) as caught:
                await manager.execute_request(url, "any")
            assert isinstance(caught.value, StaleConnectionError)
            assert isinstance(caught.value, aiohttp.ServerDisconnectedError)
            assert str(caught.value) == "The server closed the connection as the request was sent."
            assert caught.value.attempts == 2
            assert len(fickle.heads) == 2

    run(main())
