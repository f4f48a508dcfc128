"""What counts as a lost WebSocket, and which losses are survived."""

import asyncio
import contextlib
from typing import Any

import aiohttp
import pytest
from scripted_servers import (
    Peer,
    Run,
    Script,
    Sleeps,
    at_once,
    big_frame,
    closing,
    closing_without_code,
    data_of,
    eof_without_close,
    half_open,
    managed,
    pongs_only,
    reset_inside_a_frame,
    scripted,
    serve_data,
)

from networkpype.exceptions import (
    ConnectionFailedError,
    DisconnectedError,
    WebSocketClosedError,
)
from networkpype.websocket.buffer import ReceiveBuffer
from networkpype.websocket.reconnect import ReconnectPolicy
from networkpype.websocket.request import (
    WebSocketPlainTextRequest,
)
from networkpype.websocket.response import Gap

# --- survival -----------------------------------------------------------------------------------

FAST_PINGS = {"ping_timeout": 0.04}

LOSSES: list[tuple[str, Script, dict[str, Any], int]] = [
    ("1000", closing(1000), {}, 1000),
    ("1001", closing(1001), {}, 1001),
    ("1012", closing(1012), {}, 1012),
    ("4000", closing(4000), {}, 4000),
    ("no code", closing_without_code, {}, 1005),
    ("reset inside a frame", reset_inside_a_frame, {}, 1006),
    ("eof without close", eof_without_close, {}, 1006),
    ("half open", half_open, FAST_PINGS, 1006),
]


@pytest.mark.parametrize("buffer", [None, ReceiveBuffer()], ids=["unbuffered", "buffered"])
@pytest.mark.parametrize(
    ("script", "options", "code"), [loss[1:] for loss in LOSSES], ids=[loss[0] for loss in LOSSES]
)
def test_loss_is_survived_with_a_gap(
    run: Run, script: Script, options: dict[str, Any], code: int, buffer: ReceiveBuffer | None
) -> None:
    """One Gap, with the close code, then the data of the next connection."""

    async def scenario() -> None:
        async with (
            scripted(script, serve_data) as server,
            managed(server, at_once(), connect={**options, "receive_buffer": buffer}) as manager,
        ):
            gap = await manager.receive()
            assert isinstance(gap, Gap)
            assert (gap.code, gap.attempts, gap.data) == (code, 1, None)
            assert isinstance(gap.error, WebSocketClosedError)
            assert gap.duration_seconds >= 0
            assert await data_of(manager) == [2]
            assert manager.connected

    run(scenario())


@pytest.mark.parametrize(
    ("script", "options", "code"), [loss[1:] for loss in LOSSES], ids=[loss[0] for loss in LOSSES]
)
def test_loss_without_a_policy_is_a_clear_error(
    run: Run, script: Script, options: dict[str, Any], code: int
) -> None:
    """A ConnectionError that names the close code, out of the iteration."""

    async def scenario() -> None:
        async with scripted(script) as server, managed(server, None, connect=options) as manager:
            with pytest.raises(ConnectionError, match=str(code)):
                async for _ in manager.iter_messages():
                    pass
            assert not manager.connected

    run(scenario())


@pytest.mark.parametrize(("script", "code"), [(closing(1008), 1008), (big_frame, 1009)])
def test_final_loss_is_not_tried_again(run: Run, script: Script, code: int) -> None:
    """A policy violation, a frame of 5 MiB: the error comes at once, nothing is connected."""

    async def scenario() -> None:
        async with scripted(script) as server, managed(server, at_once()) as manager:
            with pytest.raises(WebSocketClosedError, match=str(code)):
                await manager.receive()
            assert server.count == 1
            assert not manager.connected

    run(scenario())


def test_server_restart_is_survived(run: Run) -> None:
    """Refused while the server is away, attempts go on, with growing bounds; then a Gap."""

    async def scenario() -> None:
        sleeps = Sleeps()
        bounds: list[float] = []

        async with scripted(serve_data) as server:

            async def sleep(seconds: float) -> None:
                await sleeps(seconds)
                if len(sleeps.seconds) == 4:
                    await server.start()

            policy = ReconnectPolicy(sleep=sleep, rng=lambda: 1.0, initial_delay_seconds=0.25)
            async with managed(server, policy) as manager:
                assert await data_of(manager) == [1]
                await server.stop()
                gap = await data_of(manager)
                assert isinstance(gap, Gap)
                assert gap.attempts == 4
                bounds = sleeps.seconds
                assert await data_of(manager) == [2]
        assert bounds == [0.25, 0.5, 1.0, 2.0]

    run(scenario())


def test_no_data_although_pings_are_answered_is_a_loss(run: Run) -> None:
    """Liveness is judged by data."""

    async def scenario() -> None:
        policy = at_once(data_timeout_seconds=0.05)
        async with (
            scripted(pongs_only, serve_data) as server,
            managed(server, policy, connect={"ping_timeout": 0.02}) as manager,
        ):
            gap = await data_of(manager)
            assert isinstance(gap, Gap)
            assert gap.reason == "No data for 0.05 s."
            assert await data_of(manager) == [2]

    run(scenario())


def test_sending_on_a_reset_connection_is_a_clear_error(run: Run) -> None:
    """An error of this package that old `except` clauses catch too; the loss is still told."""

    async def reset(peer: Peer) -> None:
        await peer.handshake()
        await peer.read_texts(1)
        peer.reset()

    async def scenario() -> None:
        async with scripted(reset) as server, managed(server, None) as manager:
            await manager.send(WebSocketPlainTextRequest("x"))
            while manager.connected:
                await asyncio.sleep(0.001)
            with pytest.raises(ConnectionFailedError) as caught:
                await manager.send(WebSocketPlainTextRequest("y"))
            assert isinstance(caught.value, aiohttp.ClientConnectionError)
            with pytest.raises(WebSocketClosedError, match="1006"):
                await manager.receive()

    run(scenario())


def test_half_open_peer_does_not_hold_disconnect(run: Run) -> None:
    """The closing handshake that nobody answers ends with its timeout."""

    async def scenario() -> None:
        async with scripted(half_open) as server, managed(server, None) as manager:
            receiver = asyncio.create_task(manager.receive())
            await asyncio.sleep(0)
            await manager.disconnect()
            with pytest.raises(DisconnectedError):
                await receiver

    run(scenario())


def test_half_open_peer_that_floods_does_not_hold_disconnect(run: Run) -> None:
    """Data after our close frame does not prolong the closing handshake."""

    async def flood(peer: Peer) -> None:
        await peer.handshake()
        with contextlib.suppress(ConnectionError):
            while True:
                peer.text('"' + "x" * 100 + '"')
                await peer.writer.drain()
                await asyncio.sleep(0)

    async def scenario() -> None:
        async with scripted(flood) as server, managed(server, None) as manager:
            await manager.receive()
            await manager.disconnect()
            assert not manager.connected

    run(scenario())
