"""A signature covers the URL that is sent, however the URL was given."""

import hashlib
import hmac

import aiohttp
import pytest

from networkpype.auth import Auth, HMACHeaderAuth, HMACQueryAuth
from networkpype.factory import ConnectionManagersFactory
from networkpype.rest.connection import RESTConnection
from networkpype.rest.manager import RESTManager
from networkpype.rest.processor.base import RESTPreProcessor
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler

SECRET = b"secret"


class PathAuth(Auth):
    """An auth of a program's own."""

    async def rest_authenticate(self, request):
        url = request.wire_url()
        request.headers = {**(request.headers or {}), "X-Signed": url.raw_path_qs}
        return request

    async def ws_authenticate(self, request):
        return request


class Rewriting(RESTPreProcessor):
    async def pre_process(self, request):
        request.url = request.url.replace("v1", "v2")
        return request


def check_path(seen):
    assert seen["headers"]["X-Signed"] == seen["target"]


def check_header(seen):
    message = f"{seen['headers']['X-Timestamp']}GET{seen['target']}".encode() + seen["body"]
    expected = hmac.digest(SECRET, message, hashlib.sha256).hex()
    assert seen["headers"]["X-Signature"] == expected


def check_query(seen):
    query = seen["target"].partition("?")[2]
    signed, _, signature = query.rpartition("&signature=")
    assert signature == hmac.digest(SECRET, signed.encode() + seen["body"], hashlib.sha256).hex()


AUTHS = [
    (PathAuth, check_path),
    (lambda: HMACHeaderAuth("key", SECRET), check_header),
    (lambda: HMACQueryAuth("key", SECRET, recv_window_ms=5000), check_query),
]

URLS = [
    # url, params, encoded, target
    ("orders", None, False, "/api/v1/orders"),
    ("../v3/orders?a=1", {"b": "x y"}, False, "/api/v3/orders?a=1&b=x+y"),
    ("/orders", None, False, "/orders"),
    ("{base}a%2Fb?c=%2Cd", None, True, "/api/v1/a%2Fb?c=%2Cd"),
    ("{base}a?c=%61%2c%3A&c=1&e", {"d": "ä"}, True, "/api/v1/a?c=%61%2c%3A&c=1&e&d=%C3%A4"),
    ("x?c=%61%2F%2c#part", None, True, "/api/v1/x?c=%61%2F%2c"),
    ("{base}a b?c=d e#part", {"f": "g+h"}, False, "/api/v1/a%20b?c=d+e&f=g%2Bh"),
]


@pytest.mark.parametrize(("make_auth", "check"), AUTHS, ids=["own", "header", "query"])
@pytest.mark.parametrize(("url", "params", "encoded", "target"), URLS)
@pytest.mark.parametrize("kind", ["factory", "own session"])
def test_what_is_signed_is_sent(run, serve, make_auth, check, url, params, encoded, target, kind):
    async def main() -> None:
        throttler = AsyncThrottler([RateLimit("any", 100, 60)])
        async with serve() as server:
            base = server.url("/api/v1/")
            async with (
                ConnectionManagersFactory(
                    throttler, make_auth(), session_kwargs={"base_url": base}
                ) as factory,
                aiohttp.ClientSession(base_url=base) as session,
            ):
                manager = await factory.get_rest_manager()
                if kind == "own session":
                    manager = RESTManager(RESTConnection(session), throttler, auth=make_auth())
                await manager.execute_request(
                    url.format(base=base),
                    "any",
                    params=params,
                    encoded=encoded,
                    is_auth_required=True,
                )
        (seen,) = server.seen
        check(seen)
        assert seen["target"].startswith(target)

    run(main())


def test_a_relative_url_of_a_processor_is_signed_as_sent(run, serve):
    async def main() -> None:
        throttler = AsyncThrottler([RateLimit("any", 100, 60)])
        async with (
            serve() as server,
            ConnectionManagersFactory(
                throttler,
                PathAuth(),
                [Rewriting()],
                session_kwargs=lambda: {"base_url": server.url("/api/")},
            ) as factory,
        ):
            manager = await factory.get_rest_manager()
            await manager.execute_request("v1/orders", "any", is_auth_required=True)
        assert server.seen[0]["headers"]["X-Signed"] == "/api/v2/orders"
        assert server.seen[0]["target"] == "/api/v2/orders"

    run(main())
