"""Retries as the REST manager makes them; the policy itself is tested in test_retry.py."""

import io
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from networkpype.auth import APIKeyAuth
from networkpype.exceptions import ConnectionFailedError, DeadlineExceeded, HTTPStatusError
from networkpype.factory import ConnectionManagersFactory
from networkpype.rest.method import RESTMethod
from networkpype.rest.request import RESTRequest
from networkpype.retry import RetryPolicy
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler


def at_once() -> RetryPolicy:
    return RetryPolicy(max_attempts=3, backoff_seconds=0.0)


class Nonces(APIKeyAuth):
    signed = 0

    async def rest_authenticate(self, request: RESTRequest) -> RESTRequest:
        self.signed += 1
        request.headers["X-Nonce"] = str(self.signed)
        return request


def make_factory(limit: int = 100, *, retries: bool = True, retry: RetryPolicy | None = None):
    if retries and retry is None:
        retry = at_once()
    throttler = AsyncThrottler([RateLimit("any", limit, 60.0)], safety_margin_pct=0.0)
    return ConnectionManagersFactory(throttler, Nonces("k"), retry=retry)


class Flaky:
    """Fail so many times, then answer."""

    def __init__(self, failures: int, how: Any = 503) -> None:
        self.failures = failures
        self.how = how
        self.nonces: list[str | None] = []
        self.bodies: list[bytes] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.nonces.append(request.headers.get("X-Nonce"))
        self.bodies.append(await request.read())
        if len(self.nonces) > self.failures:
            return web.json_response({"ok": True})
        if self.how == "abort":
            assert request.transport is not None
            request.transport.abort()
        if self.how == "half":
            response = web.StreamResponse(headers={"Content-Length": "100"})
            await response.prepare(request)
            await response.write(b"{")
            assert request.transport is not None
            request.transport.close()
            return response
        return web.Response(status=503 if isinstance(self.how, str) else self.how, text="busy")


@pytest.mark.parametrize("how", [503, 500, "half"])
def test_attempts_are_repeated_each_signed_anew_and_counted(run, serve, how):
    async def main() -> None:
        flaky = Flaky(2, how)
        async with serve({"/x": flaky.handle}) as server, make_factory(limit=3) as factory:
            manager = await factory.get_rest_manager()
            url = server.url("/x")
            result = await manager.execute_request(url, "any", is_auth_required=True)
            assert result == {"ok": True}
            assert flaky.nonces == ["1", "2", "3"]
            with pytest.raises(DeadlineExceeded):
                await manager.execute_request(url, "any", timeout=0.05)

    run(main())


def test_without_a_policy_nothing_is_repeated(run, serve):
    async def main() -> None:
        flaky = Flaky(1)
        async with serve({"/x": flaky.handle}) as server, make_factory(retries=False) as factory:
            manager = await factory.get_rest_manager()
            with pytest.raises(HTTPStatusError) as caught:
                await manager.execute_request(server.url("/x"), "any")
            assert (len(flaky.nonces), caught.value.attempts) == (1, 1)

    run(main())


def test_the_error_of_the_last_attempt_tells_how_many_there_were(run, serve, unused_port):
    async def main() -> None:
        flaky = Flaky(9)
        async with serve({"/x": flaky.handle}) as server, make_factory() as factory:
            manager = await factory.get_rest_manager()
            with pytest.raises(HTTPStatusError) as caught:
                await manager.execute_request(server.url("/x"), "any")
            assert (len(flaky.nonces), caught.value.attempts) == (3, 3)
            with pytest.raises(ConnectionFailedError) as refused:
                await manager.execute_request(f"http://127.0.0.1:{unused_port}/", "any")
            assert refused.value.attempts == 3

    run(main())


@pytest.mark.parametrize(
    ("method", "headers", "attempts"),
    [
        (RESTMethod.POST, {}, 1),
        (RESTMethod.PATCH, {}, 1),
        (RESTMethod.POST, {"idempotency-key": "7"}, 3),
        (RESTMethod.PUT, {}, 3),
        (RESTMethod.DELETE, {}, 3),
    ],
)
def test_only_what_may_be_repeated_is(run, serve, method, headers, attempts):
    async def main() -> None:
        flaky = Flaky(9)
        async with serve({"/x": flaky.handle}) as server, make_factory() as factory:
            manager = await factory.get_rest_manager()
            with pytest.raises(HTTPStatusError):
                await manager.execute_request(
                    server.url("/x"), "any", method=method, headers=headers
                )
            assert len(flaky.nonces) == attempts

    run(main())


@pytest.mark.parametrize("signed", [False, True])
def test_a_file_is_sent_whole_each_time(run, serve, tmp_path, signed):
    async def main() -> None:
        path = tmp_path / "body.bin"
        path.write_bytes(b"0123456789")
        for make in (lambda: path.open("rb"), lambda: io.BytesIO(b"0123456789")):
            flaky = Flaky(2)
            async with serve({"/x": flaky.handle}) as server, make_factory() as factory:
                manager = await factory.get_rest_manager()
                with make() as file:
                    file.seek(3)
                    await manager.execute_request(
                        server.url("/x"),
                        "any",
                        data=file,
                        method=RESTMethod.PUT,
                        is_auth_required=signed,
                    )
                assert flaky.bodies == [b"3456789"] * 3

    run(main())


def test_a_body_that_can_be_read_once_is_sent_once(run, serve):
    async def pieces():
        yield b"once"

    async def main() -> None:
        flaky = Flaky(9)
        async with serve({"/x": flaky.handle}) as server, make_factory() as factory:
            manager = await factory.get_rest_manager()
            with pytest.raises(HTTPStatusError):
                await manager.execute_request(
                    server.url("/x"), "any", data=pieces(), method=RESTMethod.PUT
                )
            assert flaky.bodies == [b"once"]

    run(main())


def test_call_returns_the_last_response(run, serve):
    async def main() -> None:
        flaky, recovering = Flaky(9), Flaky(1)
        async with (
            serve({"/x": flaky.handle, "/y": recovering.handle}) as server,
            make_factory() as factory,
        ):
            manager = await factory.get_rest_manager()
            response = await manager.call(RESTRequest(RESTMethod.GET, server.url("/x")))
            assert (response.status, await response.text()) == (503, "busy")
            assert b"".join([piece async for piece in response.iter_bytes()]) == b"busy"
            response = await manager.call(RESTRequest(RESTMethod.GET, server.url("/y")))
            assert (response.status, await response.json()) == (200, {"ok": True})
            assert (len(flaky.nonces), len(recovering.nonces)) == (3, 2)

    run(main())


def test_a_response_that_is_not_wanted_does_not_keep_its_connection(run, serve):
    async def main() -> None:
        async def large(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(status=503)
            await response.prepare(request)
            for _ in range(20):
                await response.write(b"x" * 2**16)
            return response

        throttler = AsyncThrottler([RateLimit("any", 100, 60.0)])
        factory = ConnectionManagersFactory(
            throttler,
            retry=at_once(),
            session_kwargs=lambda: {"connector": aiohttp.TCPConnector(limit=1)},
        )
        async with serve({"/x": large}) as server, factory:
            manager = await factory.get_rest_manager()
            request = RESTRequest(RESTMethod.GET, server.url("/x"))
            response = await manager.call(request, timeout=30)
            assert len(await response.read()) == 20 * 2**16

    run(main())


def test_one_deadline_covers_all_attempts_and_pauses(run, serve):
    async def main() -> None:
        flaky = Flaky(9)
        policy = RetryPolicy(max_attempts=9, backoff_seconds=3600.0, max_backoff_seconds=3600.0)
        async with serve({"/x": flaky.handle}) as server, make_factory(retry=policy) as factory:
            manager = await factory.get_rest_manager()
            with pytest.raises(DeadlineExceeded) as caught:
                await manager.execute_request(server.url("/x"), "any", timeout=0.3)
            assert caught.value.attempts == len(flaky.nonces)

    run(main())
