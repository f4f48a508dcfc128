"""What connectors ask for: fresh URLs, planned reconnections, limits in time, heartbeats."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from scripted_servers import (
    PING,
    PONG,
    TEXT,
    Peer,
    Run,
    Script,
    Sleeps,
    at_once,
    closing,
    data_of,
    managed,
    scripted,
    serve_data,
    text,
)

from networkpype.auth import Auth
from networkpype.exceptions import (
    AuthError,
    ClosedError,
    ConfigurationError,
    ConnectionStateError,
    DeadlineExceeded,
    DisconnectedError,
    HTTPStatusError,
    WebSocketClosedError,
)
from networkpype.rest.request import RESTRequest
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler
from networkpype.websocket.buffer import ReceiveBuffer
from networkpype.websocket.connection import WebSocketConnection
from networkpype.websocket.manager import WebSocketManager
from networkpype.websocket.reconnect import ReconnectPolicy
from networkpype.websocket.request import (
    WebSocketJSONRequest,
    WebSocketRequest,
)
from networkpype.websocket.response import Gap, WebSocketResponse

pytestmark = pytest.mark.slow


@contextlib.asynccontextmanager
async def unconnected(policy: ReconnectPolicy | None, **options: Any) -> Any:
    async with aiohttp.ClientSession() as session:
        manager = WebSocketManager(WebSocketConnection(session), reconnect=policy, **options)
        try:
            yield manager
        finally:
            await manager.disconnect()


# --- 16.18: fresh URLs and headers ---


def sync_of(values: Callable[[], Any]) -> Any:
    return values


def async_of(values: Callable[[], Any]) -> Any:
    async def fetch() -> Any:
        await asyncio.sleep(0)
        return values()

    return fetch


def awaitable_of(values: Callable[[], Any]) -> Any:
    return lambda: asyncio.ensure_future(async_of(values)())


@pytest.mark.parametrize("kind", [sync_of, async_of, awaitable_of])
def test_each_connection_has_a_fresh_url_and_fresh_headers(
    run: Run, kind: Callable[[Callable[[], Any]], Any]
) -> None:
    """The first one and each later one."""

    async def scenario() -> None:
        heads: list[bytes] = []

        async def remember(peer: Peer) -> None:
            await peer.handshake()
            heads.append(peer.head)
            if peer.number < 3:
                peer.close(1012)
            peer.text("[]")
            await peer.until_gone()

        async with scripted(remember) as server, unconnected(at_once()) as manager:
            numbers = {"url": itertools.count(1), "header": itertools.count(1)}
            await manager.connect(
                kind(lambda: f"{server.url}token/{next(numbers['url'])}"),
                ws_headers=kind(lambda: {"X-Signature": str(next(numbers["header"]))}),
                close_timeout=0.2,
            )
            for _ in range(2):
                assert isinstance(await data_of(manager), Gap)
            assert await data_of(manager) == []
        for number, head in enumerate(heads, start=1):
            assert head.startswith(b"GET /token/%d " % number)
            assert b"X-Signature: %d\r\n" % number in head
        assert len(heads) == 3

    run(scenario())


def test_one_of_both_may_be_a_function(run: Run) -> None:
    """Headers may be None, too."""

    async def scenario() -> None:
        async with scripted(serve_data) as server, unconnected(None) as manager:
            await manager.connect(lambda: server.url, close_timeout=0.2)
            assert await data_of(manager) == [1]
            await manager.disconnect()
            await manager.connect(server.url, ws_headers=lambda: None, close_timeout=0.2)
            assert await data_of(manager) == [2]

    run(scenario())


def refused(status: int) -> HTTPStatusError:
    return HTTPStatusError(
        method="POST", url="x", status=status, headers={"Retry-After": "9"}, body=""
    )


@pytest.mark.parametrize(
    ("error", "is_final"),
    [
        (OSError("no route"), False),
        (TimeoutError(), False),
        (refused(503), False),
        (refused(429), False),
        (refused(401), True),
        (KeyError("token"), True),
    ],
)
def test_error_of_the_function_is_one_of_the_attempt(
    run: Run, error: Exception, is_final: bool
) -> None:
    """Judged as by the policy; `Retry-After` counts."""

    async def scenario() -> None:
        sleeps = Sleeps()
        policy = ReconnectPolicy(sleep=sleeps, rng=lambda: 0.5, initial_delay_seconds=1)
        async with scripted(closing(1012), serve_data) as server, unconnected(policy) as manager:
            answers: list[str | Exception] = [server.url, error, server.url]

            def url() -> str:
                answer = answers.pop(0)
                if isinstance(answer, Exception):
                    raise answer
                return answer

            await manager.connect(url, close_timeout=0.2)
            if is_final:
                with pytest.raises(type(error)):
                    await manager.receive()
                return
            assert (await data_of(manager)).attempts == 2
            assert await data_of(manager) == [2]
            expected = 9.0 if isinstance(error, HTTPStatusError) else 1.0
            assert sleeps.seconds == [0.5, expected]

    run(scenario())


# --- 16.20: limits in time ---


async def hang(*_: object) -> Any:
    await asyncio.Event().wait()


async def mute(peer: Peer) -> None:
    await peer.reader.read()


@pytest.mark.parametrize("place", ["handshake", "url", "headers"])
@pytest.mark.parametrize("is_by_policy", [True, False])
def test_first_connect_is_limited(run: Run, place: str, is_by_policy: bool) -> None:
    """By its own option, or by that of the policy; then it can be tried again."""

    async def scenario() -> None:
        policy = at_once(connect_timeout_seconds=0.05) if is_by_policy else None
        options: dict[str, Any] = {} if is_by_policy else {"connect_timeout": 0.05}
        scripts = (mute, serve_data) if place == "handshake" else (serve_data,)
        async with scripted(*scripts) as server, unconnected(policy) as manager:
            url = hang if place == "url" else f"{server.url}?secret=1"
            headers = hang if place == "headers" else None
            with pytest.raises(DeadlineExceeded) as caught:
                await manager.connect(url, ws_headers=headers, **options)
            assert "secret" not in str(caught.value)
            assert isinstance(caught.value, TimeoutError)
            await manager.connect(server.url, close_timeout=0.2, connect_timeout=50)
            assert await data_of(manager) == [len(scripts)]

    run(scenario())


def test_disconnect_ends_a_connect_that_waits_for_its_url(run: Run) -> None:
    """As it ends one that waits for its handshake."""

    async def scenario() -> None:
        async with unconnected(None) as manager:
            connecting = asyncio.create_task(manager.connect(hang))
            await asyncio.sleep(0)
            await manager.disconnect()
            with pytest.raises(ClosedError):
                await connecting

    run(scenario())


@pytest.mark.parametrize("place", ["handshake", "url", "hook", "receive", "limit"])
def test_whole_attempt_is_limited(run: Run, place: str) -> None:
    """Whatever it hangs in; the next attempt succeeds."""

    async def scenario() -> None:
        throttler = AsyncThrottler([RateLimit("ws", 1, 1.0)], safety_margin_pct=0)
        attempts = itertools.count(1)

        async def hook(manager: WebSocketManager) -> None:
            if next(attempts) == 1:
                if place == "hook":
                    await hang()
                elif place == "receive":
                    await manager.receive()
                elif place == "limit":
                    throttler.try_acquire("ws")
                    await manager.send(text("login", "ws"))

        policy = at_once(
            attempt_timeout_seconds=0.1, connect_timeout_seconds=None, on_reconnect=hook
        )

        async def quiet(peer: Peer) -> None:
            await peer.handshake()
            await peer.until_gone()

        second = mute if place == "handshake" else quiet
        scripts = (closing(1012), second, serve_data)
        async with (
            scripted(*(scripts if place != "url" else (closing(1012), serve_data))) as server,
            unconnected(policy, throttler=throttler) as manager,
        ):
            calls = itertools.count(1)

            async def url() -> str:
                if next(calls) == 2 and place == "url":
                    await hang()
                return server.url

            await manager.connect(url, close_timeout=0.2)
            gap = await data_of(manager)
            # More on a machine that needs over 0.1 s for an attempt.
            assert gap.attempts >= 2
            assert await data_of(manager) == [server.count]

    run(scenario())


@pytest.mark.parametrize(
    "options",
    [
        {"attempt_timeout_seconds": 0},
        {"attempt_timeout_seconds": -1.0},
        {"reconnect_every": 0},
        {"reconnect_every": float("nan")},
    ],
)
def test_nonsense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        ReconnectPolicy(**options)


# --- 16.19: planned reconnections ---


class Feed:
    """A server that counts, records what it is sent, and how its connections end."""

    def __init__(self) -> None:
        self.texts: list[list[str]] = []
        self.closes: list[int] = []

    async def script(self, peer: Peer) -> None:
        await peer.handshake()
        texts: list[str] = []
        self.texts.append(texts)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                opcode, payload = await peer.read()
                if opcode == TEXT:
                    texts.append(payload.decode())
                    peer.text(json.dumps(f"{peer.number}.{payload.decode()}"))
                elif opcode == PING:
                    peer.frame(PONG, payload)
                else:
                    self.closes.append(int.from_bytes(payload[:2], "big"))
                    peer.frame(opcode, payload)
                    return


@pytest.mark.parametrize("is_receiving", [True, False])
@pytest.mark.parametrize("is_buffered", [True, False])
@pytest.mark.parametrize("has_policy", [True, False])
def test_reconnect_keeps_subscriptions(
    run: Run, has_policy: bool, is_buffered: bool, is_receiving: bool
) -> None:
    """The old socket is closed properly; messages, then a Gap, then those of the new one."""

    async def scenario() -> None:
        feed = Feed()
        logins = []

        async def hook(manager: WebSocketManager) -> None:
            logins.append(1)

        sleeps = Sleeps()
        policy = at_once(on_reconnect=hook, sleep=sleeps) if has_policy else None
        options = {"receive_buffer": ReceiveBuffer() if is_buffered else None}
        async with (
            scripted(feed.script) as server,
            managed(server, policy, connect=options) as manager,
        ):
            await manager.subscribe(text("a"))
            await manager.subscribe(text("b"))
            assert await data_of(manager) == "1.a"
            assert await data_of(manager) == "1.b"
            receiver = asyncio.create_task(manager.receive()) if is_receiving else None
            await asyncio.sleep(0)
            await manager.reconnect()
            assert manager.connected
            gap = await (receiver or manager.receive())
            assert isinstance(gap, Gap)
            assert (gap.code, gap.reason, gap.attempts) == (1000, "planned", 1)
            assert isinstance(gap.error, WebSocketClosedError)
            assert [await data_of(manager) for _ in range(2)] == ["2.a", "2.b"]
            assert feed.closes == [1000]
            assert feed.texts == [["a", "b"]] * 2
            assert len(logins) == has_policy
            assert sleeps.seconds == []

    run(scenario())


def test_messages_that_were_buffered_come_before_the_gap(run: Run) -> None:
    """Also if there are two reconnections before they are received."""

    async def scenario() -> None:
        feed = Feed()
        options = {"receive_buffer": ReceiveBuffer()}
        async with (
            scripted(feed.script) as server,
            managed(server, at_once(), connect=options) as manager,
        ):
            before = manager.last_recv_time
            await manager.subscribe(text("a"))
            while manager.last_recv_time == before:
                await asyncio.sleep(0.001)
            await manager.reconnect()
            while len(feed.texts) < 2 or not feed.texts[1]:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.02)
            await manager.reconnect()
            kinds = []
            while len(kinds) < 5:
                message = await data_of(manager)
                kinds.append("Gap" if isinstance(message, Gap) else message)
            assert kinds == ["1.a", "Gap", "2.a", "Gap", "3.a"]

    run(scenario())


def test_reconnect_joins_a_reconnection_that_goes_on(run: Run) -> None:
    """Concurrent calls, and one during a recovery, are one reconnection."""

    async def scenario() -> None:
        async with scripted(serve_data) as server, managed(server, at_once()) as manager:
            assert await data_of(manager) == [1]
            await asyncio.gather(*(manager.reconnect() for _ in range(5)))
            assert isinstance(await data_of(manager), Gap)
            assert await data_of(manager) == [2]
            assert server.count == 2

    run(scenario())


def test_reconnect_that_fails_raises_for_both(run: Run) -> None:
    """Its caller and the receiver; with a policy after all attempts, without one at once."""

    async def scenario() -> None:
        for policy in (at_once(max_attempts=3), None):
            async with scripted(serve_data) as server, managed(server, policy) as manager:
                assert await data_of(manager) == [1]
                await server.stop()
                receiver = asyncio.create_task(manager.receive())
                with pytest.raises(OSError) as caught:  # noqa: PT011  (also of the loss, below)
                    await manager.reconnect()
                with pytest.raises(type(caught.value)):
                    await receiver
                await server.start()
                # Not in vain, once the server is back.
                await manager.reconnect()
                assert isinstance(await data_of(manager), Gap)
                assert await data_of(manager) == [2]

    run(scenario())


def test_reconnect_needs_a_connection(run: Run) -> None:
    """Not before connect(), nor after disconnect(), nor in the hook that reconnects."""
    refusals = []

    async def hook(manager: WebSocketManager) -> None:
        with pytest.raises(ConnectionStateError) as caught:
            await manager.reconnect()
        refusals.append(caught.value)

    async def scenario() -> None:
        policy = at_once(on_reconnect=hook)
        async with scripted(serve_data) as server, unconnected(policy) as manager:
            with pytest.raises(DisconnectedError):
                await manager.reconnect()
            await manager.connect(server.url, close_timeout=0.2)
            await manager.reconnect()
            await manager.disconnect()
            with pytest.raises(DisconnectedError):
                await manager.reconnect()
        assert len(refusals) == 1

    run(scenario())


def test_reconnects_by_itself(run: Run) -> None:
    """Again and again, with or without a receiver, until disconnect()."""

    async def scenario() -> None:
        feed = Feed()
        policy = at_once(reconnect_every=0.05)
        async with scripted(feed.script) as server, managed(server, policy) as manager:
            await manager.subscribe(text("a"))
            while server.count < 4:
                await asyncio.sleep(0.005)
            gaps = 0
            while gaps < 5:
                gaps += isinstance(await data_of(manager), Gap)
            await manager.disconnect()
            count = server.count
            await asyncio.sleep(0.15)
            assert server.count == count
            assert all(texts == ["a"] for texts in feed.texts[:4])

    run(scenario())


def test_planned_reconnections_have_a_jitter() -> None:
    """Up to a tenth earlier, never later."""
    delays = {
        rng: ReconnectPolicy(reconnect_every=1000.0, rng=lambda rng=rng: rng)
        for rng in (0.0, 0.5, 1.0)
    }
    assert [policy.seconds_until_reconnect() for policy in delays.values()] == [1000, 950, 900]
    assert ReconnectPolicy().seconds_until_reconnect() is None


# --- 16.27: heartbeats of the application ---


def is_pong(response: WebSocketResponse) -> bool:
    return response.data == "pong"


def answering(limit: int | None, *, opcode: int = TEXT) -> Script:
    """Answer the first `limit` heartbeats (None: all), and report each of them."""

    async def script(peer: Peer) -> None:
        await peer.handshake()
        beats = 0
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, payload = await peer.read()
                if kind == PING:
                    peer.frame(PONG, payload)
                if kind != TEXT:
                    continue
                beats += 1
                if limit is None or beats <= limit:
                    peer.text('"pong"')
                peer.text(json.dumps([beats, payload.decode()]))

    return script


@pytest.mark.parametrize("is_buffered", [True, False])
def test_heartbeats_are_sent_and_their_answers_are_hidden(run: Run, is_buffered: bool) -> None:
    """For as long as it lasts; other messages are received."""

    async def scenario() -> None:
        options = {
            "heartbeat": (0.02, text("beat"), is_pong),
            "receive_buffer": ReceiveBuffer() if is_buffered else None,
        }
        script = answering(None)
        async with scripted(script) as server, managed(server, None, connect=options) as manager:
            data = [await data_of(manager) for _ in range(5)]
            assert data == [[number, "beat"] for number in range(1, 6)]

    run(scenario())


@pytest.mark.parametrize("is_buffered", [True, False])
def test_heartbeat_without_an_answer_is_a_loss(run: Run, is_buffered: bool) -> None:
    """Other data and pongs do not count."""

    async def scenario() -> None:
        options = {
            "heartbeat": (0.05, text("beat"), is_pong),
            "receive_buffer": ReceiveBuffer() if is_buffered else None,
        }
        scripts = (answering(2), serve_data)
        async with (
            scripted(*scripts) as server,
            managed(server, at_once(), connect=options) as manager,
        ):
            gap = None
            while not isinstance(gap, Gap):
                gap = await data_of(manager)
            assert gap.code == 1006
            assert gap.reason == "No answer to a heartbeat within 0.05 s."
            assert await data_of(manager) == [2]

    run(scenario())


def test_receiver_that_is_busy_is_no_missing_answer(run: Run) -> None:
    """Unread bytes say nothing about the server."""

    async def scenario() -> None:
        options = {"heartbeat": (0.03, text("beat"), is_pong)}
        script = answering(None)
        async with scripted(script) as server, managed(server, None, connect=options) as manager:
            assert await data_of(manager) == [1, "beat"]
            await asyncio.sleep(0.2)
            for number in range(2, 6):
                assert await data_of(manager) == [number, "beat"]

    run(scenario())


def test_heartbeat_is_limited_and_signed(run: Run) -> None:
    """As any message of the manager; also while it reconnects."""

    class Signer(Auth):
        count = 0

        async def rest_authenticate(self, request: RESTRequest) -> RESTRequest:
            return request

        async def ws_authenticate(self, request: WebSocketRequest) -> WebSocketRequest:
            self.count += 1
            request.payload["signature"] = self.count
            return request

    async def scenario() -> None:
        throttler = AsyncThrottler([RateLimit("ws", 5, 3600.0)], safety_margin_pct=0)
        beats = asyncio.Event()
        seen: list[list[str]] = []

        async def answer_two(peer: Peer) -> None:
            await peer.handshake()
            texts = []
            for _ in range(2):
                texts += await peer.read_texts(1)
                peer.text('"pong"')
            seen.append(texts)

        async def first(peer: Peer) -> None:
            await answer_two(peer)
            peer.close(1012)
            await peer.until_gone()

        async def second(peer: Peer) -> None:
            await answer_two(peer)
            beats.set()
            await peer.until_gone()

        async def hook(manager: WebSocketManager) -> None:
            await beats.wait()

        request = WebSocketJSONRequest({}, throttler_limit_id="ws", is_auth_required=True)
        policy = at_once(on_reconnect=hook)
        managing = {"throttler": throttler, "auth": Signer()}
        async with (
            scripted(first, second) as server,
            managed(
                server, policy, connect={"heartbeat": (0.1, request, is_pong)}, **managing
            ) as manager,
        ):
            assert isinstance(await data_of(manager), Gap)
        signatures = [[json.loads(beat)["signature"] for beat in texts] for texts in seen]
        assert signatures == [[1, 2], [3, 4]]
        # Of five, the four beats are gone.
        assert [throttler.try_acquire("ws") for _ in range(2)] == [True, False]

    run(scenario())


def test_heartbeat_that_cannot_be_sent_is_an_error(run: Run) -> None:
    """Raised by receive(), as the fault of the program that it is."""

    async def scenario() -> None:
        request = WebSocketJSONRequest({}, is_auth_required=True)
        options = {"heartbeat": (0.01, request, is_pong)}
        async with (
            scripted(serve_data) as server,
            managed(server, at_once(), connect=options) as manager,
        ):
            assert await data_of(manager) == [1]
            with pytest.raises(AuthError):
                await manager.receive()

    run(scenario())


def test_connection_without_a_manager_beats_too(run: Run) -> None:
    """With a request, or with a coroutine function."""

    async def scenario() -> None:
        async with scripted(answering(None)) as server, aiohttp.ClientSession() as session:
            connection = WebSocketConnection(session)

            async def beat() -> None:
                await connection.send_text("function")

            ways: dict[str, Any] = {"request": text("request"), "function": beat}
            for name, way in ways.items():
                await connection.connect(
                    server.url, heartbeat=(0.01, way, is_pong), close_timeout=0.2
                )
                response = await connection.receive()
                assert response is not None
                assert response.data == [1, name]
                await connection.disconnect()

    run(scenario())


@pytest.mark.parametrize(
    "heartbeat", [(0, text("x"), is_pong), (-1, text("x"), is_pong), (1, text("x"))]
)
def test_heartbeat_that_is_none_is_refused(run: Run, heartbeat: Any) -> None:
    """Where it is given."""

    async def scenario() -> None:
        async with unconnected(None) as manager:
            with pytest.raises(ConfigurationError):
                await manager.connect("ws://127.0.0.1:9/", heartbeat=heartbeat)

    run(scenario())
