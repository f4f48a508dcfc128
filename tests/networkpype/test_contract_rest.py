"""One test per fix line of the contract, REST, factories, auth and clock.

Only names of networkpype 1.1, and errors of Python, are used, so that with `conftest.py` beside
it the file also runs on 1.1.5. There every test fails.
"""

import asyncio
import contextlib
import io
import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from networkpype.auth import Auth
from networkpype.factory import ConnectionManagersFactory, ConnectionsFactory
from networkpype.rest.method import RESTMethod
from networkpype.rest.processor.base import RESTPreProcessor
from networkpype.rest.processor.time_synchronizer import TimeSynchronizerRESTPreProcessor
from networkpype.rest.request import RESTRequest
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler
from networkpype.time_synchronizer import TimeSynchronizer


def make_factory(limit: int = 100, interval: float = 60.0, **options: Any) -> Any:
    throttler = AsyncThrottler([RateLimit("any", limit, interval)], safety_margin_pct=0.0)
    return ConnectionManagersFactory(throttler, **options)


@contextlib.asynccontextmanager
async def closing(factory: Any):
    try:
        yield factory
    finally:
        await factory.close()


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[aiohttp.ClientSession]:
    made: list[aiohttp.ClientSession] = []
    init = aiohttp.ClientSession.__init__

    def noting(session: aiohttp.ClientSession, *args: Any, **keywords: Any) -> None:
        init(session, *args, **keywords)
        made.append(session)

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", noting)
    return made


class TestFactories:
    def test_settings_that_come_too_late_are_an_error(self, run):
        async def main() -> None:
            async with closing(ConnectionsFactory()) as factory:
                await factory.get_rest_connection()
                with pytest.raises(ValueError, match="trust_env"):
                    await factory.get_ws_connection(trust_env=True)

        run(main())

    def test_a_session_that_was_closed_elsewhere_is_replaced(self, run, serve, sessions):
        async def main() -> None:
            async with serve() as server, closing(make_factory()) as factory:
                manager = await factory.get_rest_manager()
                await manager.execute_request(server.url(), "any")
                await sessions[0].close()
                assert await manager.execute_request(server.url(), "any") == {"n": 2}

        run(main())

    def test_a_session_of_a_dead_loop_is_replaced(self, serve):
        factory = make_factory()
        managers = []

        async def use() -> None:
            async with serve() as server:
                managers.append(await factory.get_rest_manager())
                for manager in managers:
                    await asyncio.wait_for(manager.execute_request(server.url(), "any"), 30)

        async def use_and_close() -> None:
            await use()
            await factory.close()

        asyncio.run(use())
        asyncio.run(use_and_close())

    def test_a_manager_of_a_closed_factory_says_which_factory(self, run, serve):
        async def main() -> None:
            async with serve() as server:
                factory = make_factory()
                manager = await factory.get_rest_manager()
                await manager.execute_request(server.url(), "any")
                await factory.close()
                with pytest.raises(RuntimeError, match="ConnectionManagersFactory") as caught:
                    await manager.execute_request(server.url(), "any")
                assert "Session is closed" not in str(caught.value)

        run(main())

    def test_async_with_and_session_kwargs(self, run, serve):
        async def main() -> None:
            session_kwargs = {"headers": {"X-Session": "1"}}
            async with serve() as server, make_factory(session_kwargs=session_kwargs) as factory:
                manager = await factory.get_rest_manager()
                await manager.execute_request(server.url(), "any")
                assert server.seen[0]["headers"]["X-Session"] == "1"
            async with ConnectionsFactory() as connections:
                assert await connections.get_rest_connection()

        run(main())


class TestManager:
    @pytest.mark.parametrize(
        ("data", "sent"),
        [([1, {"a": None}], b'[1, {"a": null}]'), (b"\x00\x01", b"\x00\x01"), ({}, b"{}")],
    )
    def test_list_bytes_and_empty_dict_arrive(self, run, serve, data, sent):
        async def main() -> None:
            async with serve() as server, closing(make_factory()) as factory:
                manager = await factory.get_rest_manager()
                await manager.execute_request(
                    server.url(), "any", data=data, method=RESTMethod.POST
                )
                assert server.seen[0]["body"] == sent

        run(main())

    def test_timeout_covers_the_wait(self, run, serve):
        async def main() -> None:
            async with serve() as server, closing(make_factory(limit=1)) as factory:
                manager = await factory.get_rest_manager()
                await manager.execute_request(server.url(), "any")
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(
                        self.late(manager.execute_request(server.url(), "any", timeout=0.05)), 5
                    )

        run(main())

    @staticmethod
    async def late(request: Any) -> Any:
        """Tell our own patience apart from the timeout of the request."""
        try:
            return await request
        except asyncio.CancelledError:
            raise AssertionError("the timeout did not end the request") from None

    def test_timeout_covers_auth(self, run, serve):
        class Slow(Auth):
            async def rest_authenticate(self, request: RESTRequest) -> RESTRequest:
                await asyncio.Event().wait()
                return request

            async def ws_authenticate(self, request: Any) -> Any:
                return request

        async def main() -> None:
            async with serve() as server, closing(make_factory(auth=Slow())) as factory:
                manager = await factory.get_rest_manager()
                request = manager.execute_request(
                    server.url(), "any", is_auth_required=True, timeout=0.05
                )
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(self.late(request), 5)

        run(main())

    def test_timeout_covers_the_body(self, run, serve):
        async def main() -> None:
            gate = asyncio.Event()

            async def no_body(request: web.Request) -> web.StreamResponse:
                response = web.StreamResponse(headers={"Content-Length": "100"})
                await response.prepare(request)
                await gate.wait()
                return response

            async with serve({"/x": no_body}) as server, closing(make_factory()) as factory:
                manager = await factory.get_rest_manager()
                request = manager.execute_request(server.url("/x"), "any", timeout=0.1)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(self.late(request), 5)
                gate.set()

        run(main())

    def test_nothing_is_sent_unsigned(self, run, serve):
        async def main() -> None:
            async with serve() as server, closing(make_factory()) as factory:
                manager = await factory.get_rest_manager()
                with pytest.raises(Exception, match="Auth"):
                    await manager.execute_request(server.url(), "any", is_auth_required=True)
                assert server.seen == []

        run(main())

    def test_an_error_body_that_is_not_json_does_not_hide_the_status(self, run, serve):
        async def main() -> None:
            async def bad_gateway(_request: web.Request) -> web.Response:
                return web.Response(status=502, text="<h1>", content_type="text/html")

            async with serve({"/x": bad_gateway}) as server, closing(make_factory()) as factory:
                manager = await factory.get_rest_manager()
                with pytest.raises(OSError, match=r"HTTP status is 502\. Error: <h1>"):
                    await manager.execute_request(server.url("/x"), "any", return_err=True)

        run(main())

    def test_call_honours_the_limit_of_its_request(self, run, serve):
        async def main() -> None:
            async with serve() as server, closing(make_factory(limit=1)) as factory:
                manager = await factory.get_rest_manager()
                request = RESTRequest(RESTMethod.GET, server.url(), throttler_limit_id="any")
                await (await manager.call(request)).json()
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(manager.call(request), 0.2)
                assert len(server.seen) == 1

        run(main())

    def test_nothing_is_copied_when_nothing_could_change_it(self, run, serve):
        class Uncopyable(dict[str, str]):
            def __deepcopy__(self, memo: Any) -> Any:
                raise AssertionError("copied")

        async def main() -> None:
            async with serve() as server, closing(make_factory()) as factory:
                manager = await factory.get_rest_manager()
                request = RESTRequest(RESTMethod.POST, server.url(), data=Uncopyable(a="1"))
                await (await manager.call(request)).json()
                assert server.seen[0]["body"] == b"a=1"

        run(main())

    @pytest.mark.parametrize("kind", ["file", "iterator"])
    def test_a_file_body_is_never_copied(self, run, serve, tmp_path, kind):
        class Pass(RESTPreProcessor):
            async def pre_process(self, request: RESTRequest) -> RESTRequest:
                bodies.append(request.data)
                return request

        async def pieces():
            yield b"content"

        bodies: list[Any] = []
        path = tmp_path / "body"
        path.write_bytes(b"content")

        async def main() -> None:
            factory = make_factory(rest_pre_processors=[Pass()])
            async with serve() as server, closing(factory):
                manager = await factory.get_rest_manager()
                with path.open("rb") as file:
                    body = file if kind == "file" else pieces()
                    request = RESTRequest(RESTMethod.POST, server.url(), data=body)
                    await (await manager.call(request)).json()
                assert server.seen[0]["body"] == b"content"
                assert bodies == [body]

        run(main())


class TestClockAndAuth:
    @pytest.mark.parametrize("limit", [1, 10])
    def test_a_time_provider_that_uses_the_manager_does_not_deadlock(self, run, serve, limit):
        async def main() -> None:
            async with serve() as server:

                async def provider() -> float:
                    await manager.execute_request(server.url("/time"), "any")
                    return 1_700_000_000_000.0

                clock = TimeSynchronizer()
                processor = TimeSynchronizerRESTPreProcessor(clock, provider)
                factory = make_factory(limit, 0.05, rest_pre_processors=[processor])
                async with closing(factory):
                    manager = await factory.get_rest_manager()
                    requests = (manager.execute_request(server.url("/x"), "any") for _ in range(3))
                    await asyncio.wait_for(asyncio.gather(*requests), 5)
                paths = [seen["path"] for seen in server.seen]
                assert paths == ["/time", "/x", "/x", "/x"]

        run(main())

    def test_auth_is_abstract(self):
        with pytest.raises(TypeError, match="abstract"):
            Auth()


def test_additions(run, serve):
    """PATCH, HEAD, OPTIONS; read, iter_bytes, release, raise_for_status."""

    async def main() -> None:
        async with serve() as server, closing(make_factory()) as factory:
            manager = await factory.get_rest_manager()
            for method in (RESTMethod.PATCH, RESTMethod.HEAD, RESTMethod.OPTIONS):
                response = await manager.call(RESTRequest(method, server.url()))
                assert response.method is method
                response.raise_for_status()
                response.release()
            response = await manager.call(RESTRequest(RESTMethod.GET, server.url()))
            assert json.load(io.BytesIO(await response.read())) == {"n": 4}
            assert b"".join([piece async for piece in response.iter_bytes()]) == b'{"n": 4}'

    run(main())
