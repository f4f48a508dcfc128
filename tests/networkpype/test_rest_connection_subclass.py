"""Connections of a program's own: a manager sends with their `call()`."""

import contextlib

import aiohttp
import pytest

from networkpype._session import SharedSession
from networkpype.rest.connection import RESTConnection
from networkpype.rest.manager import RESTManager
from networkpype.rest.request import RESTRequest
from networkpype.rest.response import RESTResponse
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler


class Logging(RESTConnection):
    def __init__(self, session):
        super().__init__(session)
        self.log = []

    async def call(self, request, encoded=False, **aiohttp_kwargs):
        self.log.append((str(request.method), encoded, aiohttp_kwargs))
        response = await super().call(request, encoded, **aiohttp_kwargs)
        self.log.append(response.status)
        return response


class Caching(RESTConnection):
    def __init__(self, session):
        super().__init__(session)
        self.cache: dict[str, RESTResponse] = {}

    async def call(self, request, encoded=False, **aiohttp_kwargs):
        if request.url not in self.cache:
            response = await super().call(request, encoded, **aiohttp_kwargs)
            await response.read()
            self.cache[request.url] = response
        return self.cache[request.url]


class Announcing(RESTConnection):
    """Send a request of its own before each."""

    async def call(self, request, encoded=False, **aiohttp_kwargs):
        head = RESTRequest(request.method, request.url + "/first")
        async with await super().call(head):
            pass
        return await super().call(request, encoded, **aiohttp_kwargs)


@contextlib.asynccontextmanager
async def open_session(kind):
    """Open a session of a factory, or one of the caller."""
    if kind == "own":
        async with aiohttp.ClientSession() as session:
            yield session
    else:
        shared = SharedSession("ConnectionsFactory")
        yield shared
        await shared.close()


sessions = pytest.mark.parametrize("kind", ["own", "shared"])


def manager_of(connection: RESTConnection) -> RESTManager:
    throttler = AsyncThrottler([RateLimit("any", 100, 60)], safety_margin_pct=0.0)
    return RESTManager(connection, throttler)


@sessions
def test_a_logging_connection_sees_all(run, serve, kind):
    async def main() -> None:
        async with serve() as server, open_session(kind) as session:
            connection = Logging(session)
            manager = manager_of(connection)
            url = server.url()
            assert await manager.execute_request(url, "any", encoded=True, ssl=False) == {"n": 1}
            response = await manager.call(RESTRequest("GET", url))
            assert await response.json() == {"n": 2}
            assert connection.log == [("GET", True, {"ssl": False}), 200, ("GET", False, {}), 200]

    run(main())


@sessions
def test_a_caching_connection_sends_once(run, serve, kind):
    async def main() -> None:
        async with serve() as server, open_session(kind) as session:
            manager = manager_of(Caching(session))
            for _ in range(3):
                assert await manager.execute_request(server.url(), "any") == {"n": 1}
            assert len(server.seen) == 1

    run(main())


@sessions
def test_a_connection_may_send_more_than_the_request(run, serve, kind):
    async def main() -> None:
        async with serve() as server, open_session(kind) as session:
            manager = manager_of(Announcing(session))
            assert await manager.execute_request(server.url(), "any") == {"n": 2}
            assert [each["path"] for each in server.seen] == ["/echo/first", "/echo"]

    run(main())


@sessions
def test_a_connection_without_a_network_needs_no_session(run, kind):
    class Canned(RESTConnection):
        async def call(self, request, encoded=False, **aiohttp_kwargs):
            raise LookupError(request.url)

    async def main() -> None:
        async with open_session(kind) as session:
            manager = manager_of(Canned(session))
            with pytest.raises(LookupError, match="http://nowhere"):
                await manager.execute_request("http://nowhere/", "any")

    run(main())
