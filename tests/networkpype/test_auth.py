"""The auth kit, checked by a server that verifies what it got."""

import asyncio
import base64
import hashlib
import hmac
import io
import logging
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
import pytest
from aiohttp import web
from multidict import CIMultiDict

from networkpype.auth import (
    APIKeyAuth,
    Auth,
    BearerAuth,
    HMACHeaderAuth,
    HMACQueryAuth,
    SignedParts,
    Token,
    TokenAuth,
)
from networkpype.exceptions import AuthError, ConfigurationError, HTTPStatusError
from networkpype.factory import ConnectionManagersFactory
from networkpype.rest.method import RESTMethod
from networkpype.rest.request import RESTRequest
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler
from networkpype.time_synchronizer import TimeSynchronizer
from networkpype.websocket.request import WebSocketPlainTextRequest

SECRET = "hunter2"


class FixedTime(TimeSynchronizer):
    def time(self) -> float:
        return 1_700_000_000.1239


def make_factory(auth: Auth, limit: int = 1000) -> ConnectionManagersFactory:
    throttler = AsyncThrottler([RateLimit("any", limit, 0.05)], safety_margin_pct=0.0)
    return ConnectionManagersFactory(throttler, auth)


def request(url: str = "http://h/p", **fields: Any) -> RESTRequest:
    return RESTRequest(RESTMethod.GET, url, is_auth_required=True, **fields)


def test_the_base_is_abstract_and_makes_its_own_clock():
    with pytest.raises(TypeError, match="rest_authenticate"):
        Auth()

    class Nothing(Auth):
        async def rest_authenticate(self, request):
            return request

        async def ws_authenticate(self, request):
            return request

    assert isinstance(Nothing().time_provider, TimeSynchronizer)
    clock = TimeSynchronizer()
    assert Nothing(clock).time_provider is Nothing(time_provider=clock).time_provider is clock


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        (APIKeyAuth(SECRET), "X-API-Key", SECRET),
        (APIKeyAuth(SECRET, header="Apikey"), "Apikey", SECRET),
        (BearerAuth(SECRET), "Authorization", f"Bearer {SECRET}"),
    ],
)
@pytest.mark.parametrize("kind", [dict, CIMultiDict])
def test_a_header_is_set_in_place_of_the_same_in_another_case(auth, header, value, kind):
    signed = asyncio.run(
        auth.rest_authenticate(request(headers=kind({header.upper(): "old", "Other": "1"})))
    )
    assert dict(signed.headers) == {"Other": "1", header: value}


@pytest.mark.parametrize(
    "make",
    [
        lambda: APIKeyAuth(""),
        lambda: BearerAuth(""),
        lambda: HMACHeaderAuth("", "s"),
        lambda: HMACHeaderAuth("k", b""),
        lambda: HMACQueryAuth("", "s"),
        lambda: HMACQueryAuth("k", ""),
    ],
)
def test_an_empty_secret_is_refused_when_the_auth_is_made(make):
    with pytest.raises(ConfigurationError):
        make()


async def no_token() -> Token:
    raise AssertionError("not to be called")


AUTHS = [
    APIKeyAuth(SECRET),
    BearerAuth(SECRET),
    HMACHeaderAuth("key", SECRET),
    HMACQueryAuth("key", SECRET),
    TokenAuth(no_token),
]


@pytest.mark.parametrize("auth", AUTHS, ids=lambda auth: type(auth).__name__)
def test_a_websocket_message_is_never_sent_unsigned_instead(auth):
    message = WebSocketPlainTextRequest("x", is_auth_required=True)
    with pytest.raises(AuthError, match=type(auth).__name__):
        asyncio.run(auth.ws_authenticate(message))


@pytest.mark.parametrize("auth", AUTHS, ids=lambda auth: type(auth).__name__)
def test_no_auth_shows_its_secret(auth):
    assert SECRET not in repr(auth) + str(auth)
    assert SECRET not in repr(Token(SECRET, 1)) + str(Token(SECRET))
    parts = SignedParts(1, "GET", f"/?k={SECRET}", SECRET.encode())
    assert SECRET not in repr(parts)


async def pieces():
    yield b"one "
    yield b"two"


def multipart() -> aiohttp.FormData:
    form = aiohttp.FormData()
    form.add_field("file", io.BytesIO(b"content"), filename="f.bin")
    return form


BODIES = {
    "none": lambda: None,
    "dict": lambda: {"b": "caf\u00e9", "none": None},
    "empty": dict,
    "list": lambda: [1, "\u00e9"],
    "str": lambda: "caf\u00e9",
    "bytes": lambda: b"\x00\xff",
    "large": lambda: "\u00e9" * 2**20,
    "file": lambda: io.BytesIO(b"file"),
    "iterator": pieces,
    "form": lambda: aiohttp.FormData({"a": "1 2"}),
    "multipart": multipart,
}


class Verifier:
    """Check signatures over the raw bytes of what arrives."""

    def __init__(self) -> None:
        self.verified = 0

    async def header(self, request: web.Request) -> web.Response:
        signed = (
            request.headers["X-Timestamp"].encode()
            + request.method.encode()
            + request.raw_path.encode()
            + await request.read()
        )
        digest = hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()
        given = request.headers["X-Signature"]
        assert given in (digest.hex(), base64.b64encode(digest).decode())
        assert request.headers.getall("X-API-Key") == ["key"]
        self.verified += 1
        return web.json_response({})

    async def query(self, request: web.Request) -> web.Response:
        query, _, signature = request.raw_path.partition("?")[2].rpartition("&signature=")
        signed = query.encode() + await request.read()
        assert signature == hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
        assert dict(parse_qsl(query))["timestamp"] == "1700000000123"
        assert request.headers.getall("X-MBX-APIKEY") == ["key"]
        self.verified += 1
        return web.json_response({})


SIGNERS = {
    "/header": lambda: HMACHeaderAuth("key", SECRET),
    "/header64": lambda: HMACHeaderAuth("key", SECRET, encoding="base64"),
    "/query": lambda: HMACQueryAuth("key", SECRET, recv_window_ms=5000, time_provider=FixedTime()),
}


@pytest.mark.parametrize("path", SIGNERS)
@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("through", ["execute_request", "call"])
def test_hmac_signs_the_bytes_on_the_wire(run, serve, path, kind, through):
    async def main() -> None:
        verifier = Verifier()
        routes = {
            "/header": verifier.header,
            "/header64": verifier.header,
            "/query": verifier.query,
        }
        params = {"z": "a b", "plus": "+", "slash": "/", "percent": "%2F", "u": "\u00e9", "n": 1}
        async with serve(routes) as server, make_factory(SIGNERS[path]()) as factory:
            manager = await factory.get_rest_manager()
            url = server.url(f"{path}?first=%20x%2f&second")
            data = BODIES[kind]()
            if through == "execute_request":
                await manager.execute_request(
                    url, "any", params, data, RESTMethod.POST, is_auth_required=True
                )
            else:
                if kind == "dict":
                    data = {"b": "caf\u00e9"}  # a form has no null
                request = RESTRequest(
                    RESTMethod.POST, url, params=params, data=data, is_auth_required=True
                )
                async with await manager.call(request) as response:
                    await response.read()
            assert verifier.verified == 1

    run(main())


def test_hmac_header_signs_what_message_returns():
    seen: list[SignedParts] = []

    def message(parts: SignedParts) -> bytes:
        seen.append(parts)
        return b"fixed"

    auth = HMACHeaderAuth(
        "key",
        SECRET.encode(),
        key_header="K",
        timestamp_header="T",
        signature_header="S",
        message=message,
        time_provider=FixedTime(),
    )
    signed = asyncio.run(
        auth.rest_authenticate(request("http://h/p", params={"a": "b c"}, data="body"))
    )
    expected = hmac.new(SECRET.encode(), b"fixed", hashlib.sha256).hexdigest()
    assert signed.headers == {"K": "key", "T": "1700000000123", "S": expected}
    assert seen == [SignedParts(1700000000123, "GET", "/p?a=b+c", b"body")]


def test_hmac_query_matches_the_example_of_the_documentation_of_binance():
    class Clock(TimeSynchronizer):
        def time(self) -> float:
            return 1499827319.559

    auth = HMACQueryAuth(
        "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A",
        "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j",
        time_provider=Clock(),
    )
    params = {
        "symbol": "LTCBTC",
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "GTC",
        "quantity": "1",
        "price": "0.1",
        "recvWindow": "5000",
    }
    signed = asyncio.run(auth.rest_authenticate(request("http://h/order", params=params)))
    assert signed.url.endswith(
        "&recvWindow=5000&timestamp=1499827319559"
        "&signature=c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"
    )


def test_hmac_query_keeps_a_given_window_and_refuses_a_given_signature():
    auth = HMACQueryAuth("key", SECRET, recv_window_ms=1, time_provider=FixedTime())
    signed = asyncio.run(auth.rest_authenticate(request(params={"recvWindow": "9"})))
    assert "?recvWindow=9&timestamp=1700000000123&signature=" in signed.url
    with pytest.raises(AuthError, match="signature"):
        asyncio.run(auth.rest_authenticate(request("http://h/p?signature=x")))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Issuer:
    """Give out numbered tokens."""

    def __init__(self, expires_in_s: float | None = 100.0) -> None:
        self.expires_in_s = expires_in_s
        self.issued = 0
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> Token:
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.issued += 1
        return Token(f"t{self.issued}", self.expires_in_s)


async def header(auth: TokenAuth) -> str:
    signed = await auth.rest_authenticate(request())
    return signed.headers["Authorization"]


class TestTokenAuth:
    def test_a_token_is_used_until_shortly_before_it_expires(self):
        async def main() -> None:
            clock, issuer = Clock(), Issuer(100.0)
            auth = TokenAuth(issuer, clock=clock, refresh_ahead_s=30.0)
            assert await header(auth) == "Bearer t1"
            clock.now += 69.9
            assert await header(auth) == "Bearer t1"
            clock.now += 0.2
            assert await header(auth) == "Bearer t2"
            assert issuer.issued == 2

        asyncio.run(main())

    @pytest.mark.parametrize("expires_in_s", [None, 10.0])
    def test_one_without_end_is_kept_and_a_short_one_lives_half_its_life(self, expires_in_s):
        async def main() -> None:
            clock, issuer = Clock(), Issuer(expires_in_s)
            auth = TokenAuth(issuer, clock=clock, scheme="", header="Authorization")
            assert await header(auth) == "t1"
            clock.now += 4.9
            assert await header(auth) == "t1"
            clock.now += 0.2
            assert await header(auth) == ("t1" if expires_in_s is None else "t2")

        asyncio.run(main())

    def test_many_requests_share_one_fetch_and_survive_a_cancelled_one(self):
        async def main() -> None:
            issuer = Issuer()
            issuer.gate.clear()
            auth = TokenAuth(issuer)
            tasks = [asyncio.create_task(header(auth)) for _ in range(10)]
            await asyncio.sleep(0)
            tasks[0].cancel()  # the one that started it
            await asyncio.sleep(0)
            issuer.gate.set()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(results[0], asyncio.CancelledError)
            assert results[1:] == ["Bearer t1"] * 9
            assert issuer.issued == 1

        asyncio.run(main())

    def test_a_fetch_that_all_have_left_is_not_lost(self):
        async def main() -> None:
            issuer = Issuer()
            issuer.gate.clear()
            auth = TokenAuth(issuer)
            task = asyncio.create_task(header(auth))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            issuer.gate.set()
            assert await header(auth) == "Bearer t1"
            assert issuer.issued == 1

        asyncio.run(main())

    def test_a_fetch_that_fails_is_an_auth_error_and_the_next_request_tries_anew(self):
        async def main() -> None:
            issuer = Issuer()
            issuer.error = OSError(SECRET)
            auth = TokenAuth(issuer)
            with pytest.raises(AuthError) as caught:
                await auth.before_admission()
            assert caught.value.__cause__ is issuer.error
            assert SECRET not in str(caught.value)
            issuer.error = None
            assert await header(auth) == "Bearer t1"

        asyncio.run(main())

    def test_the_old_token_is_used_while_it_is_good_and_a_new_one_cannot_be_had(self, caplog):
        async def main() -> None:
            clock, issuer = Clock(), Issuer(100.0)
            auth = TokenAuth(issuer, clock=clock, refresh_ahead_s=30.0)
            await header(auth)
            issuer.error = OSError(SECRET)
            clock.now += 80
            assert await header(auth) == "Bearer t1"
            clock.now += 20
            with pytest.raises(AuthError):
                await header(auth)

        with caplog.at_level(logging.DEBUG):
            asyncio.run(main())
        assert "still valid" in caplog.text
        assert SECRET not in caplog.text

    def test_an_empty_token_is_refused(self):
        async def empty() -> Token:
            return Token("")

        with pytest.raises(AuthError):
            asyncio.run(header(TokenAuth(empty)))

    def test_a_fetch_that_is_cancelled_is_an_auth_error_for_those_that_wait(self):
        async def cancelled() -> Token:
            raise asyncio.CancelledError

        with pytest.raises(AuthError):
            asyncio.run(header(TokenAuth(cancelled)))

    def test_a_token_answered_with_401_is_replaced_but_not_its_successor(self, run, serve):
        async def main() -> None:
            issuer = Issuer()

            async def guarded(request: web.Request) -> web.Response:
                good = request.headers["Authorization"] == "Bearer t2"
                return web.json_response({}, status=200 if good else 401)

            auth = TokenAuth(issuer)
            async with serve({"/x": guarded}) as server, make_factory(auth) as factory:
                manager = await factory.get_rest_manager()

                async def get() -> None:
                    await manager.execute_request(server.url("/x"), "any", is_auth_required=True)

                results = await asyncio.gather(get(), get(), get(), return_exceptions=True)
                assert [type(result) for result in results] == [HTTPStatusError] * 3
                await get()
                # A late 401 for the first token says nothing about the second.
                auth.unauthorized(request(headers={"Authorization": "Bearer t1"}))
                await get()
                assert issuer.issued == 2

        run(main())

    @pytest.mark.parametrize("limit", [1, 2])
    def test_a_fetch_through_the_same_manager_does_not_deadlock(self, run, serve, limit):
        async def main() -> None:
            clock = Clock()

            async def fetch() -> Token:
                await manager.execute_request(server.url("/token"), "any", method=RESTMethod.POST)
                return Token("t", 10.0)

            auth = TokenAuth(fetch, clock=clock)
            async with serve() as server, make_factory(auth, limit) as factory:
                manager = await factory.get_rest_manager()

                async def get() -> None:
                    url = server.url("/x")
                    await manager.execute_request(url, "any", is_auth_required=True, timeout=30)

                await asyncio.gather(*(get() for _ in range(4)))
                paths = [seen["path"] for seen in server.seen]
                assert paths == ["/token", "/x", "/x", "/x", "/x"]

        run(main())

    def test_a_token_that_goes_bad_in_the_queue_is_fetched_without_deadlock(self, run, serve):
        """Those that were admitted meanwhile hold the capacity that the fetch needs."""

        async def main() -> None:
            fetches = []

            async def fetch() -> Token:
                fetches.append(1)
                await manager.execute_request(server.url("/token"), "any")
                return Token(f"t{len(fetches)}")

            class Expiring(TokenAuth):
                async def rest_authenticate(self, request: RESTRequest) -> RESTRequest:
                    if len(fetches) == 1:
                        self.invalidate()
                    return await super().rest_authenticate(request)

            auth = Expiring(fetch)
            async with serve() as server, make_factory(auth, 2) as factory:
                manager = await factory.get_rest_manager()

                async def get() -> None:
                    url = server.url("/x")
                    await manager.execute_request(url, "any", is_auth_required=True, timeout=30)

                await asyncio.gather(*(get() for _ in range(6)))
                signed = [s["headers"]["Authorization"] for s in server.seen if s["path"] == "/x"]
                assert signed == ["Bearer t2"] * 6

        run(main())

    def test_a_fetch_that_asks_to_be_signed_by_itself_is_an_error(self, run, serve):
        async def main() -> None:
            async def fetch() -> Token:
                await manager.execute_request(server.url(), "any", is_auth_required=True)
                return Token("t")

            async with serve() as server, make_factory(TokenAuth(fetch)) as factory:
                manager = await factory.get_rest_manager()
                with pytest.raises(AuthError):
                    await manager.execute_request(
                        server.url(), "any", is_auth_required=True, timeout=30
                    )
                assert server.seen == []

        run(main())
