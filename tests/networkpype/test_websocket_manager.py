"""Limits, processors, auth and subscriptions of WebSocket messages."""

import asyncio
import contextlib
import copy
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from networkpype.auth import Auth
from networkpype.exceptions import (
    AuthError,
    ClosedError,
    ConnectionStateError,
    DisconnectedError,
    UnknownLimitError,
)
from networkpype.factory import ConnectionManagersFactory
from networkpype.rest.request import RESTRequest
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler
from networkpype.websocket.buffer import ReceiveBuffer
from networkpype.websocket.connection import WebSocketConnection
from networkpype.websocket.manager import WebSocketManager
from networkpype.websocket.processor.base import WebSocketPostProcessor, WebSocketPreProcessor
from networkpype.websocket.request import (
    MessageSender,
    WebSocketJSONRequest,
    WebSocketPlainTextRequest,
    WebSocketRequest,
)
from networkpype.websocket.response import WebSocketResponse

Run = Callable[[Any], Any]
Serve = Callable[..., Any]


class Echo:
    """Send back what comes; `seen` has it, `clock` when it came."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.times: list[float] = []

    async def handle(self, request: web.Request) -> Any:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        async for message in websocket:
            self.seen.append(message.data)
            self.times.append(asyncio.get_running_loop().time())
            await websocket.send_str(message.data)
        return websocket


@contextlib.asynccontextmanager
async def managed(serve: Serve, **options: Any) -> Any:
    """Give a manager that is connected to an echo, and the echo."""
    echo = Echo()
    async with serve({"/ws": echo.handle}) as local, aiohttp.ClientSession() as session:
        manager = WebSocketManager(WebSocketConnection(session), **options)
        await manager.connect(local.url("/ws"))
        try:
            yield manager, echo
        finally:
            await manager.disconnect()


class Signer(Auth):
    """Put a number, higher each time, into the payload."""

    def __init__(self) -> None:
        self.count = 0

    async def rest_authenticate(self, request: RESTRequest) -> RESTRequest:
        return request

    async def ws_authenticate(self, request: WebSocketRequest) -> WebSocketRequest:
        self.count += 1
        request.payload["signature"] = self.count
        return request


class Append(WebSocketPreProcessor):
    def __init__(self, letter: str) -> None:
        self.letter = letter

    async def pre_process(self, request: WebSocketRequest) -> WebSocketRequest:
        request.payload["path"].append(self.letter)
        return request


class Wrap(WebSocketPostProcessor):
    def __init__(self, letter: str) -> None:
        self.letter = letter

    async def post_process(self, response: WebSocketResponse) -> WebSocketResponse:
        return WebSocketResponse([self.letter, response.data])


class Demand(WebSocketPreProcessor):
    """Ask for a signature."""

    async def pre_process(self, request: WebSocketRequest) -> WebSocketRequest:
        request.is_auth_required = True
        return request


async def next_of(messages: Any) -> Any:
    return (await anext(messages)).data


def test_processors_run_in_order_and_auth_last(run: Run, serve: Serve) -> None:
    """Pre-processors, then auth, then the wire, then post-processors."""

    async def scenario() -> None:
        options = {
            "ws_pre_processors": [Append("a"), Append("b")],
            "ws_post_processors": [Wrap("x"), Wrap("y")],
            "auth": Signer(),
        }
        async with managed(serve, **options) as (manager, _):
            await manager.send(WebSocketJSONRequest({"path": []}, is_auth_required=True))
            expected = {"path": ["a", "b"], "signature": 1}
            assert (await manager.receive()).data == ["y", ["x", expected]]
            await manager.send(WebSocketJSONRequest({"path": []}))
            messages = manager.iter_messages()
            assert await next_of(messages) == ["y", ["x", {"path": ["a", "b"]}]]
            await messages.aclose()

    run(scenario())


def test_request_of_the_caller_is_never_changed(run: Run, serve: Serve) -> None:
    """Processors and auth change a copy, nested containers included."""

    async def scenario() -> None:
        options = {"ws_pre_processors": [Append("a")], "auth": Signer()}
        async with managed(serve, **options) as (manager, _):
            request = WebSocketJSONRequest({"path": []}, is_auth_required=True)
            before = copy.deepcopy(request)
            await manager.send(request)
            await manager.subscribe(request)
            assert request == before

    run(scenario())


def test_unsigned_is_never_sent(run: Run, serve: Serve) -> None:
    """Without an Auth, what has to be signed raises before it is sent; also when a pre-processor
    decides that.
    """

    async def scenario() -> None:
        async with managed(serve) as (manager, echo):
            with pytest.raises(AuthError):
                await manager.send(WebSocketJSONRequest({}, is_auth_required=True))
            with pytest.raises(AuthError):
                await manager.subscribe(WebSocketJSONRequest({}, is_auth_required=True))
            await manager.send(WebSocketJSONRequest({"n": 1}))
            assert (await manager.receive()).data == {"n": 1}
            assert echo.seen == ['{"n":1}']
        async with managed(serve, ws_pre_processors=[Demand()]) as (manager, echo):
            with pytest.raises(AuthError):
                await manager.send(WebSocketJSONRequest({}))
            assert echo.seen == []

    run(scenario())


def limited(limit: int, seconds: float) -> AsyncThrottler:
    return AsyncThrottler([RateLimit("ws", limit, seconds)], safety_margin_pct=0)


def test_limit_is_enforced_from_the_write(run: Run, serve: Serve) -> None:
    """No window of the limit holds more messages than it may, as seen by us at the write."""

    async def scenario() -> None:
        throttler = limited(3, 0.2)
        written = []

        class Timed(WebSocketPlainTextRequest):
            async def send_with_connection(self, connection: MessageSender) -> None:
                await super().send_with_connection(connection)
                written.append(asyncio.get_running_loop().time())

        async with managed(serve, throttler=throttler) as (manager, echo):
            requests = [Timed(str(n), throttler_limit_id="ws") for n in range(8)]
            await asyncio.gather(*(manager.send(request) for request in requests))
            for _ in range(8):
                await manager.receive()
            assert sorted(echo.seen) == [str(n) for n in range(8)]
        for first, fourth in zip(written, written[3:], strict=False):
            assert fourth - first >= 0.2

    run(scenario())


def test_unknown_limit_is_a_value_error(run: Run, serve: Serve) -> None:
    """Nothing is sent under a limit that does not exist."""

    async def scenario() -> None:
        async with managed(serve, throttler=limited(1, 60)) as (manager, echo):
            with pytest.raises(UnknownLimitError):
                await manager.send(WebSocketPlainTextRequest("x", throttler_limit_id="other"))
            assert echo.seen == []

    run(scenario())


def test_without_a_limit_id_nothing_waits(run: Run, serve: Serve) -> None:
    """A request that names no limit passes an exhausted throttler, and a missing one."""

    async def scenario() -> None:
        throttler = limited(1, 60)
        async with managed(serve, throttler=throttler) as (manager, _):
            await manager.send(WebSocketPlainTextRequest("1", throttler_limit_id="ws"))
            await manager.send(WebSocketPlainTextRequest("2"))
            assert [(await manager.receive()).data for _ in range(2)] == [1, 2]
        async with managed(serve) as (manager, _):
            await manager.send(WebSocketPlainTextRequest("3", throttler_limit_id="ws"))
            assert (await manager.receive()).data == 3

    run(scenario())


def test_what_was_not_written_does_not_count(run: Run, serve: Serve) -> None:
    """A failing pre-processor, a missing signature, a lost connection: the capacity comes back."""

    class Fail(WebSocketPreProcessor):
        async def pre_process(self, request: WebSocketRequest) -> WebSocketRequest:
            if request.payload == "bad":
                raise KeyError("bad")
            return request

    async def scenario() -> None:
        throttler = limited(1, 60)
        options = {"throttler": throttler, "ws_pre_processors": [Fail()]}
        async with managed(serve, **options) as (manager, echo):
            with pytest.raises(KeyError):
                await manager.send(WebSocketPlainTextRequest("bad", throttler_limit_id="ws"))
            # Would wait for a minute if the first one counted.
            await manager.send(WebSocketPlainTextRequest("good", throttler_limit_id="ws"))
            assert (await manager.receive()).data == "good"
            assert echo.seen == ["good"]
            waiting = asyncio.create_task(
                manager.send(WebSocketPlainTextRequest("late", throttler_limit_id="ws"))
            )
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    run(scenario())


def test_what_may_have_been_written_counts(run: Run, serve: Serve) -> None:
    """A request that fails after its bytes have left has used its capacity."""

    class Half(WebSocketPlainTextRequest):
        async def send_with_connection(self, connection: MessageSender) -> None:
            await super().send_with_connection(connection)
            raise KeyError("after the write")

    async def scenario() -> None:
        throttler = limited(1, 3600)
        async with managed(serve, throttler=throttler) as (manager, _):
            with pytest.raises(KeyError, match="after the write"):
                await manager.send(Half("1", throttler_limit_id="ws"))
            assert not throttler.try_acquire("ws")

    run(scenario())


def test_pre_processor_that_sends_does_not_deadlock(run: Run, serve: Serve) -> None:
    """What it sends and what it prepares do not wait for each other, and all of it counts."""

    class Announce(WebSocketPreProcessor):
        manager: WebSocketManager

        async def pre_process(self, request: WebSocketRequest) -> WebSocketRequest:
            if request.payload == "data":
                note = WebSocketPlainTextRequest("note", throttler_limit_id="ws")
                await self.manager.send(note)
            return request

    async def scenario() -> None:
        announce = Announce()
        # Room for the notes of two tries, and for the message itself.
        throttler = limited(3, 3600)
        options = {"throttler": throttler, "ws_pre_processors": [announce]}
        async with managed(serve, **options) as (manager, echo):
            announce.manager = manager
            await manager.send(WebSocketPlainTextRequest("data", throttler_limit_id="ws"))
            while "data" not in echo.seen:
                await manager.receive()
            assert echo.seen[-1] == "data"
            assert echo.seen[:-1] == ["note", "note"]
            assert not throttler.try_acquire("ws")

    run(scenario())


@pytest.mark.parametrize("ending", ["disconnect", "factory"])
def test_waiting_senders_are_let_go(run: Run, serve: Serve, ending: str) -> None:
    """A message that waits for its limit ends with a clear error when there is no connection
    any more, not when the limit has room.
    """

    async def scenario() -> None:
        echo = Echo()
        async with (
            serve({"/ws": echo.handle}) as local,
            ConnectionManagersFactory(limited(1, 3600)) as factory,
        ):
            manager = await factory.get_ws_manager()
            await manager.connect(local.url("/ws"))
            request = WebSocketPlainTextRequest("1", throttler_limit_id="ws")
            await manager.send(request)
            waiting = [asyncio.create_task(manager.send(request)) for _ in range(3)]
            await asyncio.sleep(0)
            await (manager.disconnect() if ending == "disconnect" else factory.close())
            for task in waiting:
                with pytest.raises(ClosedError, match=ending):
                    await task
            await manager.disconnect()

    run(scenario())


def test_sending_without_a_connection_is_refused_at_once(run: Run) -> None:
    """It does not wait for a limit first."""

    async def scenario() -> None:
        async with aiohttp.ClientSession() as session:
            throttler = limited(1, 3600)
            assert throttler.try_acquire("ws")
            manager = WebSocketManager(WebSocketConnection(session), throttler=throttler)
            request = WebSocketPlainTextRequest("1", throttler_limit_id="ws")
            for use in (manager.send(request), manager.subscribe(request), manager.receive()):
                with pytest.raises(RuntimeError, match="not connected"):
                    await use

    run(scenario())


def test_iter_messages_ends_on_our_own_disconnect(run: Run, serve: Serve) -> None:
    """A pending iteration ends, and so does one that was between two messages."""

    async def scenario() -> None:
        async with managed(serve) as (manager, _):
            messages = manager.iter_messages()
            pending = asyncio.create_task(anext(messages, "ended"))
            await asyncio.sleep(0)
            await manager.disconnect()
            assert await pending == "ended"
            assert [message async for message in manager.iter_messages()] == []
        async with managed(serve) as (manager, _):
            await manager.send(WebSocketPlainTextRequest("1"))
            received = []
            async for message in manager.iter_messages():
                received.append(message.data)
                await manager.disconnect()
            assert received == [1]

    run(scenario())


def test_iter_messages_raises_an_unexpected_close(run: Run, serve: Serve) -> None:
    """Without a policy the loss comes out of the iteration, as a ConnectionError."""

    async def closer(request: web.Request) -> Any:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        await websocket.send_str("1")
        await websocket.close(code=1001)
        return websocket

    async def scenario() -> None:
        async with serve({"/ws": closer}) as local, aiohttp.ClientSession() as session:
            manager = WebSocketManager(WebSocketConnection(session))
            await manager.connect(local.url("/ws"))
            messages = manager.iter_messages()
            assert await next_of(messages) == 1
            with pytest.raises(ConnectionError, match="1001"):
                await next_of(messages)
            assert not manager.connected
            # Also without a loop around it.
            await manager.connect(local.url("/ws"))
            await manager.receive()
            with pytest.raises(ConnectionError, match="1001"):
                await manager.receive()

    run(scenario())


def test_options_are_those_of_the_connection(run: Run, serve: Serve) -> None:
    """connect() of the manager passes on what it is given."""

    async def scenario() -> None:
        async with serve({"/ws": Echo().handle}) as local, aiohttp.ClientSession() as session:
            connection = WebSocketConnection(session)
            manager = WebSocketManager(connection)
            await manager.connect(
                local.url("/ws"),
                message_timeout=0.01,
                ws_headers={"X-A": "b"},
                receive_buffer=ReceiveBuffer(policy="drop_oldest", max_messages=1),
            )
            assert manager.connected
            assert manager.last_recv_time == 0.0
            with pytest.raises(TimeoutError, match="timed out"):
                await manager.receive()
            with pytest.raises(ConnectionStateError):
                await manager.connect(local.url("/ws"))
            await manager.ping()
            await manager.disconnect()
            with pytest.raises(DisconnectedError):
                await manager.ping()
            with pytest.raises(TypeError):
                await manager.connect(local.url("/ws"), 5)  # type: ignore[misc]

    run(scenario())
