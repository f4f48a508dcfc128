"""Every snippet of the seed, `shared/seeds/networkpype-connection-factory.txt`, against a server.

The snippets stand here as they stand there (indentation, lost in the seed, is put back); URLs,
and the `...` that the seed leaves open, are replaced.
"""

import contextlib
import io

import pytest
from aiohttp import web

CONNECTIONS_FACTORY = """
from networkpype.factory import ConnectionsFactory
factory = ConnectionsFactory()
rest_conn = await factory.get_rest_connection()
ws_conn = await factory.get_ws_connection()
# Update cookies across the shared session
await factory.update_cookies({"session_id": "abc123"})
# Always close when done
await factory.close()
"""

MANAGERS_FACTORY = """
from networkpype.factory import ConnectionManagersFactory
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler
throttler = AsyncThrottler(
    rate_limits=[RateLimit(limit_id="default", limit=10, time_interval=1.0)]
)
factory = ConnectionManagersFactory(throttler=throttler)
"""

FULL_CONFIGURATION = """
from networkpype.factory import ConnectionManagersFactory
from networkpype.throttler.throttler import AsyncThrottler
from networkpype.throttler.rate_limit import RateLimit
from networkpype.time_synchronizer import TimeSynchronizer
from networkpype.rest.processor.time_synchronizer import TimeSynchronizerRESTPreProcessor
synchronizer = TimeSynchronizer(max_samples=5)
throttler = AsyncThrottler(
    rate_limits=[RateLimit(limit_id="default", limit=10, time_interval=1.0)]
)
factory = ConnectionManagersFactory(
    throttler=throttler,
    auth=MyAuth(api_key="key", api_secret="secret"),
    rest_pre_processors=[
        TimeSynchronizerRESTPreProcessor(
            synchronizer=synchronizer,
            time_provider=fetch_server_time,
        )
    ],
    rest_post_processors=[],
    ws_pre_processors=[],
    ws_post_processors=[],
    time_synchronizer=synchronizer,
)
"""

GETTING_MANAGERS = """
rest_manager = await factory.get_rest_manager()
ws_manager = await factory.get_ws_manager()
"""

SHARED_STATE = """
factory.throttler # AsyncThrottler
factory.time_synchronizer # TimeSynchronizer | None
factory.auth # Auth | None
"""

LIFECYCLE = """
try:
    manager = await factory.get_rest_manager()
    data = await manager.execute_request(...)
finally:
    await factory.close()
"""

SHARING = """
import asyncio
from networkpype.factory import ConnectionManagersFactory
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler
from networkpype.rest.method import RESTMethod
async def fetch_ticker(factory: ConnectionManagersFactory, symbol: str) -> dict:
    manager = await factory.get_rest_manager()
    return await manager.execute_request(
        url=f"https://api.example.com/ticker/{symbol}",
        throttler_limit_id="ticker",
        method=RESTMethod.GET,
    )
async def main():
    throttler = AsyncThrottler(
        rate_limits=[RateLimit(limit_id="ticker", limit=5, time_interval=1.0)]
    )
    factory = ConnectionManagersFactory(throttler=throttler)
    try:
        results = await asyncio.gather(
            fetch_ticker(factory, "BTCUSDT"),
            fetch_ticker(factory, "ETHUSDT"),
        )
        print(results)
    finally:
        await factory.close()
asyncio.run(main())
"""

# What the seed takes as given in "Full Configuration".
MY_AUTH = """
from networkpype.auth import Auth
class MyAuth(Auth):
    def __init__(self, api_key, api_secret):
        super().__init__()
        self.api_key, self.api_secret = api_key, api_secret
    async def rest_authenticate(self, request):
        request.headers["X-Key"] = self.api_key
        return request
    async def ws_authenticate(self, request):
        return request
async def fetch_server_time():
    return 1_700_000_000_000
"""


async def execute(names: dict[str, object], *snippets: str) -> dict[str, object]:
    """Run snippets one after the other in one namespace; `await` may be used."""
    for snippet in snippets:
        lines = "".join(f"    {line}\n" for line in snippet.strip().splitlines())
        source = f"async def snippet():\n{lines}    globals().update(locals())\n"
        exec(compile(source, "<seed>", "exec"), names)
        await names["snippet"]()  # type: ignore[operator]
    return names


async def ticker(request: web.Request) -> web.Response:
    return web.json_response({"symbol": request.match_info["symbol"], "price": "1.0"})


ROUTES = {"/ticker/{symbol}": ticker}


def test_connections_factory(run, serve):
    async def main() -> None:
        names = await execute({}, CONNECTIONS_FACTORY)
        from networkpype.rest.connection import RESTConnection
        from networkpype.websocket.connection import WebSocketConnection

        assert isinstance(names["rest_conn"], RESTConnection)
        assert isinstance(names["ws_conn"], WebSocketConnection)

    run(main())


def test_managers_factory_and_lifecycle(run, serve):
    async def main() -> None:
        async with serve(ROUTES) as server:
            arguments = f'"{server.url("/ticker/A")}", "default"'
            lifecycle = LIFECYCLE.replace("...", arguments)
            names = await execute({}, MANAGERS_FACTORY, GETTING_MANAGERS, lifecycle)
            assert names["data"] == {"symbol": "A", "price": "1.0"}
            assert names["rest_manager"] is not names["manager"]
            # "Calling close is idempotent if the session was never opened."
            await execute({}, MANAGERS_FACTORY, "await factory.close()")

    run(main())


def test_keyword_arguments_of_get_ws_manager_reach_the_session(run, serve):
    async def main() -> None:
        snippet = (
            "import aiohttp\n"
            "jar = aiohttp.DummyCookieJar()\n"
            "ws_manager = await factory.get_ws_manager(cookie_jar=jar)\n"
            "await factory.update_cookies({'a': 'b'})\n"
            "await factory.close()"
        )
        names = await execute({}, MANAGERS_FACTORY, snippet)
        assert list(names["jar"]) == []

    run(main())


def test_full_configuration_and_shared_state(run, serve):
    async def main() -> None:
        async with serve(ROUTES) as server:
            call = f"""
data = await rest_manager.execute_request(
    url="{server.url("/echo")}", throttler_limit_id="default", is_auth_required=True
)
state = (factory.throttler, factory.time_synchronizer, factory.auth)
"""
            names = await execute(
                {}, MY_AUTH, FULL_CONFIGURATION, GETTING_MANAGERS, SHARED_STATE, call
            )
            await execute(names, "await factory.close()")
            auth = names["factory"].auth
            assert names["state"] == (names["throttler"], names["synchronizer"], auth)
            assert server.seen[0]["headers"]["X-Key"] == "key"
            assert abs(names["synchronizer"].time() - 1_700_000_000) < 60

    run(main())


def test_sharing_a_factory_across_tasks(run, serve):
    output = io.StringIO()

    async def main() -> None:
        async with serve(ROUTES) as server:
            source = SHARING.replace("https://api.example.com", server.url(""))
            # The snippet starts a loop of its own, so here its main() is awaited instead.
            source = source.replace("asyncio.run(main())", "await main()")
            with contextlib.redirect_stdout(output):
                await execute({}, source)

    run(main())
    prices = [{"symbol": symbol, "price": "1.0"} for symbol in ("BTCUSDT", "ETHUSDT")]
    assert output.getvalue() == f"{prices}\n"


def test_the_snippets_are_those_of_the_seed(request: pytest.FixtureRequest):
    """Compare without indentation, where the seed is at hand."""
    seed = request.config.rootpath.parent / "shared/seeds/networkpype-connection-factory.txt"
    if not seed.exists():
        pytest.skip("the seed is not on this machine")
    lines = [line.strip() for line in seed.read_text().splitlines()]
    text = "\n".join(lines)
    snippets = (
        CONNECTIONS_FACTORY,
        MANAGERS_FACTORY,
        FULL_CONFIGURATION,
        GETTING_MANAGERS,
        SHARED_STATE,
        LIFECYCLE,
        SHARING,
    )
    for snippet in snippets:
        assert "\n".join(line.strip() for line in snippet.strip().splitlines()) in text
