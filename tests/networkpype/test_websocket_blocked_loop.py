"""Timeouts of a loop that was blocked, or of a machine that was suspended."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from scripted_servers import (
    PING,
    PONG,
    Peer,
    Script,
    data_of,
    managed,
    pongs_only,
    scripted,
)

from networkpype.exceptions import ReceiveTimeoutError, WebSocketClosedError
from networkpype.websocket.buffer import ReceiveBuffer
from networkpype.websocket.reconnect import ReconnectPolicy

pytestmark = pytest.mark.slow

TIMEOUT = 0.08
# Longer than any timeout with its checks.
BLOCKED = 4 * TIMEOUT

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS)
def run_on(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    def run(coroutine: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(asyncio.wait_for(coroutine, 60))

    return run


def answering(*frames: tuple[int, bytes], at_ping: bool) -> Script:
    """Return a script that sends `frames` and then blocks the loop, client included.

    `at_ping`: when the client has pinged; else at once.
    """

    async def script(peer: Peer) -> None:
        await peer.handshake()
        await peer.writer.drain()
        # The client waits.
        await asyncio.sleep(TIMEOUT / 2)
        opcode = payload = None
        while at_ping and opcode != PING:
            opcode, payload = await peer.read()
        for kind, data in frames:
            peer.writer.write(frame(kind, payload if kind == PONG and payload else data))
        time.sleep(BLOCKED)
        peer.text('"alive"')
        await peer.answer_pings()

    return script


def frame(kind: int, data: bytes) -> bytes:
    if len(data) < 126:
        return bytes([0x80 | kind, len(data)]) + data
    return bytes([0x80 | kind, 127]) + len(data).to_bytes(8, "big") + data


FRAMES: dict[str, tuple[tuple[int, bytes], ...]] = {
    "text": ((1, b'"alive"'),),
    "large": ((2, bytes(150_000)),),
    "many": tuple((1, b"%d" % number) for number in range(500)),
    "ping": ((PING, b"x"),),
    "pong": ((PONG, b""),),
}


@pytest.mark.parametrize("is_buffered", [True, False])
@pytest.mark.parametrize("name", FRAMES)
def test_what_has_arrived_while_the_loop_was_blocked_is_life(
    run_on: Any, name: str, is_buffered: bool
) -> None:
    """No connection is given up whose answer waits in the socket."""

    async def scenario() -> None:
        script = answering(*FRAMES[name], at_ping=True)
        buffer = ReceiveBuffer() if is_buffered else None
        options = {"ping_timeout": TIMEOUT, "receive_buffer": buffer}
        async with scripted(script) as server, managed(server, None, connect=options) as manager:
            while await data_of(manager) != "alive":
                pass
            assert manager.connected

    run_on(scenario())


@pytest.mark.parametrize("name", ["text", "large", "many"])
@pytest.mark.parametrize("timeout", ["data_timeout_seconds", "message_timeout"])
def test_data_that_has_arrived_is_in_time(run_on: Any, name: str, timeout: str) -> None:
    """Also for the timeouts that count data only."""

    async def scenario() -> None:
        script = answering(*FRAMES[name], at_ping=False)
        options: dict[str, Any] = {"ping_timeout": None}
        policy = None
        if timeout == "message_timeout":
            options["message_timeout"] = TIMEOUT
        else:
            policy = ReconnectPolicy(data_timeout_seconds=TIMEOUT, max_attempts=1)
        async with scripted(script) as server, managed(server, policy, connect=options) as manager:
            while await data_of(manager) != "alive":
                pass
            assert server.count == 1

    run_on(scenario())


def test_dead_peer_is_given_up_although_the_loop_is_blocked(run_on: Any) -> None:
    """The second look is a verdict, however late it is."""

    async def scenario() -> None:
        async def dead(peer: Peer) -> None:
            await peer.handshake()
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    await peer.read()

        async def block() -> None:
            while True:
                time.sleep(TIMEOUT)
                await asyncio.sleep(0.001)

        options = {"ping_timeout": TIMEOUT}
        async with scripted(dead) as server, managed(server, None, connect=options) as manager:
            blocking = asyncio.create_task(block())
            with pytest.raises(WebSocketClosedError, match="No answer to a ping"):
                await manager.receive()
            blocking.cancel()

    run_on(scenario())


def test_message_timeout_still_ends_a_receive_without_data(run_on: Any) -> None:
    """A server that answers pings is no data."""

    async def scenario() -> None:
        options = {"message_timeout": 0.02}
        async with (
            scripted(pongs_only) as server,
            managed(server, None, connect=options) as manager,
        ):
            for _ in range(3):
                with pytest.raises(ReceiveTimeoutError):
                    await manager.receive()
            assert manager.connected

    run_on(scenario())


# --- a suspended machine ---


class Wall:
    """A wall clock that jumps when the machine wakes up."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.mark.parametrize("seconds", [2.0, 30 * 86_400.0])
def test_woken_machine_pings_at_once(run_on: Any, seconds: float) -> None:
    """Not only after a silence."""

    async def scenario() -> None:
        wall = Wall()
        pings: list[bytes] = []
        pinged = asyncio.Event()

        async def talk(peer: Peer) -> None:
            """Never be silent, so that there is no other reason for a ping."""
            await peer.handshake()

            async def chatter() -> None:
                while True:
                    peer.text("1")
                    await asyncio.sleep(0.01)

            chattering = asyncio.create_task(chatter())
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    opcode, payload = await peer.read()
                    if opcode == PING:
                        pings.append(payload)
                        pinged.set()
                        peer.frame(PONG, payload)
            chattering.cancel()

        policy = ReconnectPolicy(wall_clock=wall)
        options = {"ping_timeout": 1.0}
        async with scripted(talk) as server, managed(server, policy, connect=options) as manager:

            async def receive() -> None:
                async for _ in manager.iter_messages():
                    pass

            receiving = asyncio.create_task(receive())
            await asyncio.sleep(0.6)
            assert pings == []
            wall.ahead += seconds
            await pinged.wait()
            assert server.count == 1
            receiving.cancel()

    run_on(scenario())
