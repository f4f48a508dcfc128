"""receive() and iter_messages() when they are cancelled, and in subclasses."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable
from typing import Any

import aiohttp
import pytest
from scripted_servers import (
    Peer,
    Run,
    at_once,
    closing,
    data_of,
    managed,
    scripted,
    serve_data,
)

from networkpype.exceptions import DisconnectedError, WebSocketClosedError
from networkpype.websocket.buffer import ReceiveBuffer
from networkpype.websocket.connection import WebSocketConnection
from networkpype.websocket.manager import WebSocketManager
from networkpype.websocket.processor.base import WebSocketPostProcessor
from networkpype.websocket.request import WebSocketPlainTextRequest
from networkpype.websocket.response import Gap, WebSocketResponse

COUNT = 30


async def counting(peer: Peer) -> None:
    await peer.handshake()
    for number in range(COUNT):
        peer.text(str(number))
    await peer.answer_pings()


class Slow(WebSocketPostProcessor):
    """Be cancelled at first, for each message; then add to a list of those who saw it."""

    def __init__(self, name: str, cancellations: int) -> None:
        self._name = name
        self._cancellations = cancellations
        self.started = asyncio.Event()

    async def post_process(self, response: WebSocketResponse) -> WebSocketResponse:
        for_this = getattr(response, self._name, 0)
        setattr(response, self._name, for_this + 1)
        if for_this < self._cancellations:
            self.started.set()
            await asyncio.Event().wait()
        seen = [*getattr(response, "seen", ()), self._name]
        after = WebSocketResponse(response.data)
        after.seen = seen  # type: ignore[attr-defined]
        return after


@pytest.mark.parametrize("is_buffered", [True, False])
@pytest.mark.parametrize("is_iterating", [True, False])
@pytest.mark.parametrize("cancellations", [1, 3])
def test_message_cancelled_in_a_post_processor_comes_next(
    run: Run, is_buffered: bool, is_iterating: bool, cancellations: int
) -> None:
    """Every message comes once, in order, through every post-processor."""

    async def scenario() -> None:
        slow = [Slow("a", cancellations), Slow("b", cancellations)]
        options = {"receive_buffer": ReceiveBuffer() if is_buffered else None}
        async with (
            scripted(counting) as server,
            managed(server, None, connect=options, ws_post_processors=slow) as manager,
        ):
            messages = manager.iter_messages()
            numbers = []
            while len(numbers) < COUNT:
                receive = messages.__anext__ if is_iterating else manager.receive
                receiver = asyncio.ensure_future(receive())
                waits = [asyncio.ensure_future(each.started.wait()) for each in slow]
                await asyncio.wait([receiver, *waits], return_when=asyncio.FIRST_COMPLETED)
                for wait in waits:
                    wait.cancel()
                for each in slow:
                    each.started.clear()
                if not receiver.done():
                    receiver.cancel()
                    await asyncio.wait([receiver])
                    continue
                message = receiver.result()
                assert message.seen == ["a", "b"]
                numbers.append(message.data)
            assert numbers == list(range(COUNT))

    run(scenario())


def test_message_cancelled_before_a_loss_comes_before_the_gap(run: Run) -> None:
    """What belongs to the old connection stays on its side of the Gap."""

    async def one_and_close(peer: Peer) -> None:
        await peer.handshake()
        peer.text('"old"')
        peer.close(1012)
        await peer.until_gone()

    async def scenario() -> None:
        slow = Slow("a", 1)
        options = {"receive_buffer": ReceiveBuffer()}
        async with (
            scripted(one_and_close, serve_data) as server,
            managed(
                server, at_once(sends_wait=True), connect=options, ws_post_processors=[slow]
            ) as manager,
        ):
            receiver = asyncio.create_task(manager.receive())
            await slow.started.wait()
            # Starts to reconnect while the message is processed.
            while manager.connected:
                await asyncio.sleep(0.001)
            await manager.send(WebSocketPlainTextRequest("x"))
            receiver.cancel()
            await asyncio.wait([receiver])
            assert await data_of(manager) == "old"
            assert isinstance(await data_of(manager), Gap)

    run(scenario())


def test_error_of_a_post_processor_drops_its_message(run: Run) -> None:
    """It is raised once; a message that cannot be processed does not come again and again."""

    class Picky(WebSocketPostProcessor):
        async def post_process(self, response: WebSocketResponse) -> WebSocketResponse:
            if response.data == 1:
                raise KeyError("one")
            return response

    async def scenario() -> None:
        async with (
            scripted(counting) as server,
            managed(server, None, ws_post_processors=[Picky()]) as manager,
        ):
            assert await data_of(manager) == 0
            with pytest.raises(KeyError):
                await manager.receive()
            assert await data_of(manager) == 2

    run(scenario())


def test_disconnect_discards_what_was_cancelled(run: Run) -> None:
    """A later connection of the same manager does not begin with an old message."""

    async def scenario() -> None:
        slow = Slow("a", 1)
        async with (
            scripted(counting) as server,
            managed(server, None, ws_post_processors=[slow]) as manager,
        ):
            receiver = asyncio.create_task(manager.receive())
            await slow.started.wait()
            await manager.disconnect()
            receiver.cancel()
            await asyncio.wait([receiver])
            with pytest.raises(DisconnectedError):
                await manager.receive()

    run(scenario())


# --- iter_messages() ----------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [at_once(), None])
@pytest.mark.parametrize("is_processed", [True, False])
def test_iteration_goes_on_after_a_timeout(run: Run, policy: Any, is_processed: bool) -> None:
    """A cancelled anext() does not end it while the connection is open."""

    async def patient(peer: Peer) -> None:
        await peer.handshake()
        for number in await peer.read_texts(3):
            peer.text(number)
        await peer.answer_pings()

    async def scenario() -> None:
        processors = [Slow("a", 0)] if is_processed else []
        async with (
            scripted(patient) as server,
            managed(server, policy, ws_post_processors=processors) as manager,
        ):
            messages = manager.iter_messages()
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(messages), 0.01)
            for number in range(3):
                await manager.send(WebSocketPlainTextRequest(str(number)))
            assert [(await anext(messages)).data for _ in range(3)] == [0, 1, 2]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(messages), 0.01)
            assert manager.connected
            await messages.aclose()
            assert [message async for message in messages] == []

    run(scenario())


def test_iteration_is_an_asynchronous_generator(run: Run) -> None:
    """As in 1.1; an exception that is thrown into it ends it."""

    async def scenario() -> None:
        async with scripted(counting) as server, managed(server, None) as manager:
            messages = manager.iter_messages()
            assert isinstance(messages, AsyncGenerator)
            assert aiter(messages) is messages
            assert (await messages.asend(None)).data == 0
            with pytest.raises(KeyError):
                await messages.athrow(KeyError("x"))
            with pytest.raises(StopAsyncIteration):
                await anext(messages)

    run(scenario())


class Silent(WebSocketConnection):
    """Give None, at once, as some subclasses of 1.1 do at the end."""

    is_over = False

    @property
    def connected(self) -> bool:
        return not self.is_over

    async def receive(self) -> WebSocketResponse | None:
        return None


class SilentManager(WebSocketManager):
    async def receive(self) -> WebSocketResponse | None:
        return None


@pytest.mark.parametrize(
    ("connection_class", "manager_class"),
    [(Silent, WebSocketManager), (Silent, SilentManager), (WebSocketConnection, SilentManager)],
)
def test_iteration_over_none_does_not_spin(
    run: Run, connection_class: Callable[..., Any], manager_class: Callable[..., Any]
) -> None:
    """It lets other tasks run, and ends when the connection does."""

    async def scenario() -> None:
        async with scripted(serve_data) as server, aiohttp.ClientSession() as session:
            connection = connection_class(session)
            manager = manager_class(connection)
            await manager.connect(server.url, close_timeout=0.2)

            async def end() -> None:
                await asyncio.sleep(0.01)
                connection.is_over = True
                await connection.disconnect()

            ending = asyncio.create_task(end())
            assert [message async for message in manager.iter_messages()] == []
            await ending

    run(scenario())


def test_receive_of_a_subclass_is_used_by_the_iteration(run: Run) -> None:
    """Of a connection and of a manager."""

    class Wrapping(WebSocketConnection):
        async def receive(self) -> WebSocketResponse | None:
            response = await super().receive()
            return None if response is None else WebSocketResponse(["connection", response.data])

    class WrappingManager(WebSocketManager):
        async def receive(self) -> WebSocketResponse | None:
            response = await super().receive()
            return None if response is None else WebSocketResponse(["manager", response.data])

    async def scenario() -> None:
        async with scripted(counting) as server, aiohttp.ClientSession() as session:
            manager = WrappingManager(Wrapping(session))
            await manager.connect(server.url, close_timeout=0.2)
            assert (await anext(manager.iter_messages())).data == ["manager", ["connection", 0]]
            await manager.disconnect()

    run(scenario())


def test_receive_is_a_coroutine_function() -> None:
    """As in 1.1; mocks and decorators ask."""
    for function in (
        WebSocketConnection.receive,
        WebSocketConnection.send,
        WebSocketConnection.connect,
        WebSocketManager.receive,
        WebSocketManager.send,
        WebSocketManager.connect,
    ):
        assert inspect.iscoroutinefunction(function)


def test_loss_ends_the_iteration_with_its_error(run: Run) -> None:
    """Without a policy; then there is nothing to iterate over."""

    async def scenario() -> None:
        async with scripted(closing(4000)) as server, managed(server, None) as manager:
            messages = manager.iter_messages()
            with pytest.raises(WebSocketClosedError, match="4000"):
                await anext(messages)
            with pytest.raises(StopAsyncIteration):
                await anext(messages)

    run(scenario())
