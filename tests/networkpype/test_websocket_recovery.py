"""What happens on a new connection until it is ready: login, subscriptions, and what others do."""

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from scripted_servers import (
    PING,
    PONG,
    TEXT,
    Peer,
    Run,
    Script,
    at_once,
    closing,
    data_of,
    managed,
    scripted,
    serve_data,
    text,
)

from networkpype.exceptions import (
    ClosedError,
    DisconnectedError,
    ReconnectingError,
    UnknownLimitError,
    WebSocketClosedError,
)
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler
from networkpype.websocket.buffer import ReceiveBuffer
from networkpype.websocket.manager import WebSocketManager
from networkpype.websocket.request import WebSocketJSONRequest, WebSocketPlainTextRequest
from networkpype.websocket.response import Gap

pytestmark = pytest.mark.slow


def limited(limit: int, seconds: float) -> AsyncThrottler:
    return AsyncThrottler([RateLimit("ws", limit, seconds)], safety_margin_pct=0)


class Recorder:
    """A server that closes its first connection at a word, and records the texts of each."""

    def __init__(self, *, answers: bool = False) -> None:
        self.texts: list[list[str]] = []
        self.arrival = asyncio.Event()
        self._answers = answers

    async def script(self, peer: Peer) -> None:
        await peer.handshake()
        texts: list[str] = []
        self.texts.append(texts)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                opcode, payload = await peer.read()
                if opcode == PING:
                    peer.frame(PONG, payload)
                if opcode != TEXT:
                    continue
                if payload == b"close":
                    peer.close(1012)
                    continue
                texts.append(payload.decode())
                self.arrival.set()
                if self._answers:
                    peer.text(f'"{payload.decode()}"')

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.arrival.clear()
            await self.arrival.wait()


class Halt:
    """A recovery that halts at a moment until it is released."""

    def __init__(self, moment: str, recorder: Recorder) -> None:
        self.reached, self.release = asyncio.Event(), asyncio.Event()
        self._moment = moment
        self._recorder = recorder

    async def at(self, moment: str) -> None:
        if moment == self._moment:
            self.reached.set()
            await self.release.wait()

    async def sleep(self, _: float) -> None:
        await self.at("sleep")

    async def hook(self, manager: WebSocketManager) -> None:
        await self.at("hook")
        await manager.send(text("login"))

    def slow(self, kind: type[Any]) -> type[Any]:
        """Return requests of a kind that wait for the moment `subscriptions`."""
        halt = self

        class Slow(kind):
            async def send_with_connection(self, connection: Any) -> None:
                if len(halt._recorder.texts) == 2:
                    await halt.at("subscriptions")
                await super().send_with_connection(connection)

        return Slow


# --- 16.1: pings during a recovery --------------------------------------------------------------

SUBSCRIPTIONS = 16
BURST = 4


def strict(data_per_subscription: int) -> Script:
    """Ping at each subscription, and drop a client whose pongs are two bursts behind."""

    async def script(peer: Peer) -> None:
        await peer.handshake()
        subscriptions = pongs = 0
        while subscriptions < SUBSCRIPTIONS:
            opcode, payload = await peer.read()
            pongs += opcode == PONG
            if opcode != TEXT:
                continue
            subscriptions += 1
            if pongs < subscriptions - 2 * BURST:
                peer.reset()
                return
            peer.frame(PING, b"%d" % subscriptions)
            for number in range(data_per_subscription):
                peer.text(f'"{payload.decode()}.{number}"')
        if peer.number == 1:
            peer.close(1012)
        else:
            peer.text('"last"')
        await peer.until_gone()

    return script


BUFFERS: dict[str, ReceiveBuffer | None] = {
    "no buffer": None,
    "block": ReceiveBuffer(policy="block", max_messages=2),
    "raise": ReceiveBuffer(policy="raise", max_messages=200),
    "small raise": ReceiveBuffer(policy="raise", max_messages=20),
    "drop_oldest": ReceiveBuffer(policy="drop_oldest", max_messages=5),
    "latest": ReceiveBuffer(policy="latest", max_messages=500, key=lambda r: r.data),
}


@pytest.mark.parametrize("data_per_subscription", [0, 3])
@pytest.mark.parametrize("buffer", BUFFERS)
def test_pings_are_answered_while_subscriptions_wait_for_their_limit(
    run: Run, buffer: str, data_per_subscription: int
) -> None:
    """The recovery succeeds at once, and what came meanwhile follows the Gap in order."""

    async def scenario() -> None:
        throttler = limited(BURST, 0.1)
        policy = at_once(max_attempts=3)
        scripts = (closing(1012), strict(data_per_subscription))
        connect = {"receive_buffer": BUFFERS[buffer]}
        async with (
            scripted(*scripts) as server,
            managed(server, policy, connect=connect, throttler=throttler) as manager,
        ):
            for number in range(SUBSCRIPTIONS):
                with contextlib.suppress(WebSocketClosedError, DisconnectedError):
                    await manager.subscribe(text(f"s{number}", "ws"))
            gap = await data_of(manager)
            assert isinstance(gap, Gap)
            assert gap.attempts == 1
            data = []
            while (message := await data_of(manager)) != "last":
                data.append(message)
            assert server.count == 2
            if buffer != "drop_oldest":
                assert data == [
                    f"s{subscription}.{number}"
                    for subscription in range(SUBSCRIPTIONS)
                    for number in range(data_per_subscription)
                ]

    run(scenario())


def test_messages_flow_on_after_a_recovery(run: Run) -> None:
    """What is held, then what comes later; a cancelled receive() in between loses nothing."""

    async def counting(peer: Peer) -> None:
        await peer.handshake()
        await peer.read_texts(1)
        for number in range(5):
            peer.text(str(number))
        await peer.read_texts(1)
        for number in range(5, 10):
            peer.text(str(number))
        await peer.until_gone()

    async def hook(manager: WebSocketManager) -> None:
        await manager.send(text("login"))
        assert await data_of(manager) == 0
        await asyncio.sleep(0.02)

    async def scenario() -> None:
        policy = at_once(on_reconnect=hook)
        async with (
            scripted(closing(1012), counting) as server,
            managed(server, policy) as manager,
        ):
            assert isinstance(await data_of(manager), Gap)
            data = [await data_of(manager) for _ in range(4)]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(manager.receive(), 0.02)
            await manager.send(text("more"))
            data += [await data_of(manager) for _ in range(5)]
            assert data == list(range(1, 10))

    run(scenario())


# --- 16.6: sends of others ----------------------------------------------------------------------


@pytest.mark.parametrize("is_limited", [True, False])
@pytest.mark.parametrize("moment", ["sleep", "hook", "subscriptions"])
def test_sends_of_others_raise_until_the_session_is_restored(
    run: Run, moment: str, is_limited: bool
) -> None:
    """Nothing of theirs reaches the new socket before the login and the subscriptions."""

    async def scenario() -> None:
        recorder = Recorder()
        halt = Halt(moment, recorder)
        policy = at_once(sleep=halt.sleep, on_reconnect=halt.hook)
        limit_id = "ws" if is_limited else None
        async with (
            scripted(recorder.script) as server,
            managed(server, policy, throttler=limited(100, 60.0)) as manager,
        ):
            await manager.subscribe(halt.slow(WebSocketJSONRequest)({"s": 1}))
            await manager.send(text("close"))
            receiver = asyncio.create_task(manager.receive())
            await halt.reached.wait()
            for _ in range(3):
                with pytest.raises(ReconnectingError):
                    await manager.send(text("order", limit_id))
            halt.release.set()
            assert isinstance(await receiver, Gap)
            await manager.send(text("order", limit_id))
            await recorder.until(lambda: len(recorder.texts[1]) == 3)
            assert recorder.texts[1] == ["login", '{"s":1}', "order"]

    run(scenario())


@pytest.mark.parametrize("sends_wait", [True, False])
def test_send_that_waits_for_its_limit_during_a_loss(run: Run, sends_wait: bool) -> None:
    """Admitted during the recovery, it does not overtake the login: it raises, or waits."""

    async def scenario() -> None:
        recorder = Recorder()
        in_hook, release = asyncio.Event(), asyncio.Event()
        throttler = limited(1, 0.05)

        async def hook(manager: WebSocketManager) -> None:
            in_hook.set()
            await release.wait()
            await manager.send(text("login"))

        policy = at_once(on_reconnect=hook, sends_wait=sends_wait)
        async with (
            scripted(recorder.script) as server,
            managed(server, policy, throttler=throttler) as manager,
        ):
            assert throttler.try_acquire("ws")
            order = asyncio.create_task(manager.send(text("order", "ws")))
            await manager.send(text("close"))
            receiver = asyncio.create_task(manager.receive())
            await in_hook.wait()
            if not sends_wait:
                with pytest.raises(ReconnectingError):
                    await order
            else:
                # It does not hold the capacity meanwhile.
                while not throttler.try_acquire("ws"):
                    await asyncio.sleep(0.001)
                assert not order.done()
            assert recorder.texts == [[], []]
            release.set()
            assert isinstance(await receiver, Gap)
            if sends_wait:
                await order
                await recorder.until(lambda: len(recorder.texts[1]) == 2)
            assert recorder.texts[1][:1] == ["login"]

    run(scenario())


def test_sends_that_wait_are_sent_after_the_subscriptions(run: Run) -> None:
    """With `sends_wait`, also without a receiver."""

    async def scenario() -> None:
        recorder = Recorder()
        policy = at_once(sends_wait=True)
        async with scripted(recorder.script) as server, managed(server, policy) as manager:
            await manager.subscribe(text("a"))
            await manager.subscribe(text("b"))
            await manager.send(text("close"))
            receiver = asyncio.create_task(manager.receive())
            while manager.connected:
                await asyncio.sleep(0.001)
            await asyncio.gather(*(manager.send(text(f"order {n}")) for n in range(3)))
            assert isinstance(await receiver, Gap)
            await recorder.until(lambda: len(recorder.texts[1]) == 5)
            assert recorder.texts[1] == ["a", "b", "order 0", "order 1", "order 2"]

    run(scenario())


@pytest.mark.parametrize("end", ["disconnect", "fail"])
def test_sends_that_wait_end_with_the_recovery(run: Run, end: str) -> None:
    """They raise when the recovery fails or is stopped, and nothing was sent."""

    async def scenario() -> None:
        recorder = Recorder()
        in_hook, release = asyncio.Event(), asyncio.Event()

        async def hook(manager: WebSocketManager) -> None:
            in_hook.set()
            await release.wait()
            raise KeyError("no login")

        policy = at_once(sends_wait=True, on_reconnect=hook)
        async with scripted(recorder.script) as server, managed(server, policy) as manager:
            await manager.send(text("close"))
            receiver = asyncio.create_task(manager.receive())
            await in_hook.wait()
            sends = [asyncio.create_task(manager.send(text("order"))) for _ in range(3)]
            await asyncio.sleep(0)
            if end == "disconnect":
                await manager.disconnect()
            else:
                release.set()
            results = await asyncio.gather(*sends, receiver, return_exceptions=True)
            assert [type(result) for result in results[:3]] == [DisconnectedError] * 3
            assert type(results[3]) is (DisconnectedError if end == "disconnect" else KeyError)
        assert recorder.texts == [[], []]

    run(scenario())


def test_task_that_a_hook_leaves_behind_is_not_privileged_later(run: Run) -> None:
    """Started in the hook of one recovery, it is an ordinary task in the next one."""

    async def scenario() -> None:
        recorder = Recorder()
        hooks = itertools.count(1)
        left: list[asyncio.Task[None]] = []
        second, ask, release = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def left_behind(manager: WebSocketManager) -> None:
            await ask.wait()
            await manager.send(text("order"))

        async def hook(manager: WebSocketManager) -> None:
            if next(hooks) == 1:
                left.append(asyncio.create_task(left_behind(manager)))
            else:
                second.set()
                await release.wait()

        policy = at_once(on_reconnect=hook)
        async with scripted(recorder.script) as server, managed(server, policy) as manager:
            await manager.send(text("close"))
            assert isinstance(await data_of(manager), Gap)
            await manager.send(text("close"))
            receiver = asyncio.create_task(manager.receive())
            await second.wait()
            ask.set()
            with pytest.raises(ReconnectingError):
                await left[0]
            release.set()
            assert isinstance(await receiver, Gap)

    run(scenario())


# --- 16.10: forget() ----------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["hook", "first", "limit"])
def test_subscription_forgotten_during_a_recovery_is_not_sent(run: Run, moment: str) -> None:
    """Whether it is forgotten before its turn, or while it waits for its limit."""

    async def scenario() -> None:
        recorder = Recorder()
        throttler = limited(3, 0.2)

        class First(WebSocketPlainTextRequest):
            async def send_with_connection(self, connection: Any) -> None:
                await super().send_with_connection(connection)
                if len(recorder.texts) == 2 and moment == "first":
                    assert manager.forget(text("b", "ws"))

        async def hook(manager: WebSocketManager) -> None:
            if moment == "hook":
                assert manager.forget(text("b", "ws"))
            if moment == "limit":
                while throttler.try_acquire("ws"):
                    pass
                asyncio.get_running_loop().call_later(
                    0.05, lambda: manager.forget(text("b", "ws"))
                )

        policy = at_once(on_reconnect=hook)
        async with (
            scripted(recorder.script) as server,
            managed(server, policy, throttler=throttler) as manager,
        ):
            for request in (First("a"), text("b", "ws"), text("c")):
                await manager.subscribe(request)
            await manager.send(text("close"))
            assert isinstance(await data_of(manager), Gap)
            await manager.send(text("d"))
            await recorder.until(lambda: "d" in recorder.texts[1])
            assert recorder.texts[1] == ["a", "c", "d"]

    run(scenario())


def test_subscription_forgotten_while_it_waits_for_its_limit_is_not_sent(run: Run) -> None:
    """Also without any loss."""

    async def scenario() -> None:
        recorder = Recorder()
        throttler = limited(1, 0.1)
        async with (
            scripted(recorder.script) as server,
            managed(server, at_once(), throttler=throttler) as manager,
        ):
            assert throttler.try_acquire("ws")
            waiting = asyncio.create_task(manager.subscribe(text("a", "ws")))
            await asyncio.sleep(0)
            assert manager.forget(text("a", "ws"))
            await waiting
            await manager.send(text("b"))
            await recorder.until(lambda: bool(recorder.texts[0]))
            assert recorder.texts[0] == ["b"]

    run(scenario())


# --- 16.24: subscriptions made while down -------------------------------------------------------


@pytest.mark.parametrize("moment", ["lost", "sleep", "hook", "subscriptions"])
@pytest.mark.parametrize("sends_wait", [True, False])
def test_subscription_made_while_down_is_remembered(
    run: Run, moment: str, sends_wait: bool
) -> None:
    """It is sent once by the recovery, after the ones before it, and once by later ones."""

    async def scenario() -> None:
        recorder = Recorder()
        halt = Halt(moment, recorder)
        policy = at_once(sleep=halt.sleep, on_reconnect=halt.hook, sends_wait=sends_wait)
        async with scripted(recorder.script) as server, managed(server, policy) as manager:
            await manager.subscribe(halt.slow(WebSocketPlainTextRequest)("old"))
            await manager.send(text("close"))
            if moment == "lost":
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(manager.receive(), 0)
                receiver = asyncio.create_task(manager.receive())
                while manager.connected:
                    await asyncio.sleep(0)
                subscribing = asyncio.create_task(manager.subscribe(text("new")))
            else:
                receiver = asyncio.create_task(manager.receive())
                await halt.reached.wait()
                subscribing = asyncio.create_task(manager.subscribe(text("new")))
                await asyncio.sleep(0)
            halt.release.set()
            assert isinstance(await receiver, Gap)
            await subscribing
            await manager.send(text("close"))
            assert isinstance(await data_of(manager), Gap)
            await manager.send(text("end"))
            await recorder.until(lambda: "end" in recorder.texts[-1])
            assert recorder.texts[1:] == [["login", "old", "new"], ["login", "old", "new", "end"]]

    run(scenario())


def test_subscription_made_in_the_hook_is_sent_once(run: Run) -> None:
    """Whether or not it is known from before."""

    async def scenario() -> None:
        recorder = Recorder()

        async def hook(manager: WebSocketManager) -> None:
            await manager.subscribe(text("b"))
            await manager.subscribe(text("c"))

        async with (
            scripted(recorder.script) as server,
            managed(server, at_once(on_reconnect=hook)) as manager,
        ):
            await manager.subscribe(text("a"))
            await manager.subscribe(text("b"))
            for _ in range(2):
                await manager.send(text("close"))
                assert isinstance(await data_of(manager), Gap)
            await manager.send(text("end"))
            await recorder.until(lambda: "end" in recorder.texts[-1])
            assert recorder.texts[1:] == [["b", "c", "a"], ["b", "c", "a", "end"]]

    run(scenario())


def test_subscription_that_cannot_be_sent_is_not_remembered(run: Run) -> None:
    """A fault of the request, and a manager that is not connected, raise."""

    async def scenario() -> None:
        async with (
            scripted(serve_data) as server,
            managed(server, at_once(), throttler=limited(1, 1.0)) as manager,
        ):
            unknown = text("a", "unknown")
            with pytest.raises(UnknownLimitError):
                await manager.subscribe(unknown)
            assert not manager.forget(unknown)
            await manager.disconnect()
            with pytest.raises(DisconnectedError) as caught:
                await manager.subscribe(text("a"))
            assert not isinstance(caught.value, ReconnectingError)
            assert not manager.forget(text("a"))

    run(scenario())


def test_subscription_is_not_remembered_without_a_policy(run: Run) -> None:
    """There, the loss is raised."""

    async def scenario() -> None:
        async with scripted(closing(1012)) as server, managed(server, None) as manager:
            receiver = asyncio.create_task(manager.receive())
            while manager.connected:
                await asyncio.sleep(0)
            with pytest.raises((WebSocketClosedError, DisconnectedError)):
                await manager.subscribe(text("a"))
            assert not manager.forget(text("a"))
            with pytest.raises(WebSocketClosedError):
                await receiver

    run(scenario())


def test_reconnecting_and_disconnected_can_be_told_apart() -> None:
    """Both are errors of a missing connection."""
    assert issubclass(ReconnectingError, DisconnectedError)
    assert issubclass(ReconnectingError, ClosedError)
    assert not isinstance(DisconnectedError("x"), ReconnectingError)
