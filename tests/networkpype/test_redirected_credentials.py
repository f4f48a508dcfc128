"""Keys in headers do not follow a redirect to another origin."""

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from networkpype.factory import ConnectionManagersFactory
from networkpype.rest.connection import RESTConnection
from networkpype.rest.manager import RESTManager
from networkpype.rest.method import RESTMethod
from networkpype.rest.request import RESTRequest
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler

SECRETS = [
    "Authorization",
    "X-API-Key",
    "x-api-key",
    "Cookie",
    "X-MBX-APIKEY",
    "KC-API-PASSPHRASE",
    "X-Auth-Token",
    "Proxy-Authorization",
    "X-Client-Secret",
    "OK-ACCESS-SIGN",
    "Vendor-Number",  # listed by the caller
]
HARMLESS = ["Accept-Language", "X-Request-Id", "Idempotency-Key", "User-Agent"]


class Session:
    """A way to have a manager, with default headers of its session or without."""

    def __init__(self, kind, headers):
        self.session_kwargs = {"headers": headers} if headers else {}
        self.is_own = kind == "own"
        self.throttler = AsyncThrottler([RateLimit("any", 1000, 1)])

    async def __aenter__(self):
        listed = ["vendor-number"]
        if self.is_own:
            self.closing = aiohttp.ClientSession(**self.session_kwargs)
            connection = RESTConnection(self.closing, credential_headers=listed)
            return RESTManager(connection, self.throttler)
        self.closing = ConnectionManagersFactory(
            self.throttler, session_kwargs=self.session_kwargs, credential_headers=listed
        )
        return await self.closing.get_rest_manager()

    async def __aexit__(self, *_):
        await self.closing.close()


def redirect_to(url, status=307):
    async def redirect(_request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": url()})

    return redirect


@pytest.mark.parametrize("kind", ["factory", "own"])
@pytest.mark.parametrize("given", ["call", "session"])
@pytest.mark.parametrize("status", [301, 307])
def test_credentials_stay_at_their_origin(run, serve, kind, given, status):
    async def main() -> None:
        headers = dict.fromkeys([*SECRETS, *HARMLESS], "a=b")
        per_session, per_call = (headers, None) if given == "session" else (None, headers)
        async with serve() as foreign:
            urls = {}
            routes = {
                "/away": redirect_to(lambda: foreign.url("/there"), status),
                "/within": redirect_to(lambda: urls["away"], status),
            }
            async with serve(routes) as server, Session(kind, per_session) as manager:
                urls["away"] = server.url("/away")
                await manager.execute_request(server.url("/within"), "any", headers=per_call)
            (seen,) = foreign.seen
            names = {name.lower() for name in seen["headers"]}
            assert names.isdisjoint(name.lower() for name in SECRETS)
            assert names.issuperset(name.lower() for name in HARMLESS)

    run(main())


@pytest.mark.parametrize("kind", ["factory", "own"])
def test_they_follow_within_the_origin_and_do_not_come_back(run, serve, kind):
    async def main() -> None:
        headers = {"X-API-Key": "k"}
        urls = {}
        async with serve({"/back": redirect_to(lambda: urls["end"])}) as foreign:
            routes = {
                "/old": redirect_to(lambda: urls["new"]),
                "/away": redirect_to(lambda: foreign.url("/back")),
            }
            async with serve(routes) as server, Session(kind, None) as manager:
                urls.update(new=server.url("/new"), end=server.url("/end"))
                await manager.execute_request(server.url("/old"), "any", headers=headers)
                assert server.seen[-1]["headers"]["X-API-Key"] == "k"
                await manager.execute_request(server.url("/away"), "any", headers=headers)
                assert "X-API-Key" not in server.seen[-1]["headers"]

    run(main())


def test_a_connection_alone_keeps_them_too_and_middlewares_go_on(run, serve):
    calls = []

    async def count(request, handler):
        calls.append(request.url.path)
        return await handler(request)

    async def main() -> None:
        async with serve() as foreign:
            async with (
                serve({"/away": redirect_to(foreign.url)}) as server,
                aiohttp.ClientSession(middlewares=[count]) as session,
            ):
                connection = RESTConnection(session)
                request = RESTRequest(
                    RESTMethod.GET, server.url("/away"), headers={"X-Token": "t"}
                )
                async with await connection.call(request):
                    pass
                async with await connection.call(request, middlewares=[count]):
                    pass
            assert all("X-Token" not in seen["headers"] for seen in foreign.seen)
            assert calls == ["/away", "/echo"] * 2

    run(main())


def test_cookies_of_the_other_origin_are_sent(run, serve):
    async def main() -> None:
        async with serve() as foreign:
            async with (
                serve({"/away": redirect_to(foreign.url)}) as server,
                aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session,
            ):
                session.cookie_jar.update_cookies({"theirs": "1"}, URL(foreign.url()))
                manager = RESTManager(
                    RESTConnection(session), AsyncThrottler([RateLimit("any", 9, 1)])
                )
                headers = {"X-API-Key": "k", "Cookie": "ours=2"}
                await manager.execute_request(server.url("/away"), "any", headers=headers)
            # A port is not a part of a cookie's origin, so both servers share their cookies.
            assert foreign.seen[0]["headers"]["Cookie"] == "theirs=1"

    run(main())
