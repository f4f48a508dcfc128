"""Lost WebSockets: final errors, reconnections, and timeouts."""

import asyncio
import random
from typing import Any

import pytest
from scripted_servers import (
    CLOSE,
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
)

from networkpype.auth import Auth
from networkpype.exceptions import (
    AuthError,
    ClosedError,
    ConfigurationError,
    ConnectError,
    ConnectionFailedError,
    DisconnectedError,
    InvalidURLError,
    ReceiveTimeoutError,
    WebSocketClosedError,
    WebSocketHandshakeError,
)
from networkpype.factory import ConnectionManagersFactory
from networkpype.rest.request import RESTRequest
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler
from networkpype.websocket.buffer import ReceiveBuffer
from networkpype.websocket.manager import WebSocketManager
from networkpype.websocket.reconnect import ReconnectPolicy
from networkpype.websocket.request import (
    WebSocketJSONRequest,
    WebSocketPlainTextRequest,
    WebSocketRequest,
)
from networkpype.websocket.response import Gap

# --- the policy alone ---------------------------------------------------------------------------


def test_delays_have_full_jitter_and_a_cap() -> None:
    """Attempt n waits a random part of base * 2 ** (n - 1), at most of the cap; for ever."""
    highest = ReconnectPolicy(initial_delay_seconds=1, max_delay_seconds=30, rng=lambda: 1.0)
    assert [highest.delay_seconds(n) for n in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert highest.delay_seconds(10**6) == 30
    rng = random.Random(7).random
    policy = ReconnectPolicy(initial_delay_seconds=1, max_delay_seconds=30, rng=rng)
    delays = [policy.delay_seconds(3) for _ in range(2000)]
    assert min(delays) < 0.1
    assert max(delays) > 3.9
    assert max(delays) <= 4
    assert 1.8 < sum(delays) / len(delays) < 2.2


@pytest.mark.parametrize(
    ("error", "is_final"),
    [
        *((WebSocketClosedError("x", code=code), True) for code in (1002, 1003, 1007, 1008)),
        *((WebSocketClosedError("x", code=code), True) for code in (1009, 1010)),
        *((WebSocketClosedError("x", code=code), False) for code in (1000, 1001, 1005, 1006)),
        *((WebSocketClosedError("x", code=code), False) for code in (1011, 1012, 1013, 4000)),
        (ReceiveTimeoutError("x"), False),
        (TimeoutError(), False),
        (ConnectionFailedError("x"), False),
        (AuthError("x"), True),
        (ClosedError("x"), True),
        (ConfigurationError("x"), True),
        (KeyError("x"), True),
        (InvalidURLError("x"), True),
    ],
)
def test_what_is_final(error: Exception, is_final: bool) -> None:
    """Troubles of the network pass, verdicts and faults of ours do not."""
    assert ReconnectPolicy().is_final(error) is is_final


def test_final_close_codes_are_a_setting() -> None:
    """Codes of the application can be made final, and others taken off the list."""
    policy = ReconnectPolicy(final_close_codes=frozenset({4001}))
    assert policy.is_final(WebSocketClosedError("x", code=4001))
    assert not policy.is_final(WebSocketClosedError("x", code=1008))


@pytest.mark.parametrize(
    "settings",
    [
        {"initial_delay_seconds": -1},
        {"max_delay_seconds": -1},
        {"max_attempts": 0},
        {"stable_seconds": -1.0},
        {"connect_timeout_seconds": 0},
        {"data_timeout_seconds": -2.0},
    ],
)
def test_nonsense_is_refused(settings: dict[str, Any]) -> None:
    """A wrong policy raises where it is made."""
    with pytest.raises(ConfigurationError):
        ReconnectPolicy(**settings)


# --- what a reconnection does -------------------------------------------------------------------


@pytest.mark.parametrize("is_iterating", [True, False])
def test_back_off_goes_on_for_a_server_that_accepts_and_drops(
    run: Run, is_iterating: bool
) -> None:
    """It is met with growing waits, whether or not it sends a message in between."""

    async def scenario() -> None:
        sleeps = Sleeps()
        policy = ReconnectPolicy(sleep=sleeps, rng=lambda: 1.0, initial_delay_seconds=1)

        async def data_and_close(peer: Peer) -> None:
            await peer.handshake()
            peer.text("[]")
            peer.close(1012)
            await peer.until_gone()

        drop = closing(1012)
        scripts = (drop, drop, drop, data_and_close, serve_data)
        async with scripted(*scripts) as server, managed(server, policy) as manager:
            messages = manager.iter_messages()
            kinds = []
            for _ in range(6):
                message = await (anext(messages) if is_iterating else manager.receive())
                kinds.append("Gap" if isinstance(message, Gap) else type(message.data).__name__)
            await messages.aclose()
            assert kinds == ["Gap", "Gap", "Gap", "list", "Gap", "list"]
        assert sleeps.seconds == [1, 2, 4, 8]

    run(scenario())


@pytest.mark.parametrize("is_iterating", [True, False])
def test_attempts_are_bounded(run: Run, is_iterating: bool) -> None:
    """After the last one the original loss is raised, with the last failure as its cause."""

    async def scenario() -> None:
        policy = at_once(max_attempts=3)
        async with scripted(serve_data) as server, managed(server, policy) as manager:
            assert await data_of(manager) == [1]
            await server.stop()
            use = anext(manager.iter_messages()) if is_iterating else manager.receive()
            with pytest.raises(WebSocketClosedError, match=r"1006.*after 3 attempts") as caught:
                await use
            assert isinstance(caught.value.__cause__, ConnectError)
            assert len(policy.sleep.seconds) == 3  # type: ignore[attr-defined]
            with pytest.raises(RuntimeError, match="not connected"):
                await manager.receive()
            await server.start()

    run(scenario())


def test_refused_handshake_is_final_unless_it_may_pass(run: Run) -> None:
    """503 is tried again, 401 is not."""

    def refusing(status: str) -> Script:
        async def script(peer: Peer) -> None:
            await peer.handshake(status)

        return script

    async def scenario() -> None:
        scripts = (closing(1001), refusing("503 Busy"), refusing("429 Slow"), refusing("401 No"))
        async with scripted(*scripts) as server, managed(server, at_once()) as manager:
            with pytest.raises(WebSocketHandshakeError) as caught:
                await manager.receive()
            assert caught.value.status == 401
            assert server.count == 4

    run(scenario())


class Signer(Auth):
    """Number the signatures."""

    def __init__(self) -> None:
        self.count = 0

    async def rest_authenticate(self, request: RESTRequest) -> RESTRequest:
        return request

    async def ws_authenticate(self, request: WebSocketRequest) -> WebSocketRequest:
        self.count += 1
        request.payload["signature"] = self.count
        return request


def test_subscriptions_are_replayed_in_order_signed_anew(run: Run) -> None:
    """Login by the hook, then what was subscribed, in order, signed anew, before new data; what
    was only sent, or is forgotten, is not replayed.
    """
    first_texts: list[str] = []
    second_texts: list[str] = []

    async def first(peer: Peer) -> None:
        await peer.handshake()
        first_texts.extend(await peer.read_texts(6))
        peer.close(1012)
        await peer.until_gone()

    async def second(peer: Peer) -> None:
        await peer.handshake()
        second_texts.extend(await peer.read_texts(1))
        peer.text('"welcome"')
        second_texts.extend(await peer.read_texts(2))
        peer.text('"fresh"')
        # Until our close frame: whatever else is replayed comes before it.
        opcode = TEXT
        while opcode != CLOSE:
            opcode, payload = await peer.read()
            second_texts.append(payload.decode() if opcode == TEXT else "closed")
        peer.frame(CLOSE, payload)

    async def log_in(manager: WebSocketManager) -> None:
        await manager.send(WebSocketPlainTextRequest("login"))
        # In a task of its own in Python 3.11.
        answer = await asyncio.wait_for(manager.receive(), 30)
        assert answer is not None
        second_texts.append(answer.data)

    async def scenario() -> None:
        policy = at_once(on_reconnect=log_in)
        async with (
            scripted(first, second) as server,
            managed(server, policy, auth=Signer()) as manager,
        ):
            private = WebSocketJSONRequest({"s": "private"}, is_auth_required=True)
            await manager.subscribe(private)
            await manager.send(WebSocketPlainTextRequest("only sent"))
            unwanted = WebSocketPlainTextRequest("unwanted")
            await manager.subscribe(unwanted)
            await manager.subscribe(WebSocketPlainTextRequest("public"))
            await manager.subscribe(private)
            assert manager.forget(unwanted)
            assert not manager.forget(unwanted)
            # To change a request that was subscribed does not change what is replayed.
            private.payload["s"] = "changed"
            await manager.send(WebSocketPlainTextRequest("last"))
            assert isinstance(await data_of(manager), Gap)
            assert await data_of(manager) == "fresh"

    run(scenario())
    assert first_texts == [
        '{"s":"private","signature":1}',
        "only sent",
        "unwanted",
        "public",
        '{"s":"private","signature":2}',
        "last",
    ]
    assert second_texts == [
        "login",
        "welcome",
        '{"s":"private","signature":3}',
        "public",
        "closed",
    ]


def test_disconnect_forgets_what_was_subscribed(run: Run) -> None:
    """A later connection of the same manager begins with nothing to replay."""
    texts: list[str] = []

    async def listen(peer: Peer) -> None:
        await peer.handshake()
        await peer.until_gone()

    async def collect(peer: Peer) -> None:
        await peer.handshake()
        texts.extend(await peer.read_texts(1))
        peer.text("[]")
        await peer.until_gone()

    async def scenario() -> None:
        scripts = (listen, closing(1001), collect)
        async with scripted(*scripts) as server, managed(server, at_once()) as manager:
            await manager.subscribe(WebSocketPlainTextRequest("old"))
            await manager.disconnect()
            await manager.connect(server.url, close_timeout=0.2)
            assert isinstance(await data_of(manager), Gap)
            await manager.send(WebSocketPlainTextRequest("new"))
            assert await data_of(manager) == []

    run(scenario())
    assert texts == ["new"]


def test_replay_goes_through_the_throttler(run: Run) -> None:
    """Replayed requests are counted like any other."""

    async def read_two_and_close(peer: Peer) -> None:
        await peer.handshake()
        await peer.read_texts(2)
        peer.close(1001)
        await peer.until_gone()

    times: list[float] = []

    async def timed(peer: Peer) -> None:
        await peer.handshake()
        for _ in range(2):
            await peer.read_texts(1)
            times.append(asyncio.get_running_loop().time())
        peer.text("[]")
        await peer.until_gone()

    async def scenario() -> None:
        throttler = AsyncThrottler([RateLimit("ws", 4, 3600.0)], safety_margin_pct=0)
        async with (
            scripted(read_two_and_close, timed) as server,
            managed(server, at_once(), throttler=throttler) as manager,
        ):
            for name in ("a", "b"):
                await manager.subscribe(WebSocketPlainTextRequest(name, throttler_limit_id="ws"))
            assert isinstance(await data_of(manager), Gap)
            assert await data_of(manager) == []
            assert not throttler.try_acquire("ws")

    run(scenario())
    assert len(times) == 2


def test_server_that_goes_down_during_the_replay(run: Run) -> None:
    """A replay that breaks off is one more failed attempt; the next one starts over."""
    texts: list[str] = []

    async def listen_and_close(peer: Peer) -> None:
        await peer.handshake()
        await peer.read_texts(1)
        peer.close(1001)
        await peer.until_gone()

    async def close_in_hook(peer: Peer) -> None:
        await peer.handshake()
        await peer.read_texts(1)
        peer.reset()

    async def whole(peer: Peer) -> None:
        await peer.handshake()
        texts.extend(await peer.read_texts(2))
        peer.text("[]")
        await peer.until_gone()

    hooks: list[Exception | None] = []

    async def hook(manager: WebSocketManager) -> None:
        await manager.send(WebSocketPlainTextRequest("login"))
        if not hooks:
            hooks.append(None)
            with pytest.raises(WebSocketClosedError) as caught:
                await manager.receive()
            hooks.append(caught.value)
            raise caught.value

    async def scenario() -> None:
        policy = at_once(on_reconnect=hook)
        async with (
            scripted(listen_and_close, close_in_hook, whole) as server,
            managed(server, policy) as manager,
        ):
            await manager.subscribe(WebSocketPlainTextRequest("sub"))
            gap = await data_of(manager)
            assert isinstance(gap, Gap)
            assert (gap.code, gap.attempts) == (1001, 2)
            assert await data_of(manager) == []

    run(scenario())
    assert texts == ["login", "sub"]
    assert len(hooks) == 2


def test_error_in_the_hook_is_raised_by_receive(run: Run) -> None:
    """A fault of the program's is not tried again for ever."""

    async def hook(manager: WebSocketManager) -> None:
        raise KeyError("bug")

    async def scenario() -> None:
        policy = at_once(on_reconnect=hook)
        async with (
            scripted(closing(1001), serve_data) as server,
            managed(server, policy) as manager,
        ):
            with pytest.raises(KeyError, match="bug"):
                await manager.receive()
            assert server.count == 2
            assert not manager.connected

    run(scenario())


def test_cancelled_receive_does_not_stop_a_reconnection(run: Run) -> None:
    """The attempt goes on; the Gap goes to the next receive(), once."""

    async def scenario() -> None:
        release = asyncio.Event()

        async def sleep(seconds: float) -> None:
            await release.wait()

        async with (
            scripted(closing(1001), serve_data) as server,
            managed(server, ReconnectPolicy(sleep=sleep)) as manager,
        ):
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(manager.receive(), 0.02)
            with pytest.raises(DisconnectedError):
                await manager.send(WebSocketPlainTextRequest("x"))
            release.set()
            assert isinstance(await data_of(manager), Gap)
            assert await data_of(manager) == [2]
            assert server.count == 2

    run(scenario())


def test_disconnect_ends_a_reconnection(run: Run) -> None:
    """Whoever waits for the Gap is let go, the iteration ends, nothing is connected."""

    async def scenario() -> None:
        async def sleep(seconds: float) -> None:
            sleeping.set()
            await asyncio.Event().wait()

        for use in ("receive", "iterate"):
            sleeping = asyncio.Event()
            async with (
                scripted(closing(1001)) as server,
                managed(server, ReconnectPolicy(sleep=sleep)) as manager,
            ):
                if use == "receive":
                    receiver = asyncio.ensure_future(manager.receive())
                else:
                    receiver = asyncio.ensure_future(anext(manager.iter_messages(), None))
                await sleeping.wait()
                await manager.disconnect()
                if use == "receive":
                    with pytest.raises(DisconnectedError):
                        await receiver
                else:
                    assert await receiver is None
                assert server.count == 1

    run(scenario())


def test_hook_may_disconnect(run: Run) -> None:
    """disconnect() from within a reconnection neither deadlocks nor leaves it connected."""

    async def hook(manager: WebSocketManager) -> None:
        await manager.disconnect()

    async def scenario() -> None:
        policy = at_once(on_reconnect=hook)
        async with (
            scripted(closing(1001), serve_data) as server,
            managed(server, policy) as manager,
        ):
            assert [message async for message in manager.iter_messages()] == []
            assert not manager.connected

    run(scenario())


def test_handshake_that_hangs_is_bounded(run: Run) -> None:
    """An attempt on a server that never answers ends, and the next one is made."""

    async def mute(peer: Peer) -> None:
        await peer.reader.read()

    async def scenario() -> None:
        policy = at_once(connect_timeout_seconds=0.05)
        scripts = (closing(1001), mute, serve_data)
        async with scripted(*scripts) as server, managed(server, policy) as manager:
            # serve_data must answer within 50 ms; on a slow machine more attempts are made.
            gap = await data_of(manager)
            assert isinstance(gap, Gap)
            assert gap.attempts >= 2
            assert await data_of(manager) == [server.count]

    run(scenario())


def test_factory_closed_while_connected_or_reconnecting(run: Run) -> None:
    """The closed factory is final, and named."""

    async def scenario() -> None:
        sleeping, release = asyncio.Event(), asyncio.Event()

        async def sleep(seconds: float) -> None:
            sleeping.set()
            await release.wait()

        throttler = AsyncThrottler([RateLimit("ws", 1, 1.0)])
        async with scripted(serve_data) as server:
            policy = ReconnectPolicy(sleep=sleep)
            async with ConnectionManagersFactory(throttler, reconnect=policy) as factory:
                manager = await factory.get_ws_manager()
                await manager.connect(server.url)
                assert await data_of(manager) == [1]
                receiver = asyncio.create_task(manager.receive())
                await asyncio.sleep(0)
                await factory.close()
                await sleeping.wait()
                release.set()
                with pytest.raises(ClosedError, match="ConnectionManagersFactory"):
                    await receiver
                await manager.disconnect()

    run(scenario())


def test_old_messages_of_a_buffer_come_before_the_gap(run: Run) -> None:
    """Nothing that arrived before the loss is lost, and the Gap is where the hole is."""

    async def two_and_close(peer: Peer) -> None:
        await peer.handshake()
        peer.text("1")
        peer.text("2")
        peer.close(1012)
        await peer.until_gone()

    async def scenario() -> None:
        options = {"receive_buffer": ReceiveBuffer(policy="drop_oldest", max_messages=5)}
        async with (
            scripted(two_and_close, serve_data) as server,
            managed(server, at_once(), connect=options) as manager,
        ):
            received = [await data_of(manager) for _ in range(4)]
            assert received[:2] == [1, 2]
            assert isinstance(received[2], Gap)
            assert received[3] == [2]

    run(scenario())
