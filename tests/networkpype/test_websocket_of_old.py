"""What programs that were written for 1.1 do with WebSockets."""

import asyncio
import gc
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import pytest
from scripted_servers import Peer, Run, at_once, closing, data_of, managed, scripted, serve_data

from networkpype.exceptions import ConnectionStateError, DisconnectedError
from networkpype.factory import ConnectionManagersFactory, ConnectionsFactory
from networkpype.throttler.context import AsyncRequestContext
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler
from networkpype.time_synchronizer import TimeSynchronizer
from networkpype.websocket.buffer import ReceiveBuffer
from networkpype.websocket.connection import WebSocketConnection
from networkpype.websocket.request import WebSocketPlainTextRequest, WebSocketRequest


@dataclass
class OldJSON(WebSocketRequest):
    async def send_with_connection(self, connection: Any) -> None:
        await connection._send_json(payload=self.payload)


@dataclass
class OldText(WebSocketRequest):
    async def send_with_connection(self, connection: Any) -> None:
        await connection._send_plain_text(payload=self.payload)


@dataclass
class OldPositional(WebSocketRequest):
    async def send_with_connection(self, connection: Any) -> None:
        await connection._send_json({"a": 1})
        await connection._send_plain_text("b")


@pytest.mark.parametrize(
    ("request_", "texts"),
    [
        (OldJSON({"op": "x"}), ['{"op":"x"}']),
        (OldText("plain"), ["plain"]),
        (OldPositional(None), ['{"a":1}', "b"]),
    ],
)
def test_requests_of_1_1_are_sent(run: Run, request_: WebSocketRequest, texts: list[str]) -> None:
    """The guide of 1.1 shows how to write them."""
    received: list[str] = []

    async def read(peer: Peer) -> None:
        await peer.handshake()
        received.extend(await peer.read_texts(len(texts)))
        peer.text("[]")
        await peer.until_gone()

    async def scenario() -> None:
        async with scripted(read) as server, managed(server, None) as manager:
            await manager.send(request_)
            assert await data_of(manager) == []

    run(scenario())
    assert received == texts


@pytest.mark.parametrize(
    "owner", [TimeSynchronizer, AsyncThrottler, AsyncRequestContext, WebSocketConnection]
)
def test_logger_is_a_class_method(owner: Any) -> None:
    """Of the four classes that had it, with the name of their module."""
    logger = owner.logger()
    assert isinstance(logger, logging.Logger)
    assert logger.name == owner.__module__
    assert type("Sub", (owner,), {}).logger() is logger


# --- a loop that is gone ---


def run_and_leave(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Run in a loop of its own, and close that without a word to what is still open."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(coroutine)
    finally:
        loop.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("is_buffered", [True, False])
@pytest.mark.parametrize("way", ["connection", "manager", "reconnecting", "disconnected"])
def test_what_was_left_open_in_a_dead_loop_connects_anew(way: str, is_buffered: bool) -> None:
    """Without disconnect(), or with one that finds nothing to close."""
    throttler = AsyncThrottler([RateLimit("ws", 9, 1.0)])
    never = asyncio.Event()

    async def sleep(_: float) -> None:
        await never.wait()

    is_manager = way != "connection"
    policy = at_once(sleep=sleep)
    factory: Any = (
        ConnectionManagersFactory(throttler, reconnect=policy)
        if is_manager
        else ConnectionsFactory()
    )
    left: list[Any] = []
    options = {"receive_buffer": ReceiveBuffer()} if is_buffered else {}

    async def first() -> None:
        async with scripted(closing(1012) if way == "reconnecting" else serve_data) as server:
            left.append(
                await (factory.get_ws_manager() if is_manager else factory.get_ws_connection())
            )
            await left[0].connect(server.url, **options)
            if is_manager:
                await left[0].subscribe(WebSocketPlainTextRequest("old"))
            receiving = asyncio.create_task(left[0].receive())
            await asyncio.wait((receiving,), timeout=0.05)

    async def second() -> None:
        async with scripted(serve_data) as server:
            if way == "disconnected":
                await left[0].disconnect()
            await left[0].connect(server.url, close_timeout=0.2, **options)
            assert left[0].connected
            assert (await left[0].receive()).data == [1]
            if is_manager:
                # As after disconnect().
                assert not left[0].forget(WebSocketPlainTextRequest("old"))
            await left[0].disconnect()
            with pytest.raises(DisconnectedError):
                await left[0].receive()
            await factory.close()

    run_and_leave(first())
    asyncio.run(second())
    # Sockets that nobody could close warn now, not in a later test.
    left.clear()
    gc.collect()


def test_what_is_open_in_this_loop_is_still_refused(run: Run) -> None:
    """Connected is connected."""

    async def scenario() -> None:
        async with scripted(serve_data) as server, managed(server, None) as manager:
            with pytest.raises(ConnectionStateError):
                await manager.connect(server.url)

    run(scenario())
