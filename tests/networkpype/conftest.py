"""Fixtures: run a coroutine in real or virtual time, serve real HTTP on the loopback."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any, TypeVar

import pytest
from aiohttp import web
from throttlers import VirtualTimeLoop

T = TypeVar("T")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class LocalServer:
    """A real aiohttp server; `seen` has what its default handler `echo` was sent."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.connections = 0
        self.port = 0

    def url(self, path: str = "/echo") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def echo(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.seen.append(
            {
                "method": request.method,
                "path": request.path,
                "query": request.rel_url.raw_query_string,
                "target": request.raw_path,
                "headers": request.headers.copy(),
                "body": body,
            }
        )
        return web.json_response({"n": len(self.seen)})


@contextlib.asynccontextmanager
async def serve_routes(
    routes: Mapping[str, Handler] | None = None,
) -> AsyncIterator[LocalServer]:
    server = LocalServer()
    app = web.Application(client_max_size=64 * 2**20)
    for path, handler in (routes or {}).items():
        app.router.add_route("*", path, handler)
    app.router.add_route("*", "/{rest:.*}", server.echo)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, T]], T]:
    """Run a coroutine to its end, with a bound on its time so that a hang is a failure."""

    def run_coroutine(coroutine: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            return await asyncio.wait_for(coroutine, 60)

        return asyncio.run(bounded())

    return run_coroutine


@pytest.fixture
def serve() -> Callable[..., contextlib.AbstractAsyncContextManager[LocalServer]]:
    """Serve `{path: handler}`, and an echo at every other path."""
    return serve_routes


@pytest.fixture
def unused_port() -> Iterator[int]:
    """Give a port that nobody listens on."""
    with socket.socket() as holder:
        # Bound and not listening: connections are refused, and nobody else gets the port.
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture
def virtual():
    """Run a coroutine in virtual time."""

    def run_in_virtual_time(coroutine, start=0.0):
        with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(start)) as runner:
            return runner.run(coroutine)

    return run_in_virtual_time
