"""How long a client waits before it connects again, and what it waits for."""

import asyncio
import email.utils
from collections.abc import Awaitable, Callable

import pytest
from scripted_servers import (
    Peer,
    Run,
    Script,
    Sleeps,
    at_once,
    data_of,
    managed,
    scripted,
    serve_data,
)

from networkpype.exceptions import WebSocketClosedError, WebSocketHandshakeError
from networkpype.websocket.reconnect import ReconnectPolicy
from networkpype.websocket.response import Gap

# --- a server that greets and closes ------------------------------------------------------------


def greeting(*texts: str, end: str = "close", seconds: float = 0.0) -> Script:
    """Return a script that sends `texts` and ends the connection after `seconds`."""

    async def script(peer: Peer) -> None:
        await peer.handshake()
        for text in texts:
            peer.text(text)
        await asyncio.sleep(seconds)
        if end == "close":
            peer.close(1012)
            await peer.until_gone()
        elif end == "reset":
            await peer.writer.drain()
            peer.reset()

    return script


async def receive_all(receive: Callable[[], Awaitable[object]]) -> None:
    for _ in range(100):
        await receive()


@pytest.mark.parametrize("is_iterating", [True, False])
@pytest.mark.parametrize(
    "script",
    [
        greeting('"welcome"'),
        greeting('"a"', '"b"', '"c"'),
        greeting('"welcome"', end="eof"),
        greeting('"welcome"', end="reset"),
    ],
)
def test_attempts_are_bounded_although_each_connection_gives_data(
    run: Run, script: Script, is_iterating: bool
) -> None:
    """A server that greets and closes uses up `max_attempts`."""

    async def scenario() -> None:
        policy = at_once(max_attempts=5)
        async with scripted(script) as server, managed(server, policy) as manager:
            messages = manager.iter_messages()
            with pytest.raises(WebSocketClosedError, match="after 5 attempts"):
                await receive_all(messages.__anext__ if is_iterating else manager.receive)
            assert server.count == 6

    run(scenario())


def test_connection_that_has_lasted_starts_the_count_anew(run: Run) -> None:
    """Any number of losses is survived, if each connection lasts for `stable_seconds`."""

    async def scenario() -> None:
        policy = at_once(max_attempts=1, stable_seconds=0.02)
        script = greeting('"welcome"', seconds=0.05)
        async with scripted(script) as server, managed(server, policy) as manager:
            gaps = 0
            while gaps < 5:
                gaps += isinstance(await data_of(manager), Gap)
            assert server.count >= 6

    run(scenario())


@pytest.mark.slow
def test_time_that_recovery_takes_is_not_stability(run: Run) -> None:
    """A connection that ends soon after a slow login counts as one that ended at once."""

    async def log_in(_: object) -> None:
        await asyncio.sleep(0.3)

    async def scenario() -> None:
        policy = at_once(max_attempts=3, stable_seconds=0.3, on_reconnect=log_in)
        scripts = (greeting('"welcome"'), greeting('"welcome"', seconds=0.31))
        async with scripted(*scripts) as server, managed(server, policy) as manager:
            with pytest.raises(WebSocketClosedError, match="after 3 attempts"):
                await receive_all(manager.receive)
            assert server.count == 4

    run(scenario())


# --- Retry-After --------------------------------------------------------------------------------


def refusing(status: str, *headers: str) -> Script:
    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        lines = (f"HTTP/1.1 {status}", *headers, "Content-Length: 0", "Connection: close", "", "")
        peer.writer.write("\r\n".join(lines).encode())

    return script


def date(seconds: float) -> str:
    return email.utils.formatdate(1_700_000_000 + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("refusal", "seconds"),
    [
        (refusing("429 Slow", "Retry-After: 77"), 77.0),
        (refusing("503 Busy", "Retry-After: 77"), 77.0),
        (refusing("503 Busy", "retry-after: 0.5"), 1.0),
        (refusing("502 Bad", "Retry-After: 4000"), 4000.0),
        (refusing("429 Slow", f"Date: {date(-500)}", f"Retry-After: {date(-437)}"), 63.0),
        (refusing("503 Busy", f"Retry-After: {date(90)}"), 90.0),
        (refusing("503 Busy", f"Retry-After: {date(-90)}"), 1.0),
        (refusing("503 Busy", "Retry-After: soon"), 1.0),
        (refusing("503 Busy"), 1.0),
    ],
)
def test_refused_handshake_says_when_to_come_again(
    run: Run, refusal: Script, seconds: float
) -> None:
    """Its `Retry-After` is a lower bound for the next delay, for the next one only."""

    async def scenario() -> None:
        sleeps = Sleeps()
        policy = ReconnectPolicy(
            sleep=sleeps,
            rng=lambda: 1.0,
            initial_delay_seconds=1,
            max_delay_seconds=1,
            wall_clock=lambda: 1_700_000_000.0,
        )
        scripts = (greeting('"hello"'), refusal, greeting(), serve_data)
        async with scripted(*scripts) as server, managed(server, policy) as manager:
            assert await data_of(manager) == "hello"
            assert isinstance(await data_of(manager), Gap)
            assert isinstance(await data_of(manager), Gap)
            assert await data_of(manager) == [4]
        assert sleeps.seconds == [1.0, seconds, 1.0]

    run(scenario())


# --- which statuses are final -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "final", "transient"),
    [
        ({}, (400, 401, 403, 404, 301), (408, 425, 429, 500, 503)),
        ({"final_statuses": {401}}, (401,), (403, 404, 410, 429, 503)),
        ({"final_statuses": [451, 503]}, (451, 503), (401, 403)),
        ({"final_statuses": ()}, (), (400, 401, 403, 404)),
    ],
)
def test_final_statuses_are_a_setting(
    run: Run,
    options: dict[str, object],
    final: tuple[int, ...],
    transient: tuple[int, ...],
) -> None:
    """A maintenance page need not end a feed."""

    async def scenario() -> None:
        refusals = [refusing(f"{status} X") for status in transient]
        scripts = (greeting(), *refusals, serve_data)
        async with scripted(*scripts) as server, managed(server, at_once(**options)) as manager:
            gap = await data_of(manager)
            assert gap.attempts == len(transient) + 1
            assert await data_of(manager) == [len(scripts)]
        for status in final:
            scripts = (greeting(), refusing(f"{status} X"))
            async with (
                scripted(*scripts) as server,
                managed(server, at_once(**options)) as manager,
            ):
                with pytest.raises(WebSocketHandshakeError) as caught:
                    await manager.receive()
                assert caught.value.status == status

    run(scenario())
