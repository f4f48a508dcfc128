"""RESTManager: what is sent, what comes back, in which order, and how it fails."""

import asyncio
import json
import logging
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from networkpype.auth import APIKeyAuth
from networkpype.exceptions import (
    AuthError,
    BodyDecodeError,
    ConnectError,
    ConnectionFailedError,
    DeadlineExceeded,
    HTTPStatusError,
    InvalidURLError,
    NetworkpypeError,
    PayloadError,
    UnknownLimitError,
)
from networkpype.factory import ConnectionManagersFactory
from networkpype.rest.method import RESTMethod
from networkpype.rest.processor.base import RESTPostProcessor, RESTPreProcessor
from networkpype.rest.request import RESTRequest
from networkpype.rest.response import RESTResponse
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def make_factory(limit: int = 10_000, **options: Any) -> ConnectionManagersFactory:
    throttler = AsyncThrottler([RateLimit("any", limit, 60.0)], safety_margin_pct=0.0)
    return ConnectionManagersFactory(throttler, **options)


class Mark(RESTPreProcessor):
    """Change everything that can be changed."""

    async def pre_process(self, request: RESTRequest) -> RESTRequest:
        request.headers["X-Mark"] = "1"
        if isinstance(request.params, dict):
            request.params["mark"] = "1"
        if isinstance(request.data, dict):
            request.data["mark"] = "1"
        request.url = request.url or request.endpoint_url
        return request


def test_json_is_parsed_whatever_its_declared_type(run, serve):
    def answer(text: str, content_type: str):
        async def handler(_request: web.Request) -> web.Response:
            return web.Response(text=text, content_type=content_type)

        return handler

    async def latin(_request: web.Request) -> web.Response:
        # As UTF-8 it would be one letter, as Latin-1 it is two.
        headers = {"Content-Type": "application/json; charset=latin-1"}
        return web.Response(body=b'"\xc3\xa9"', headers=headers)

    routes = {
        "/plain": answer('{"a": 1}', "text/plain"),
        "/html": answer("[1]", "text/html"),
        "/nan": answer('{"a": NaN}', JSON),
        "/big": answer("123456789012345678901234567890", JSON),
        "/utf-8": answer('"\u00e9"', "text/plain"),
        "/latin": latin,
    }

    async def main() -> None:
        async with serve(routes) as server, make_factory() as factory:
            manager = await factory.get_rest_manager()

            async def get(path: str) -> Any:
                return await manager.execute_request(server.url(path), "any")

            assert await get("/plain") == {"a": 1}
            assert await get("/html") == [1]
            assert (await get("/nan"))["a"] != (await get("/nan"))["a"]
            assert await get("/big") == 123456789012345678901234567890
            assert await get("/utf-8") == "\u00e9"
            assert await get("/latin") == "\u00c3\u00a9"

    run(main())


def status_handler(status: int, text: str, content_type: str = JSON, **headers: str):
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=status, text=text, content_type=content_type, headers=headers)

    return handler


def test_an_empty_body_is_none(run, serve):
    async def main() -> None:
        routes = {"/204": status_handler(204, ""), "/200": status_handler(200, "")}
        async with serve(routes) as server, make_factory() as factory:
            manager = await factory.get_rest_manager()
            assert await manager.execute_request(server.url("/204"), "any") is None
            assert await manager.execute_request(server.url("/200"), "any") is None

    run(main())


def test_a_body_that_is_not_json_raises_with_its_status(run, serve):
    async def main() -> None:
        async with (
            serve({"/": status_handler(200, "<html>")}) as server,
            make_factory() as factory,
        ):
            manager = await factory.get_rest_manager()
            with pytest.raises(json.JSONDecodeError) as caught:
                await manager.execute_request(server.url("/"), "any")
            assert isinstance(caught.value, BodyDecodeError)
            assert (caught.value.status, caught.value.doc) == (200, "<html>")

    run(main())


@pytest.mark.parametrize("text", ['{"code": 7}', "<h1>Bad Gateway</h1>", ""])
@pytest.mark.parametrize("status", [400, 404, 429, 502])
def test_status_400_and_up_is_an_os_error_in_the_contracts_words(run, serve, status, text):
    async def main() -> None:
        handler = status_handler(status, text, "text/html", **{"Retry-After": "7"})
        async with serve({"/x": handler}) as server, make_factory() as factory:
            manager = await factory.get_rest_manager()
            with pytest.raises(OSError) as caught:  # noqa: PT011  (the contract's class)
                await manager.execute_request(server.url("/x"), "any", params={"key": "hunter2"})
            error = caught.value
            assert isinstance(error, HTTPStatusError)
            assert str(error) == (
                f"Error executing request GET {server.url('/x')}. "
                f"HTTP status is {status}. Error: {text}"
            )
            assert (error.status, error.body, error.attempts) == (status, text, 1)
            assert error.headers["retry-after"] == "7"

    run(main())


def test_return_err_returns_the_error_body_but_never_hides_a_status(run, serve):
    async def main() -> None:
        routes = {
            "/json": status_handler(404, '{"code": 7}'),
            "/html": status_handler(502, "<h1>"),
            "/empty": status_handler(500, ""),
        }
        async with serve(routes) as server, make_factory() as factory:
            manager = await factory.get_rest_manager()
            result = await manager.execute_request(server.url("/json"), "any", return_err=True)
            assert result == {"code": 7}
            for path, status in (("/html", 502), ("/empty", 500)):
                with pytest.raises(HTTPStatusError) as caught:
                    await manager.execute_request(server.url(path), "any", return_err=True)
                assert caught.value.status == status

    run(main())


def test_an_unknown_limit_is_a_value_error_and_nothing_is_sent(run, serve):
    async def main() -> None:
        async with serve() as server, make_factory() as factory:
            manager = await factory.get_rest_manager()
            with pytest.raises(ValueError, match="nope") as caught:
                await manager.execute_request(server.url(), "nope")
            assert isinstance(caught.value, UnknownLimitError)
            assert server.seen == []

    run(main())


def test_auth_without_an_auth_raises_before_anything_is_sent(run, serve):
    async def main() -> None:
        async with serve() as server, make_factory(limit=1) as factory:
            manager = await factory.get_rest_manager()
            with pytest.raises(AuthError):
                await manager.execute_request(server.url(), "any", is_auth_required=True)
            request = RESTRequest(RESTMethod.GET, server.url(), is_auth_required=True)
            with pytest.raises(AuthError):
                await manager.call(request)
            # The one place of the limit is still free.
            await manager.execute_request(server.url(), "any")
            assert len(server.seen) == 1

    run(main())


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("allow_redirect", "allow_redirects"),
        ("proxi", "proxy"),
        ("json", "a part of the request"),
        ("return_error", "'"),
    ],
)
def test_a_misspelt_argument_raises_with_the_nearest_name(run, serve, keyword, text):
    async def main() -> None:
        async with serve() as server, make_factory() as factory:
            manager = await factory.get_rest_manager()
            with pytest.raises(TypeError, match=text):
                await manager.execute_request(server.url(), "any", **{keyword: {}})
            request = RESTRequest(RESTMethod.GET, server.url())
            with pytest.raises(TypeError, match=text):
                await manager.call(request, **{keyword: {}})
            assert server.seen == []

    run(main())


def test_arguments_of_aiohttp_are_passed_on(run, serve):
    async def main() -> None:
        async def redirect(_request: web.Request) -> web.Response:
            raise web.HTTPFound("/echo")

        async with serve({"/old": redirect}) as server, make_factory() as factory:
            manager = await factory.get_rest_manager()
            assert await manager.execute_request(server.url("/old"), "any") == {"n": 1}
            request = RESTRequest(RESTMethod.GET, server.url("/old"))
            async with await manager.call(request, allow_redirects=False) as response:
                assert response.status == 302

    run(main())


def test_connection_errors_are_ours_and_aiohttps(run, serve, unused_port):
    async def main() -> None:
        async with serve() as server, make_factory() as factory:
            manager = await factory.get_rest_manager()
            with pytest.raises(ConnectError) as caught:
                await manager.execute_request(f"http://127.0.0.1:{unused_port}/", "any")
            assert isinstance(caught.value, aiohttp.ClientConnectorError)
            assert isinstance(caught.value.__cause__, aiohttp.ClientConnectorError)
            assert caught.value.attempts == 1
            for url in ("nonsense", "http://", "ftp://host/"):
                with pytest.raises(InvalidURLError):
                    await manager.execute_request(url, "any")
            assert server.seen == []

    run(main())


def test_a_body_that_breaks_off_is_a_payload_error(run, serve):
    async def main() -> None:
        async def half(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Length": "100"})
            await response.prepare(request)
            await response.write(b'{"a":')
            assert request.transport is not None
            request.transport.close()
            return response

        async with serve({"/half": half}) as server, make_factory() as factory:
            manager = await factory.get_rest_manager()
            with pytest.raises(aiohttp.ClientPayloadError) as caught:
                await manager.execute_request(server.url("/half"), "any")
            assert isinstance(caught.value, PayloadError)

    run(main())


def test_a_connection_that_is_reset_is_a_connection_error(run, serve):
    async def main() -> None:
        async def cut(request: web.Request) -> web.StreamResponse:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()

        async with serve({"/cut": cut}) as server, make_factory() as factory:
            manager = await factory.get_rest_manager()
            with pytest.raises(aiohttp.ClientConnectionError) as caught:
                await manager.execute_request(
                    server.url("/cut"), "any", method=RESTMethod.POST, data={}
                )
            assert isinstance(caught.value, ConnectionFailedError)

    run(main())


class TestDeadline:
    def test_it_covers_the_wait_for_the_limit(self, run, serve):
        async def main() -> None:
            async with serve() as server, make_factory(limit=1) as factory:
                manager = await factory.get_rest_manager()
                await manager.execute_request(server.url(), "any")
                with pytest.raises(DeadlineExceeded) as caught:
                    await manager.execute_request(server.url(), "any", timeout=0.05)
                assert isinstance(caught.value, TimeoutError)
                assert server.url() in str(caught.value)
                assert len(server.seen) == 1

        run(main())

    def test_it_covers_auth(self, run, serve):
        class Slow(APIKeyAuth):
            async def rest_authenticate(self, request: RESTRequest) -> RESTRequest:
                await asyncio.Event().wait()
                return request

        async def main() -> None:
            async with serve() as server, make_factory(limit=1, auth=Slow("k")) as factory:
                manager = await factory.get_rest_manager()
                with pytest.raises(TimeoutError):
                    await manager.execute_request(
                        server.url(), "any", is_auth_required=True, timeout=0.05
                    )
                # Nothing was sent, so that the capacity is free again.
                await manager.execute_request(server.url(), "any", timeout=30)

        run(main())

    def test_it_covers_the_head_and_the_body(self, run, serve):
        async def main() -> None:
            gate = asyncio.Event()

            async def no_head(_request: web.Request) -> web.Response:
                await gate.wait()
                return web.Response()

            async def no_body(request: web.Request) -> web.StreamResponse:
                response = web.StreamResponse(headers={"Content-Length": "100"})
                await response.prepare(request)
                await gate.wait()
                return response

            routes = {"/head": no_head, "/body": no_body}
            async with serve(routes) as server, make_factory() as factory:
                manager = await factory.get_rest_manager()
                for path in routes:
                    with pytest.raises(DeadlineExceeded):
                        await manager.execute_request(server.url(path), "any", timeout=0.1)
                request = RESTRequest(RESTMethod.GET, server.url("/body"))
                async with await manager.call(request, timeout=0.1) as response:
                    with pytest.raises(DeadlineExceeded):
                        await response.read()
                async with await manager.call(request, timeout=0.1) as response:
                    with pytest.raises(DeadlineExceeded):
                        async for _ in response.iter_bytes():
                            pass
                gate.set()

        run(main())

    def test_it_may_be_longer_than_the_sessions_own_timeout(self, run, serve):
        async def main() -> None:
            async def slow(_request: web.Request) -> web.Response:
                await asyncio.sleep(0.3)
                return web.json_response({"slow": True})

            session_kwargs = {"timeout": aiohttp.ClientTimeout(total=0.05)}
            async with (
                serve({"/slow": slow}) as server,
                make_factory(session_kwargs=session_kwargs) as factory,
            ):
                manager = await factory.get_rest_manager()
                with pytest.raises(TimeoutError) as caught:
                    await manager.execute_request(server.url("/slow"), "any")
                assert isinstance(caught.value, NetworkpypeError)
                result = await manager.execute_request(server.url("/slow"), "any", timeout=30)
                assert result == {"slow": True}

        run(main())


class TestCall:
    def test_it_returns_a_response_whatever_its_status(self, run, serve):
        async def main() -> None:
            async with serve({"/x": status_handler(503, "busy")}) as server, make_factory() as f:
                manager = await f.get_rest_manager()
                response = await manager.call(RESTRequest(RESTMethod.GET, server.url("/x")))
                assert (response.status, await response.text()) == (503, "busy")

        run(main())

    def test_it_honours_the_limit_of_the_request(self, run, serve):
        async def main() -> None:
            async with serve() as server, make_factory(limit=1) as factory:
                manager = await factory.get_rest_manager()
                request = RESTRequest(RESTMethod.GET, server.url(), throttler_limit_id="any")
                await (await manager.call(request)).read()
                with pytest.raises(DeadlineExceeded):
                    await manager.call(request, timeout=0.05)
                free = RESTRequest(RESTMethod.GET, server.url())
                await (await manager.call(free)).read()
                assert len(server.seen) == 2

        run(main())

    def test_a_dict_is_a_form_and_a_list_is_json(self, run, serve):
        async def main() -> None:
            async with serve() as server, make_factory() as factory:
                manager = await factory.get_rest_manager()
                for data in ({"a": "1"}, [("b", "2")], [1, 2], [], {}):
                    request = RESTRequest(RESTMethod.POST, server.url(), data=data)
                    await (await manager.call(request)).read()
                    assert request.data == data
                    assert request.headers is None
                sent = [(s["headers"].get("Content-Type"), s["body"]) for s in server.seen]
                assert sent[:4] == [
                    (FORM, b"a=1"),
                    (FORM, b"b=2"),
                    (JSON, b"[1, 2]"),
                    (JSON, b"[]"),
                ]
                assert sent[4][1] == b""

        run(main())

    def test_a_request_without_url_is_a_value_error(self, run, serve):
        async def main() -> None:
            async with make_factory() as factory:
                manager = await factory.get_rest_manager()
                with pytest.raises(ValueError, match="Request URL cannot be None"):
                    await manager.call(RESTRequest(RESTMethod.GET, endpoint_url="/x"))

        run(main())


class TestProcessors:
    def test_the_callers_request_is_never_changed(self, run, serve):
        async def main() -> None:
            factory = make_factory(rest_pre_processors=[Mark()], auth=APIKeyAuth("k"))
            async with serve() as server, factory:
                manager = await factory.get_rest_manager()
                params, data, headers = {"p": "1"}, {"d": "1"}, {"H": "1"}
                request = RESTRequest(
                    RESTMethod.POST,
                    endpoint_url=server.url(),
                    params=params,
                    data=data,
                    headers=headers,
                    is_auth_required=True,
                )
                await (await manager.call(request)).read()
                seen = server.seen[0]
                assert (seen["query"], seen["body"]) == ("p=1&mark=1", b"d=1&mark=1")
                assert (seen["headers"]["X-Mark"], seen["headers"]["X-API-Key"]) == ("1", "k")
                assert (params, data, headers) == ({"p": "1"}, {"d": "1"}, {"H": "1"})
                assert request.url is None

        run(main())

    def test_nothing_is_copied_when_nothing_could_change_it(self, run, serve):
        class Uncopyable(dict[str, str]):
            def __deepcopy__(self, memo: Any) -> Any:
                raise AssertionError("copied")

        async def main() -> None:
            async with serve() as server, make_factory(auth=APIKeyAuth("k")) as factory:
                manager = await factory.get_rest_manager()
                request = RESTRequest(RESTMethod.POST, server.url(), data=Uncopyable(a="1"))
                await (await manager.call(request)).read()
                assert server.seen[0]["body"] == b"a=1"
                request.is_auth_required = True
                with pytest.raises(AssertionError, match="copied"):
                    await manager.call(request)

        run(main())

    def test_they_run_in_order_around_auth_and_connection(self, run, serve):
        order: list[str] = []

        class Pre(RESTPreProcessor):
            def __init__(self, name: str) -> None:
                self.name = name

            async def pre_process(self, request: RESTRequest) -> RESTRequest:
                order.append(self.name)
                return request

        class Post(RESTPostProcessor):
            def __init__(self, name: str) -> None:
                self.name = name

            async def post_process(self, response: RESTResponse) -> RESTResponse:
                order.append(self.name)
                return response

        class Signer(APIKeyAuth):
            async def rest_authenticate(self, request: RESTRequest) -> RESTRequest:
                order.append("auth")
                return await super().rest_authenticate(request)

        async def main() -> None:
            async def handler(_request: web.Request) -> web.Response:
                order.append("server")
                return web.json_response({})

            factory = make_factory(
                auth=Signer("k"),
                rest_pre_processors=[Pre("pre 1"), Pre("pre 2")],
                rest_post_processors=[Post("post 1"), Post("post 2")],
            )
            async with serve({"/x": handler}) as server, factory:
                manager = await factory.get_rest_manager()
                await manager.execute_request(server.url("/x"), "any", is_auth_required=True)
            assert order == ["pre 1", "pre 2", "auth", "server", "post 1", "post 2"]

        run(main())

    def test_a_post_processor_that_fails_leaves_no_connection_behind(self, run, serve):
        class Fails(RESTPostProcessor):
            async def post_process(self, response: RESTResponse) -> RESTResponse:
                kept.append(response)  # so that no destructor helps
                raise LookupError("no")

        async def stalled(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Length": "100"})
            await response.prepare(request)
            await gate.wait()
            return response

        kept: list[RESTResponse] = []
        gate = asyncio.Event()

        async def main() -> None:
            def settings() -> dict[str, Any]:
                return {"connector": aiohttp.TCPConnector(limit=1)}

            factory = make_factory(rest_post_processors=[Fails()], session_kwargs=settings)
            async with serve({"/stalled": stalled}) as server, factory:
                manager = await factory.get_rest_manager()
                for _ in range(3):
                    with pytest.raises(LookupError):
                        await manager.execute_request(server.url("/stalled"), "any", timeout=10)
                gate.set()

        run(main())

    def test_one_that_uses_the_same_manager_does_not_wait_for_itself(self, run, serve):
        """Under a limit of one request per window, the nested one goes first."""

        class Nested(RESTPreProcessor):
            manager: Any = None
            calls = 0

            async def pre_process(self, request: RESTRequest) -> RESTRequest:
                self.calls += 1
                if self.calls == 1:
                    await self.manager.execute_request(request.url + "/nested", "any")
                return request

        async def main() -> None:
            nested = Nested()
            throttler = AsyncThrottler([RateLimit("any", 1, 0.05)])
            factory = ConnectionManagersFactory(throttler, rest_pre_processors=[nested])
            async with serve() as server, factory:
                manager = nested.manager = await factory.get_rest_manager()
                await manager.execute_request(server.url("/outer"), "any", timeout=30)
                assert [seen["path"] for seen in server.seen] == ["/outer/nested", "/outer"]

        run(main())

    def test_one_that_uses_the_same_manager_every_time_is_not_asked_for_ever(self, run, serve):
        class Remote(APIKeyAuth):
            manager: Any = None
            signed = 0

            async def rest_authenticate(self, request: RESTRequest) -> RESTRequest:
                self.signed += 1
                await self.manager.execute_request(request.url + "/sign", "any")
                return await super().rest_authenticate(request)

        async def main() -> None:
            remote = Remote("k")
            throttler = AsyncThrottler([RateLimit("any", 1, 0.05)])
            factory = ConnectionManagersFactory(throttler, auth=remote)
            async with serve() as server, factory:
                manager = remote.manager = await factory.get_rest_manager()
                url = server.url("/outer")
                await manager.execute_request(url, "any", is_auth_required=True, timeout=30)
                assert server.seen[-1]["path"] == "/outer"
                assert server.seen[-1]["headers"]["X-API-Key"] == "k"
                assert remote.signed == 2

        run(main())


def test_a_401_is_told_to_the_auth_that_signed_it(run, serve):
    class Noticing(APIKeyAuth):
        refused: list[str]

        def unauthorized(self, request: RESTRequest) -> None:
            self.refused.append(request.headers["X-API-Key"])

    async def main() -> None:
        auth = Noticing("k")
        auth.refused = []
        async with serve({"/x": status_handler(401, "")}) as server, make_factory(auth=auth) as f:
            manager = await f.get_rest_manager()
            for signed in (True, False):
                with pytest.raises(HTTPStatusError):
                    await manager.execute_request(server.url("/x"), "any", is_auth_required=signed)
            assert auth.refused == ["k"]

    run(main())


def test_nothing_secret_is_logged_or_shown(run, serve, caplog):
    async def main() -> None:
        async with serve({"/x": status_handler(500, "")}) as server:
            factory = make_factory(auth=APIKeyAuth("hunter2"))
            async with factory:
                manager = await factory.get_rest_manager()
                request = RESTRequest(
                    RESTMethod.POST,
                    server.url("/x?key=hunter2"),
                    params={"key": "hunter2"},
                    data={"key": "hunter2"},
                    headers={"key": "hunter2"},
                    is_auth_required=True,
                )
                response = await manager.call(request)
                assert "hunter2" not in repr(request) + repr(response) + repr(factory.auth)
                with pytest.raises(HTTPStatusError) as caught:
                    response.raise_for_status()
                assert "hunter2" not in str(caught.value) + repr(caught.value)
                with pytest.raises(DeadlineExceeded) as late:
                    await manager.call(request, timeout=-1)
                assert "hunter2" not in str(late.value)

    with caplog.at_level(logging.DEBUG):
        run(main())
    assert "hunter2" not in caplog.text
