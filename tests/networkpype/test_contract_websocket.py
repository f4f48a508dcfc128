"""One test per line of the contract that says *fix*; each fails on what networkpype 1.1.5 does."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from networkpype.exceptions import NetworkpypeError
from networkpype.factory import ConnectionManagersFactory
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler
from networkpype.websocket.connection import WebSocketConnection
from networkpype.websocket.request import WebSocketPlainTextRequest

Run = Callable[[Any], Any]
Serve = Callable[..., Any]


class Server:
    def __init__(self) -> None:
        self.received: list[Any] = []
        self.open_count = 0
        self.most_open = 0

    @contextlib.asynccontextmanager
    async def accept(self, request: web.Request) -> Any:
        websocket = web.WebSocketResponse(autoping=False)
        await websocket.prepare(request)
        self.open_count += 1
        self.most_open = max(self.most_open, self.open_count)
        try:
            yield websocket
        finally:
            self.open_count -= 1

    async def listen(self, request: web.Request) -> Any:
        async with self.accept(request) as websocket:
            async for message in websocket:
                self.received.append(message.data)
        return websocket

    async def ping_then_text(self, request: web.Request) -> Any:
        async with self.accept(request) as websocket:
            await websocket.ping(b"\x01payload")
            message = await websocket.receive()
            self.received.append((message.type, bytes(message.data)))
            await websocket.send_str("1")
            await websocket.receive()
        return websocket

    async def ping_on(self, request: web.Request) -> Any:
        """Ping again as soon as the last ping is answered, for as long as it lasts."""
        async with self.accept(request) as websocket:
            message_type = WSMsgType.PONG
            while message_type is WSMsgType.PONG:
                await websocket.ping(b"p")
                message_type = (await websocket.receive()).type
                await asyncio.sleep(0.005)
        return websocket

    async def oversized(self, request: web.Request) -> Any:
        async with self.accept(request) as websocket:
            with contextlib.suppress(ConnectionError):
                await websocket.send_bytes(bytes(5 * 2**20))
            await websocket.receive()
        return websocket


@contextlib.asynccontextmanager
async def unconnected(serve: Serve, handler: str) -> Any:
    server = Server()
    async with (
        serve({"/ws": getattr(server, handler)}) as local,
        aiohttp.ClientSession() as session,
    ):
        connection = WebSocketConnection(session)
        yield connection, local.url("/ws"), server
        await connection.disconnect()


def test_pong_carries_the_payload_of_the_ping(run: Run, serve: Serve) -> None:
    """1.1.5 answers with an empty pong."""

    async def scenario() -> None:
        async with unconnected(serve, "ping_then_text") as (connection, url, server):
            await connection.connect(url)
            assert (await connection.receive()).data == 1
            assert server.received == [(WSMsgType.PONG, b"\x01payload")]

    run(scenario())


def test_two_concurrent_connects_do_not_leak(run: Run, serve: Serve) -> None:
    """1.1.5 opens two WebSockets and forgets one of them."""

    async def scenario() -> None:
        async with unconnected(serve, "listen") as (connection, url, server):
            results = await asyncio.gather(
                connection.connect(url), connection.connect(url), return_exceptions=True
            )
            assert sorted(type(result).__name__ for result in results) == [
                "ConnectionStateError",
                "NoneType",
            ]
            await connection.disconnect()
            while server.open_count:
                await asyncio.sleep(0.001)
            assert server.most_open == 1

    run(scenario())


def test_connected_is_true_only_while_it_is(run: Run, serve: Serve) -> None:
    """1.1.5 stays connected after a frame that was too big."""

    async def scenario() -> None:
        async with unconnected(serve, "oversized") as (connection, url, _):
            await connection.connect(url)
            assert connection.connected
            with pytest.raises(NetworkpypeError):
                await connection.receive()
            assert not connection.connected

    run(scenario())


def test_oversized_frame_is_a_clean_error(run: Run, serve: Serve) -> None:
    """1.1.5 raises a TypeError of the JSON decoder."""

    async def scenario() -> None:
        async with unconnected(serve, "oversized") as (connection, url, _):
            await connection.connect(url)
            with pytest.raises(ConnectionError, match=r"exceeds.*Close code = 1009"):
                await connection.receive()

    run(scenario())


def test_disconnect_during_receive_is_a_clean_error(run: Run, serve: Serve) -> None:
    """1.1.5 raises a TypeError of the JSON decoder."""

    async def scenario() -> None:
        async with unconnected(serve, "listen") as (connection, url, _):
            await connection.connect(url)
            receiver = asyncio.create_task(connection.receive())
            await asyncio.sleep(0)
            await connection.disconnect()
            with pytest.raises(ConnectionError, match="disconnected") as caught:
                await receiver
            assert isinstance(caught.value, RuntimeError)

    run(scenario())


def test_message_timeout_counts_data_not_pings(run: Run, serve: Serve) -> None:
    """1.1.5 begins to count anew with each ping."""

    async def scenario() -> None:
        async with unconnected(serve, "ping_on") as (connection, url, _):
            await connection.connect(url, message_timeout=0.1)
            with pytest.raises(TimeoutError, match=r"^Message receive timed out\.$"):
                await connection.receive()

    run(scenario())


def test_managers_of_the_factory_enforce_the_limit_of_a_request(run: Run, serve: Serve) -> None:
    """1.1.5 sends whatever `throttler_limit_id` says."""

    async def scenario() -> None:
        server = Server()
        throttler = AsyncThrottler([RateLimit("ws", 2, 3600.0)], safety_margin_pct=0)
        async with (
            serve({"/ws": server.listen}) as local,
            ConnectionManagersFactory(throttler) as factory,
        ):
            manager = await factory.get_ws_manager()
            await manager.connect(local.url("/ws"))
            sends = [
                asyncio.create_task(
                    manager.send(WebSocketPlainTextRequest(str(n), throttler_limit_id="ws"))
                )
                for n in range(5)
            ]
            await asyncio.wait(sends[:2])
            while len(server.received) < 2:
                await asyncio.sleep(0.001)
            await manager.disconnect()
            results = await asyncio.gather(*sends, return_exceptions=True)
            assert [type(result).__name__ for result in results[2:]] == ["ClosedError"] * 3
            assert server.received == ["0", "1"]

    run(scenario())
