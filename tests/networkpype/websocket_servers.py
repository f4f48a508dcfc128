"""A WebSocket server for tests that records what it receives."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web

from networkpype.websocket.connection import WebSocketConnection

Run = Callable[[Any], Any]
Serve = Callable[..., Any]


class Server:
    """WebSocket handlers by path, and what they have seen."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.headers: list[Any] = []
        self.open_count = 0
        self.sent_count = 0

    def routes(self) -> dict[str, Any]:
        return {
            "/talk": self.talk,
            "/texts": self.texts,
            "/ping": self.ping,
            "/close": self.close,
            "/big": self.big,
            "/flood": self.flood,
            "/plain": self.plain,
        }

    @contextlib.asynccontextmanager
    async def accept(self, request: web.Request, **options: Any) -> Any:
        websocket = web.WebSocketResponse(**options)
        await websocket.prepare(request)
        self.headers.append(request.headers)
        self.open_count += 1
        try:
            yield websocket
        finally:
            self.open_count -= 1

    async def talk(self, request: web.Request) -> Any:
        """Send back what comes."""
        async with self.accept(request) as websocket:
            async for message in websocket:
                self.seen.append((message.type, message.data))
                if message.type is WSMsgType.TEXT:
                    await websocket.send_str(message.data)
                else:
                    await websocket.send_bytes(message.data)
        return websocket

    async def texts(self, request: web.Request) -> Any:
        async with self.accept(request) as websocket:
            for text in request.query.getall("t"):
                await websocket.send_str(text)
            await websocket.send_bytes(b"\x00\xff")
            await websocket.receive()
        return websocket

    async def ping(self, request: web.Request) -> Any:
        """Ping, tell what the pong had."""
        async with self.accept(request, autoping=False) as websocket:
            await websocket.ping(b"payload of a ping")
            await websocket.pong(b"unasked")
            self.seen.append(await websocket.receive())
            if "mute" not in request.query:
                await websocket.send_str("done")
            await websocket.receive()
        return websocket

    async def close(self, request: web.Request) -> Any:
        async with self.accept(request) as websocket:
            await websocket.close(code=int(request.query["code"]), message=b"because")
        return websocket

    async def big(self, request: web.Request) -> Any:
        async with self.accept(request) as websocket:
            with contextlib.suppress(ConnectionError):
                await websocket.send_bytes(bytes(5 * 2**20))
            await websocket.receive()
        return websocket

    async def flood(self, request: web.Request) -> Any:
        """Send messages as long as they are taken."""
        async with self.accept(request) as websocket:
            with contextlib.suppress(ConnectionError):
                for number in range(int(request.query["n"])):
                    await websocket.send_str(f'{{"n":{number},"pad":"{"x" * 1000}"}}')
                    self.sent_count += 1
                await websocket.receive()
        return websocket

    async def plain(self, request: web.Request) -> Any:
        return web.Response(status=403, text="no")


@contextlib.asynccontextmanager
async def connected(serve: Serve, path: str, **options: Any) -> Any:
    """Give a connection that is open to `path`, and its server."""
    server = Server()
    async with serve(server.routes()) as local, aiohttp.ClientSession() as session:
        connection = WebSocketConnection(session)
        await connection.connect(local.url(path), **options)
        try:
            yield connection, server
        finally:
            await connection.disconnect()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for `condition`; the test's own bound ends a hang."""
    while not condition():
        await asyncio.sleep(0.001)
