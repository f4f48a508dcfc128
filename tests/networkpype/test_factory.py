"""The factories: one session, made late, replaced when of no use, closed once."""

import asyncio
import gc
import http.server
import threading
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from networkpype.auth import APIKeyAuth
from networkpype.exceptions import ClosedError, ConfigurationError
from networkpype.factory import ConnectionManagersFactory, ConnectionsFactory
from networkpype.rest.method import RESTMethod
from networkpype.rest.request import RESTRequest
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler
from networkpype.time_synchronizer import TimeSynchronizer


def throttler(limit: int = 1000, time_interval: float = 60.0) -> AsyncThrottler:
    return AsyncThrottler([RateLimit("any", limit, time_interval)], safety_margin_pct=0.0)


class Sessions:
    """Count the sessions that are made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[aiohttp.ClientSession] = []
        init = aiohttp.ClientSession.__init__

        def counting(session: aiohttp.ClientSession, *args: Any, **keywords: Any) -> None:
            init(session, *args, **keywords)
            self.made.append(session)

        monkeypatch.setattr(aiohttp.ClientSession, "__init__", counting)

    @property
    def open(self) -> int:
        return sum(not session.closed for session in self.made)


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> Sessions:
    return Sessions(monkeypatch)


async def get(factory: ConnectionsFactory, url: str) -> Any:
    connection = await factory.get_rest_connection()
    return await (await connection.call(RESTRequest(RESTMethod.GET, url))).json()


def test_the_properties_are_read_only():
    limits, auth, clock = throttler(), APIKeyAuth("k"), TimeSynchronizer()
    factory = ConnectionManagersFactory(throttler=limits, auth=auth, time_synchronizer=clock)
    assert (factory.throttler, factory.auth, factory.time_synchronizer) == (limits, auth, clock)
    bare = ConnectionManagersFactory(limits)
    assert (bare.auth, bare.time_synchronizer) == (None, None)
    for name in ("throttler", "auth", "time_synchronizer"):
        with pytest.raises(AttributeError):
            setattr(factory, name, None)


def test_nothing_is_made_before_it_is_asked_for_and_close_needs_nothing(run, sessions):
    async def main() -> None:
        for factory in (ConnectionsFactory(), ConnectionManagersFactory(throttler())):
            await factory.close()
            await factory.close()
        assert sessions.made == []

    run(main())


def test_all_share_one_session_and_its_connections(run, serve, sessions):
    async def main() -> None:
        peers = set()

        async def peer(request: web.Request) -> web.Response:
            assert request.transport is not None
            peers.add(request.transport.get_extra_info("peername"))
            return web.json_response({})

        async with serve({"/peer": peer}) as server:
            factory = ConnectionManagersFactory(throttler())
            managers = [await factory.get_rest_manager() for _ in range(3)]
            assert len({id(manager) for manager in managers}) == 3
            for manager in managers:
                await manager.execute_request(server.url("/peer"), "any")
            assert (len(sessions.made), len(peers)) == (1, 1)
            await factory.close()
            assert sessions.open == 0
            await factory.close()

    run(main())


def test_managers_share_the_limit(run, serve):
    async def main() -> None:
        async with serve() as server, ConnectionManagersFactory(throttler(limit=2)) as factory:

            async def fetch() -> Any:
                manager = await factory.get_rest_manager()
                return await manager.execute_request(server.url(), "any", timeout=0.2)

            results = await asyncio.gather(*(fetch() for _ in range(3)), return_exceptions=True)
            assert sorted(isinstance(result, TimeoutError) for result in results) == [0, 0, 1]
            assert len(server.seen) == 2

    run(main())


@pytest.mark.parametrize("kind", [ConnectionsFactory, ConnectionManagersFactory])
def test_async_with_opens_and_closes(run, sessions, kind):
    async def main() -> None:
        factory = kind() if kind is ConnectionsFactory else kind(throttler())
        async with factory as entered:
            assert entered is factory
            assert sessions.open == 1
        assert sessions.open == 0

    run(main())


def test_cookies_are_shared(run, serve):
    async def main() -> None:
        async with serve() as server:
            limits = throttler()
            # An IP address is a host only to an unsafe jar.
            jar = {"cookie_jar": aiohttp.CookieJar(unsafe=True)}
            async with ConnectionManagersFactory(limits, session_kwargs=jar) as factory:
                manager = await factory.get_rest_manager()
                await factory.update_cookies({"session_id": "abc123"})
                await manager.execute_request(server.url(), "any")
            connections = ConnectionsFactory(
                session_kwargs=lambda: {"cookie_jar": aiohttp.CookieJar(unsafe=True)}
            )
            async with connections:
                await connections.update_cookies({"session_id": "abc123"})
                await get(connections, server.url())
            for seen in server.seen:
                assert seen["headers"]["Cookie"] == "session_id=abc123"

    run(main())


def test_update_cookies_makes_the_session(run, sessions):
    async def main() -> None:
        factory = ConnectionsFactory()
        await factory.update_cookies({"a": "b"})
        assert sessions.open == 1
        await factory.close()

    run(main())


class TestSettings:
    def test_keywords_of_the_first_connection_reach_the_session(self, run, sessions):
        async def main() -> None:
            factory = ConnectionsFactory()
            await factory.get_ws_connection(trust_env=True)
            assert sessions.made[0].trust_env
            # The same settings again, or none, are no contradiction.
            await factory.get_ws_connection(trust_env=True)
            await factory.get_ws_connection()
            assert len(sessions.made) == 1
            await factory.close()

        run(main())

    def test_other_settings_for_an_open_session_are_an_error(self, run):
        async def main() -> None:
            async with ConnectionsFactory() as factory:
                with pytest.raises(ConfigurationError, match=r"ConnectionsFactory.*trust_env"):
                    await factory.get_ws_connection(trust_env=True)
            async with ConnectionManagersFactory(
                throttler(), session_kwargs={"trust_env": False}
            ) as managers:
                with pytest.raises(ConfigurationError, match="ConnectionManagersFactory"):
                    await managers.get_ws_manager(trust_env=True)
                await managers.get_ws_manager(trust_env=False)

        run(main())

    def test_a_misspelt_keyword_raises_with_the_nearest_name(self, run, sessions):
        async def main() -> None:
            factory = ConnectionsFactory()
            with pytest.raises(TypeError, match="connector"):
                await factory.get_ws_connection(conector=None)
            managers = ConnectionManagersFactory(throttler())
            with pytest.raises(TypeError, match="trust_env"):
                await managers.get_ws_manager(trust_environment=True)
            assert sessions.made == []

        run(main())
        with pytest.raises(TypeError, match="timeout"):
            ConnectionsFactory(session_kwargs={"time_out": 1})
        with pytest.raises(TypeError):
            ConnectionsFactory(True)

    def test_a_connector_given_as_a_function_is_made_for_each_session(self, run, serve):
        async def main() -> None:
            factory = ConnectionsFactory(
                session_kwargs=lambda: {"connector": aiohttp.TCPConnector(limit=1)}
            )
            async with serve() as server:
                for _ in range(2):
                    assert await get(factory, server.url())
                    await factory.close()

        run(main())

    def test_a_connector_given_as_such_lives_as_long_as_its_session(self, run, serve):
        async def main() -> None:
            connector = aiohttp.TCPConnector()
            factory = ConnectionsFactory(session_kwargs={"connector": connector})
            async with serve() as server:
                await get(factory, server.url())
                await factory.close()
                with pytest.raises(ClosedError, match="function that returns a new connector"):
                    await factory.get_rest_connection()

        run(main())

    def test_traces_of_the_user_are_kept(self, run, serve):
        async def main() -> None:
            started: list[Any] = []

            async def on_start(_session: Any, context: Any, _params: Any) -> None:
                started.append(context.trace_request_ctx)

            trace = aiohttp.TraceConfig()
            trace.on_request_start.append(on_start)
            factory = ConnectionManagersFactory(
                throttler(), session_kwargs={"trace_configs": [trace]}
            )
            async with serve() as server, factory:
                manager = await factory.get_rest_manager()
                await manager.execute_request(server.url(), "any", trace_request_ctx="mine")
            assert started == ["mine"]

        run(main())


class TestReplacement:
    def test_a_session_closed_elsewhere_is_replaced(self, run, serve, sessions):
        async def main() -> None:
            async with serve() as server, ConnectionManagersFactory(throttler()) as factory:
                manager = await factory.get_rest_manager()
                await manager.execute_request(server.url(), "any")
                await sessions.made[0].close()
                assert await manager.execute_request(server.url(), "any") == {"n": 2}
                assert len(sessions.made) == 2

        run(main())

    def test_a_session_of_a_loop_that_is_gone_is_replaced(self, serve, sessions):
        factory = ConnectionManagersFactory(throttler(), session_kwargs={"trust_env": False})
        managers = []

        async def use() -> None:
            async with serve() as server:
                managers.append(await factory.get_rest_manager())
                for manager in managers:
                    assert await manager.execute_request(server.url(), "any")

        async def use_and_close() -> None:
            await use()
            await factory.close()

        asyncio.run(use())
        asyncio.run(use())
        asyncio.run(use_and_close())
        assert len(sessions.made) == 3
        assert sessions.open == 0

    # asyncio warns of the socket itself: no loop is left that could close it.
    @pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
    def test_a_connection_that_is_still_open_when_its_loop_goes_is_let_go(self, sessions):
        """The server lives on, so that nothing but the factory can give the connection up."""

        class Answer(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None: ...

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            try:
                url = f"http://127.0.0.1:{server.server_address[1]}/"
                factory = ConnectionManagersFactory(throttler())

                async def use(*, last: bool) -> None:
                    manager = await factory.get_rest_manager()
                    assert await manager.execute_request(url, "any") == {}
                    if last:
                        await factory.close()

                asyncio.run(use(last=False))
                asyncio.run(use(last=True))
                gc.collect()  # here, where the warning is expected
            finally:
                server.shutdown()
                thread.join()
        assert sessions.open == 0

    def test_close_in_another_loop_lets_go_of_the_session(self, serve, sessions):
        factory = ConnectionsFactory()

        async def use() -> None:
            async with serve() as server:
                await get(factory, server.url())

        asyncio.run(use())
        asyncio.run(factory.close())
        assert sessions.open == 0
        gc.collect()

    def test_two_loops_at_a_time_are_refused(self, run):
        async def main() -> None:
            async with ConnectionsFactory() as factory:

                def in_a_thread() -> None:
                    asyncio.run(factory.get_rest_connection())  # type: ignore[arg-type]

                with pytest.raises(ConfigurationError, match="another event loop"):
                    await asyncio.to_thread(in_a_thread)

        run(main())


class TestClose:
    def test_a_manager_handed_out_before_fails_naming_the_factory(self, run, serve, sessions):
        async def main() -> None:
            async with serve() as server:
                factory = ConnectionManagersFactory(throttler())
                manager = await factory.get_rest_manager()
                websocket = await factory.get_ws_manager()
                await factory.close()
                with pytest.raises(ClosedError, match="ConnectionManagersFactory"):
                    await manager.execute_request(server.url(), "any")
                with pytest.raises(ClosedError, match="ConnectionManagersFactory"):
                    await websocket.connect(server.url().replace("http", "ws"))
                assert sessions.open == 0
                # Asked again, the factory opens again, and the old manager works with it.
                again = await factory.get_rest_manager()
                assert await again.execute_request(server.url(), "any") == {"n": 1}
                assert await manager.execute_request(server.url(), "any") == {"n": 2}
                await factory.close()

        run(main())

    def test_a_connection_handed_out_before_fails_naming_the_factory(self, run, serve):
        async def main() -> None:
            async with serve() as server:
                factory = ConnectionsFactory()
                connection = await factory.get_rest_connection()
                await factory.close()
                with pytest.raises(ClosedError, match="ConnectionsFactory"):
                    await connection.call(RESTRequest(RESTMethod.GET, server.url()))

        run(main())

    @pytest.mark.parametrize("place", ["limit", "auth", "pool", "head", "body"])
    def test_what_waits_ends_with_an_error_that_names_the_factory(self, run, serve, place):
        class Slow(APIKeyAuth):
            async def rest_authenticate(self, request: RESTRequest) -> RESTRequest:
                if place == "auth":
                    reached.set()
                    await asyncio.Event().wait()
                return await super().rest_authenticate(request)

        reached = asyncio.Event()

        async def main() -> None:
            async def stall(request: web.Request) -> web.StreamResponse:
                response = web.StreamResponse(headers={"Content-Length": "100"})
                if place == "body":
                    await response.prepare(request)
                reached.set()
                await asyncio.sleep(3600)
                return response

            def settings() -> dict[str, Any]:
                return {"connector": aiohttp.TCPConnector(limit=1 if place == "pool" else 100)}

            async with serve({"/stall": stall}) as server:
                factory = ConnectionManagersFactory(
                    throttler(1 if place == "limit" else 100), Slow("k"), session_kwargs=settings
                )
                manager = await factory.get_rest_manager()

                async def fetch() -> Any:
                    return await manager.execute_request(
                        server.url("/stall"), "any", is_auth_required=True
                    )

                tasks = [asyncio.create_task(fetch()) for _ in range(2)]
                await reached.wait()
                for _ in range(5):
                    await asyncio.sleep(0)
                await factory.close()
                results = await asyncio.wait_for(
                    asyncio.gather(*tasks, return_exceptions=True), 30
                )
                assert [type(result) for result in results] == [ClosedError] * 2
                for result in results:
                    assert "ConnectionManagersFactory is closed" in str(result)
                assert not any(task.cancelled() for task in tasks)

        run(main())

    def test_a_stream_that_is_being_read_ends_with_an_error(self, run, serve):
        async def main() -> None:
            async def stall(request: web.Request) -> web.StreamResponse:
                response = web.StreamResponse()
                await response.prepare(request)
                await response.write(b"x")
                await asyncio.sleep(3600)
                return response

            async with serve({"/stall": stall}) as server:
                factory = ConnectionManagersFactory(throttler())
                manager = await factory.get_rest_manager()
                response = await manager.call(RESTRequest(RESTMethod.GET, server.url("/stall")))
                stream = response.iter_bytes()
                assert await anext(stream) == b"x"
                pending = asyncio.ensure_future(anext(stream))
                await asyncio.sleep(0)
                await factory.close()
                with pytest.raises(ClosedError, match="ConnectionManagersFactory"):
                    await asyncio.wait_for(pending, 30)

        run(main())

    def test_cancelling_from_outside_stays_a_cancellation(self, run, serve):
        async def main() -> None:
            async with serve() as server, ConnectionManagersFactory(throttler(1)) as factory:
                manager = await factory.get_rest_manager()
                await manager.execute_request(server.url(), "any")
                task = asyncio.create_task(
                    manager.execute_request(server.url(), "any", timeout=60)
                )
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        run(main())
