"""RESTResponse: reading, streaming, giving the connection back."""

import asyncio
import gzip
import pickle
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from networkpype.exceptions import (
    BodyDecodeError,
    HTTPStatusError,
    PayloadError,
    ResponseError,
)
from networkpype.factory import ConnectionManagersFactory, ConnectionsFactory
from networkpype.rest.connection import RESTConnection
from networkpype.rest.method import RESTMethod
from networkpype.rest.request import RESTRequest
from networkpype.rest.response import RESTResponse
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler

CONTENT = bytes(range(256)) * 2048  # 512 KiB


async def content(_request: web.Request) -> web.Response:
    return web.Response(body=CONTENT)


async def zipped(_request: web.Request) -> web.Response:
    return web.Response(body=gzip.compress(CONTENT), headers={"Content-Encoding": "gzip"})


async def chunked(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    for start in range(0, len(CONTENT), 100_000):
        await response.write(CONTENT[start : start + 100_000])
    return response


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"x" * 1000)
        await asyncio.sleep(0)


ROUTES = {"/content": content, "/zipped": zipped, "/chunked": chunked, "/endless": endless}


def one_connection_session() -> aiohttp.ClientSession:
    """A session in which a connection that is not given back stops the next request."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1))


async def get(session: aiohttp.ClientSession, url: str) -> RESTResponse:
    connection = RESTConnection(session)
    return await connection.call(RESTRequest(RESTMethod.GET, url))


@pytest.mark.parametrize(
    ("path", "total"),
    [("/content", len(CONTENT)), ("/zipped", None), ("/chunked", None)],
)
def test_iter_bytes_gives_all_bytes_in_bounded_pieces_with_progress(run, serve, path, total):
    async def main() -> None:
        async with serve(ROUTES) as server, one_connection_session() as session:
            progress: list[tuple[int, int | None]] = []
            pieces = []
            async with await get(session, server.url(path)) as response:
                async for piece in response.iter_bytes(
                    5000, progress=lambda received, total: progress.append((received, total))
                ):
                    assert 0 < len(piece) <= 5000
                    pieces.append(piece)
                    assert progress[-1] == (sum(map(len, pieces)), total)
            assert b"".join(pieces) == CONTENT
            await (await get(session, server.url("/content"))).read()

    run(main())


def test_iter_bytes_after_read_gives_the_bytes_again(run, serve):
    async def main() -> None:
        async with serve(ROUTES) as server, one_connection_session() as session:
            response = await get(session, server.url("/chunked"))
            assert await response.read() == await response.read() == CONTENT
            progress: list[Any] = []
            pieces = [p async for p in response.iter_bytes(300_000, lambda *a: progress.append(a))]
            assert b"".join(pieces) == CONTENT
            assert progress == [(300_000, len(CONTENT)), (len(CONTENT), len(CONTENT))]

    run(main())


@pytest.mark.parametrize("how", ["release", "await release", "async with"])
def test_a_body_that_is_not_read_does_not_keep_the_connection(run, serve, how):
    async def main() -> None:
        async with serve(ROUTES) as server, one_connection_session() as session:
            response = await get(session, server.url("/endless"))
            if how == "release":
                response.release()
            elif how == "await release":
                await response.release()
            else:
                async with response:
                    async for _ in response.iter_bytes():
                        break
            response = await asyncio.wait_for(get(session, server.url("/content")), 30)
            assert await response.read() == CONTENT

    run(main())


def test_release_after_reading_keeps_the_connection_for_the_next(run, serve):
    async def main() -> None:
        ports = set()

        async def peer(request: web.Request) -> web.Response:
            assert request.transport is not None
            ports.add(request.transport.get_extra_info("peername"))
            return web.Response(text="x")

        async with serve({"/peer": peer}) as server, aiohttp.ClientSession() as session:
            for _ in range(5):
                async with await get(session, server.url("/peer")) as response:
                    await response.read()
        assert len(ports) == 1

    run(main())


def test_a_body_that_breaks_off_while_streamed_is_a_payload_error(run, serve):
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return response

    async def main() -> None:
        async with serve({"/half": half}) as server, aiohttp.ClientSession() as session:
            response = await get(session, server.url("/half"))
            with pytest.raises(PayloadError) as caught:
                async for _ in response.iter_bytes():
                    pass
            assert isinstance(caught.value, aiohttp.ClientPayloadError)

    run(main())


def answer(status: int, text: str, content_type: str):
    async def handler(_request: web.Request) -> web.Response:
        headers = {"Content-Type": content_type}
        return web.Response(status=status, body=text.encode(), headers=headers)

    return handler


def test_json_minds_the_declared_type_unless_told_not_to(run, serve):
    routes = {
        "/json": answer(200, '{"a": 1}', "application/json"),
        "/problem": answer(200, '{"a": 1}', "application/problem+json"),
        "/text": answer(200, '{"a": 1}', "text/plain"),
        "/bad": answer(200, "{", "application/json"),
    }

    async def main() -> None:
        async with serve(routes) as server, aiohttp.ClientSession() as session:
            assert await (await get(session, server.url("/json"))).json() == {"a": 1}
            assert await (await get(session, server.url("/problem"))).json() == {"a": 1}
            response = await get(session, server.url("/text"))
            with pytest.raises(aiohttp.ContentTypeError) as caught:
                await response.json()
            assert isinstance(caught.value, ResponseError)
            assert await response.json(content_type=None) == {"a": 1}
            assert await response.text() == '{"a": 1}'
            with pytest.raises(BodyDecodeError):
                await (await get(session, server.url("/bad"))).json()

    run(main())


def test_the_facts_of_a_response(run, serve):
    async def main() -> None:
        async with serve() as server, aiohttp.ClientSession() as session:
            response = await get(session, server.url("/x?a=1"))
            assert (response.url, response.status) == (server.url("/x?a=1"), 200)
            assert response.method is RESTMethod.GET
            assert response.headers["content-type"] == "application/json; charset=utf-8"
            assert repr(response) == f"<RESTResponse GET {server.url('/x')} 200>"
            response.release()

    run(main())


@pytest.mark.parametrize("awaited", [False, True])
def test_raise_for_status(run, serve, awaited):
    routes = {
        "/200": answer(200, "fine", "text/plain"),
        "/404": answer(404, "caf\u00e9", "text/plain"),
        "/500": answer(500, "x", "text/plain; charset=no-such-charset"),
    }

    async def check(response: RESTResponse) -> None:
        result = response.raise_for_status()
        if awaited:
            await result

    async def main() -> None:
        async with serve(routes) as server, aiohttp.ClientSession() as session:
            await check(await get(session, server.url("/200")))
            response = await get(session, server.url("/404?key=hunter2"))
            await response.read()
            with pytest.raises(HTTPStatusError) as caught:
                await check(response)
            assert (caught.value.status, caught.value.body) == (404, "caf\u00e9")
            assert caught.value.method == "GET"
            assert caught.value.url == server.url("/404")
            response = await get(session, server.url("/500"))
            await response.read()
            with pytest.raises(HTTPStatusError) as caught:
                await check(response)
            assert caught.value.body == "x"

    run(main())


def test_an_error_body_that_came_with_its_head_needs_no_reading(run):
    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nlost")
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with server, aiohttp.ClientSession() as session:
            response = await get(session, url)
            with pytest.raises(HTTPStatusError) as caught:
                response.raise_for_status()
            assert caught.value.body == "lost"

    run(main())


BAD_BODIES = [
    (b'{"a": "\xff"}', "application/json"),
    (b'{"a": "\xe4"}', "application/json; charset=ascii"),
    (b'{"a": 1', "application/json; charset=utf-16"),
    (b"[" * 100_000 + b"]" * 100_000, "application/json"),
    (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "text/html"),
    (b"1" * 5_000, "application/json"),
    (b'{"a": -' + b"7" * 10_000 + b"}", "application/json"),
    (b"\xef\xbb\xbf{", "application/json"),
    (b"nonsense", "application/json"),
]


@pytest.mark.parametrize(("body", "content_type"), BAD_BODIES)
@pytest.mark.parametrize("is_declared", [True, False])
def test_a_body_that_is_not_json_raises_one_error(run, serve, body, content_type, is_declared):
    async def main() -> None:
        async def answer(_request: web.Request) -> web.Response:
            return web.Response(body=body, headers={"Content-Type": content_type})

        async with serve({"/x": answer}) as server, ConnectionsFactory() as factory:
            connection = await factory.get_rest_connection()
            url = server.url("/x")
            response = await connection.call(RESTRequest(RESTMethod.GET, f"{url}?key=secret"))
            with pytest.raises(BodyDecodeError) as caught:
                await response.json(content_type.partition(";")[0] if is_declared else None)
            assert (caught.value.status, caught.value.url) == (200, url)
            assert len(str(caught.value)) < 200
            assert pickle.loads(pickle.dumps(caught.value)).url == url

            async with ConnectionManagersFactory(AsyncThrottler([RateLimit("a", 9, 1)])) as other:
                manager = await other.get_rest_manager()
                with pytest.raises(BodyDecodeError):
                    await manager.execute_request(url, "a")

    run(main())


@pytest.mark.parametrize(
    ("body", "charset"),
    [(b"\xff", "utf-8"), (b"a\xe4", "ascii"), (b"abc", "utf-16"), (b"\x80abc", "idna")],
)
def test_a_body_that_is_not_text_raises_the_same_error(run, serve, body, charset):
    async def main() -> None:
        async def answer(_request: web.Request) -> web.Response:
            return web.Response(
                status=201, body=body, headers={"Content-Type": f"text/plain; charset={charset}"}
            )

        async with serve({"/x": answer}) as server, ConnectionsFactory() as factory:
            connection = await factory.get_rest_connection()
            url = server.url("/x")
            response = await connection.call(RESTRequest(RESTMethod.GET, url))
            with pytest.raises(BodyDecodeError) as caught:
                await response.text()
            assert (caught.value.status, caught.value.url) == (201, url)

    run(main())


@pytest.mark.parametrize("charset", ["", "; charset=utf-8", "; charset=latin-1", "; charset=zip"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_a_byte_order_mark_is_accepted(run, serve, charset, bom):
    async def main() -> None:
        status = 200

        async def answer(_request: web.Request) -> web.Response:
            headers = {"Content-Type": f"application/json{charset}"}
            return web.Response(status=status, body=bom + b'{"a": 1}', headers=headers)

        throttler = AsyncThrottler([RateLimit("a", 9, 1)])
        async with (
            serve({"/x": answer}) as server,
            ConnectionManagersFactory(throttler) as factory,
        ):
            manager = await factory.get_rest_manager()
            response = await manager.call(RESTRequest(RESTMethod.GET, server.url("/x")))
            assert await response.text() == '{"a": 1}'
            assert await response.json() == {"a": 1}
            assert await manager.execute_request(server.url("/x"), "a") == {"a": 1}
            status = 400
            assert await manager.execute_request(server.url("/x"), "a", return_err=True) == {
                "a": 1
            }

    run(main())


@pytest.mark.parametrize("body", [b"[" * 100_000, b"7" * 5_000, b"\xff"])
def test_an_error_body_that_is_not_json_leaves_the_status(run, serve, body):
    async def main() -> None:
        async def answer(_request: web.Request) -> web.Response:
            return web.Response(status=418, body=body, content_type="application/json")

        throttler = AsyncThrottler([RateLimit("a", 9, 1)], server_limits=None)
        async with (
            serve({"/x": answer}) as server,
            ConnectionManagersFactory(throttler) as factory,
        ):
            manager = await factory.get_rest_manager()
            with pytest.raises(HTTPStatusError) as caught:
                await manager.execute_request(server.url("/x"), "a", return_err=True)
            assert caught.value.status == 418

    run(main())
