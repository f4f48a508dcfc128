"""The receive buffer and its overflow policies."""

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from websocket_servers import Run, Serve, Server, connected, until

from networkpype.exceptions import (
    BufferOverflowError,
    ConfigurationError,
    DisconnectedError,
    WebSocketClosedError,
)
from networkpype.websocket.buffer import Inbox, OverflowPolicy, ReceiveBuffer
from networkpype.websocket.connection import WebSocketConnection
from networkpype.websocket.response import WebSocketResponse


def take_all(inbox: Inbox) -> list[Any]:
    """Return the data of what is in the inbox."""
    taken = []
    while (response := inbox.get_nowait()) is not None:
        taken.append(response.data)
    return taken


async def fill(inbox: Inbox, *items: Any) -> None:
    for item in items:
        await inbox.put(WebSocketResponse(item))


def test_messages_come_out_in_the_order_of_arrival(run: Run) -> None:
    """Without overflow nothing is lost or moved."""

    async def scenario() -> None:
        inbox = Inbox(ReceiveBuffer(max_messages=3))
        await fill(inbox, 1, 2, 3)
        assert take_all(inbox) == [1, 2, 3]
        assert inbox.dropped_count == 0

    run(scenario())


def test_block_waits_for_room(run: Run) -> None:
    """A full buffer holds its filler back until a message is taken."""

    async def scenario() -> None:
        inbox = Inbox(ReceiveBuffer(policy="block", max_messages=2))
        filler = asyncio.create_task(fill(inbox, 1, 2, 3, 4))
        await asyncio.sleep(0)
        assert not filler.done()
        first = inbox.get_nowait()
        assert first is not None
        assert first.data == 1
        await asyncio.sleep(0)
        assert not filler.done()
        assert take_all(inbox) == [2, 3]
        await filler
        assert take_all(inbox) == [4]
        assert inbox.dropped_count == 0

    run(scenario())


def test_drop_oldest_keeps_the_newest_and_counts(run: Run) -> None:
    """The oldest message makes room, and is counted."""

    async def scenario() -> None:
        inbox = Inbox(ReceiveBuffer(policy="drop_oldest", max_messages=2))
        await fill(inbox, 1, 2, 3, 4, 5)
        assert inbox.dropped_count == 3
        assert take_all(inbox) == [4, 5]

    run(scenario())


def test_latest_replaces_by_key_in_place(run: Run) -> None:
    """A newer message takes the place of an older one with its key, and keeps its turn."""

    async def scenario() -> None:
        settings = ReceiveBuffer(policy="latest", max_messages=10, key=lambda r: r.data[0])
        inbox = Inbox(settings)
        await fill(inbox, ("a", 1), ("b", 1), ("a", 2), (None, 1), (None, 2))
        assert inbox.dropped_count == 1
        assert take_all(inbox) == [("a", 2), ("b", 1), (None, 1), (None, 2)]

    run(scenario())


def test_latest_makes_room_when_full_of_other_keys(run: Run) -> None:
    """The bound holds for any number of keys."""

    async def scenario() -> None:
        inbox = Inbox(ReceiveBuffer(policy="latest", max_messages=2, key=lambda r: r.data))
        await fill(inbox, "a", "b", "c", "b")
        assert inbox.dropped_count == 2
        assert take_all(inbox) == ["b", "c"]

    run(scenario())


def test_raise_refuses_what_does_not_fit(run: Run) -> None:
    """A full buffer raises for its filler; what it has stays."""

    async def scenario() -> None:
        inbox = Inbox(ReceiveBuffer(policy="raise", max_messages=2))
        with pytest.raises(BufferOverflowError, match="2 messages"):
            await fill(inbox, 1, 2, 3)
        assert take_all(inbox) == [1, 2]

    run(scenario())


def test_end_comes_after_the_messages(run: Run) -> None:
    """What arrived before the end is still received; then the first end is raised."""

    async def scenario() -> None:
        inbox = Inbox(ReceiveBuffer())
        await fill(inbox, 1)
        inbox.end(KeyError("first"))
        inbox.end(KeyError("second"))
        await fill(inbox, 2)
        assert inbox.get_nowait() == WebSocketResponse(1)
        with pytest.raises(KeyError, match="first"):
            inbox.get_nowait()

    run(scenario())


def test_discard_wakes_both_sides(run: Run) -> None:
    """A filler that waits for room and a receiver are let go; nothing is handed out."""

    async def scenario() -> None:
        inbox = Inbox(ReceiveBuffer(max_messages=1))
        filler = asyncio.create_task(fill(inbox, 1, 2))
        await asyncio.sleep(0)
        inbox.discard(DisconnectedError("gone"))
        await filler
        with pytest.raises(DisconnectedError):
            inbox.get_nowait()

        empty = Inbox(ReceiveBuffer())
        receiver = asyncio.create_task(empty.wait())
        await asyncio.sleep(0)
        assert empty.is_receiving
        empty.discard(DisconnectedError("gone"))
        await receiver
        assert not empty.is_receiving

    run(scenario())


def test_cancelled_receiver_takes_nothing(run: Run) -> None:
    """A message that arrives as its receiver is cancelled is there for the next one."""

    async def scenario() -> None:
        inbox = Inbox(ReceiveBuffer())
        receiver = asyncio.create_task(inbox.wait())
        await asyncio.sleep(0)
        await fill(inbox, 1)
        receiver.cancel()
        await asyncio.wait((receiver,))
        assert not inbox.is_receiving
        assert take_all(inbox) == [1]

    run(scenario())


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"policy": "newest"}, "known: block, drop_oldest, latest, raise"),
        ({"max_messages": 0}, "at least 1"),
        ({"policy": "latest"}, "key"),
        ({"policy": OverflowPolicy.BLOCK, "key": id}, "key"),
    ],
)
def test_nonsense_is_refused(settings: dict[str, Any], text: str) -> None:
    """A wrong configuration raises where it is made."""
    with pytest.raises(ConfigurationError, match=text):
        ReceiveBuffer(**settings)


def test_buffer_block_holds_the_server_back(run: Run, serve: Serve) -> None:
    """Without a receiver the server cannot send all; with one, all comes, in order."""

    async def scenario() -> None:
        count = 20_000
        buffer = ReceiveBuffer(policy="block", max_messages=10)
        async with connected(serve, f"/flood?n={count}", receive_buffer=buffer) as (
            connection,
            server,
        ):
            # 20 MB: more than all the buffers on the way hold.
            sent = -1
            while sent != server.sent_count:
                sent = server.sent_count
                await asyncio.sleep(0.05)
            assert 10 < sent < count
            numbers = [(await connection.receive()).data["n"] for _ in range(count)]
            assert numbers == list(range(count))
            assert connection.dropped_count == 0

    run(scenario())


def test_buffer_drop_oldest_reads_on(run: Run, serve: Serve) -> None:
    """The server is never held back; the newest messages are there, the rest is counted."""

    async def scenario() -> None:
        buffer = ReceiveBuffer(policy="drop_oldest", max_messages=10)
        async with connected(serve, "/flood?n=3000", receive_buffer=buffer) as (connection, _):
            await until(lambda: connection.dropped_count == 2990)
            numbers = [(await connection.receive()).data["n"] for _ in range(10)]
            assert numbers == list(range(2990, 3000))
        assert connection.dropped_count == 2990

    run(scenario())


def test_buffer_answers_pings_of_a_busy_program(run: Run, serve: Serve) -> None:
    """With a buffer the socket is read although nobody receives."""

    async def scenario() -> None:
        async with connected(serve, "/ping", receive_buffer=ReceiveBuffer()) as (_, server):
            await until(lambda: bool(server.seen))
            assert server.seen[0].data == b"payload of a ping"

    run(scenario())


def test_buffer_gives_what_came_before_the_loss(run: Run, serve: Serve) -> None:
    """Not connected any more, the messages that are here are received, then the loss, once."""

    async def scenario() -> None:
        server = Server()

        async def two_and_close(request: web.Request) -> Any:
            async with server.accept(request) as websocket:
                await websocket.send_str("1")
                await websocket.send_str("2")
                await websocket.close(code=1012)
            return websocket

        async with serve({"/two": two_and_close}) as local, aiohttp.ClientSession() as session:
            connection = WebSocketConnection(session)
            await connection.connect(local.url("/two"), receive_buffer=ReceiveBuffer())
            await until(lambda: not connection.connected)
            with pytest.raises(WebSocketClosedError):
                await connection.send_text("x")
            assert [(await connection.receive()).data for _ in range(2)] == [1, 2]
            with pytest.raises(WebSocketClosedError, match="1012"):
                await connection.receive()
            with pytest.raises(DisconnectedError):
                await connection.receive()

    run(scenario())


def test_buffer_raise_ends_the_connection(run: Run, serve: Serve) -> None:
    """What fits is received, then the overflow is raised; the server is let go."""

    async def scenario() -> None:
        buffer = ReceiveBuffer(policy="raise", max_messages=3)
        async with connected(serve, "/flood?n=100", receive_buffer=buffer) as (connection, server):
            await until(lambda: not connection.connected)
            assert [(await connection.receive()).data["n"] for _ in range(3)] == [0, 1, 2]
            with pytest.raises(BufferOverflowError):
                await connection.receive()
            await until(lambda: server.open_count == 0)

    run(scenario())


def test_error_of_a_key_function_is_raised_by_receive(run: Run, serve: Serve) -> None:
    """It does not vanish in a task, and does not hang the receiver."""

    async def scenario() -> None:
        buffer = ReceiveBuffer(policy="latest", key=lambda response: response.data["no such key"])
        async with connected(serve, "/flood?n=1", receive_buffer=buffer) as (connection, _):
            with pytest.raises(KeyError, match="no such key"):
                await connection.receive()
            assert not connection.connected

    run(scenario())


@pytest.mark.parametrize("policy", ["block", "drop_oldest"])
def test_disconnect_with_a_buffer_is_clean(run: Run, serve: Serve, policy: str) -> None:
    """A full buffer, a pending receiver: neither keeps disconnect() or hangs."""

    async def scenario() -> None:
        buffer = ReceiveBuffer(policy=policy, max_messages=2)
        async with connected(serve, "/flood?n=50", receive_buffer=buffer) as (connection, server):
            await until(lambda: server.sent_count == 50)
            await connection.disconnect()
            with pytest.raises(DisconnectedError):
                await connection.receive()
            await until(lambda: server.open_count == 0)
        async with connected(serve, "/talk", receive_buffer=buffer) as (connection, _):
            receiver = asyncio.create_task(connection.receive())
            await asyncio.sleep(0)
            await connection.disconnect()
            with pytest.raises(DisconnectedError):
                await receiver

    run(scenario())


def test_buffered_messages_are_not_given_out_while_disconnecting(run: Run, serve: Serve) -> None:
    """From the call of disconnect() on there is no message any more."""

    async def scenario() -> None:
        options = {"receive_buffer": ReceiveBuffer()}
        async with connected(serve, "/flood?n=50", **options) as (connection, server):
            await connection.receive()
            await until(lambda: server.sent_count == 50)
            closing = asyncio.create_task(connection.disconnect())
            while connection.connected:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            with pytest.raises(DisconnectedError):
                await connection.receive()
            await closing

    run(scenario())
