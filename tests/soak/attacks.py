"""Clients that mean no good: `python -m soak.attacks PORT ATTACK COUNT SECONDS RATE SIZE`.

Prints "ready", waits for a line, attacks, and tells in a line of JSON how its connections were
ended and what it has counted. RATE is messages per second of all together.
"""

import asyncio
import contextlib
import json
import sys
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable

import uvloop

from soak.visit import Visit
from soak.wire import COMPRESSED_TEXT, PING, PONG, TEXT, header, tell, upgrade_request

REPLY_BYTES = 100_000
SMALL_BUFFER = 4096
PIECE = 65536
NO_MASK = bytes(4)  # a mask like any other: the bytes stay what they are
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
HANDSHAKES_AT_ONCE = 50
BURST = 50
TICK_SECONDS = 0.01
END_SECONDS = 120


def plain_frame(payload: bytes, first: int = TEXT) -> bytes:
    return header(first, len(payload)) + NO_MASK + payload


def message(**keys: object) -> bytes:
    return plain_frame(json.dumps(keys).encode())


class Attack:
    """What all attacks count, and the pace that they keep."""

    def __init__(self, port: int, count: int, seconds: int, rate: int, size: int) -> None:
        self.port, self.count, self.seconds = port, count, seconds
        self.rate, self.size = rate, size
        self.endings: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    async def everyone(
        self, one: Callable[[int], Awaitable[str]], *, comes_again: bool = False
    ) -> None:
        """Let all clients go through `one`, once or for the time; count how each was ended."""
        end = time.monotonic() + self.seconds

        async def counted(number: int) -> None:
            ending = ""
            while not ending or (comes_again and time.monotonic() < end):
                try:
                    async with asyncio.timeout(self.seconds + END_SECONDS):
                        ending = await one(number)
                except TimeoutError:
                    ending = "not ended"
                self.endings[ending] += 1

        async with asyncio.TaskGroup() as group:
            for number in range(self.count):
                group.create_task(counted(number))

    async def upgraded(self, **options: object) -> list[Visit]:
        """Return clients that are connected."""
        gate = asyncio.Semaphore(HANDSHAKES_AT_ONCE)

        async def one(number: int) -> Visit:
            async with gate:
                visit = Visit(self.port, number, **options)  # type: ignore[arg-type]
                await visit.upgrade()
                return visit

        return await asyncio.gather(*map(one, range(self.count)))

    async def flood(self, next_frame: Callable[[int], bytes], visits: list[Visit]) -> int:
        """Send at the rate for the time, a client after the other; return how many frames."""
        start = time.monotonic()
        sent = 0
        while (elapsed := time.monotonic() - start) < self.seconds:
            due = int(elapsed * self.rate) - sent
            # Not all at once what was missed: that would be another attack.
            for number in range(sent, sent + min(due, self.rate // 20 + 1)):
                await visits[number % len(visits)].send(next_frame(number))
                sent += 1
            await asyncio.sleep(TICK_SECONDS)
        return sent

    async def answered_flood(
        self,
        next_frame: Callable[[int], bytes],
        take: Callable[[int, bytes], None],
        is_done: Callable[[int], bool],
    ) -> None:
        """Flood while all answers are read; then wait for what is missing, and leave."""
        visits = await self.upgraded()
        readers = [asyncio.create_task(visit.end(take)) for visit in visits]
        sent = await self.flood(next_frame, visits)
        self.counts["sent"] = sent
        end = time.monotonic() + END_SECONDS
        while not is_done(sent) and time.monotonic() < end:
            await asyncio.sleep(TICK_SECONDS)
        for visit, reader in zip(visits, readers, strict=True):
            if not reader.done():
                reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                self.endings[await reader] += 1
            visit.drop()


async def silent_readers(attack: Attack) -> None:
    """Ask for `size` bytes of replies each, and read none."""
    calls = message(method="GET", url=f"/big/{REPLY_BYTES}") * (attack.size // REPLY_BYTES)
    visits = await attack.upgraded(receive_buffer=SMALL_BUFFER)

    async def one(number: int) -> str:
        # One after the other: each has some megabytes coming before the kernel's buffers are full.
        await asyncio.sleep(number * attack.seconds / attack.count)
        visit = visits[number]
        asking = asyncio.create_task(visit.send(calls))
        ending = await visit.cut()
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await asking
        visit.drop()
        return ending

    await attack.everyone(one)


async def slowloris(attack: Attack) -> None:
    """Send a header line a second, for ever."""

    async def one(number: int) -> str:
        visit = Visit(attack.port, number)
        await visit.connect()
        ending = asyncio.create_task(visit.end())
        with contextlib.suppress(OSError):
            await visit.send(upgrade_request(attack.port, ends=False))
            while not ending.done():
                await visit.send(b"X-Slow: 1\r\n")
                await asyncio.wait([ending], timeout=1)
        how = await ending
        visit.drop()
        return how

    await attack.everyone(one, comes_again=True)


async def byte_senders(attack: Attack) -> None:
    """Send a message, a byte a second; no pong can go in between."""
    visits = await attack.upgraded()
    endless = message(method="GET", url="/plain/1", data="x" * 1000)

    async def one(number: int) -> str:
        visit = visits[number]
        ending = asyncio.create_task(visit.end())
        with contextlib.suppress(OSError):
            for byte in endless:
                if ending.done():
                    break
                await visit.send(bytes((byte,)))
                await asyncio.wait([ending], timeout=1)
        how = await ending
        visit.drop()
        return how

    await attack.everyone(one)


def _bomb(size: int) -> bytes:
    """Return a compressed message that inflates to so many bytes."""
    press = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = bytes(1 << 20)
    parts = [press.compress(zeros) for _ in range(size >> 20)]
    parts.append(press.flush(zlib.Z_SYNC_FLUSH))
    # RFC 7692, 7.2.1: the last four bytes of a flush are left out.
    return plain_frame(b"".join(parts)[:-4], COMPRESSED_TEXT)


async def bombs(attack: Attack) -> None:
    """Send messages that inflate to `size` bytes, one after the other."""
    bomb = await asyncio.to_thread(_bomb, attack.size)
    attack.counts["bytes"] = len(bomb)
    for number in range(attack.count):
        visit = Visit(attack.port, number, offers=DEFLATE)
        await visit.upgrade()
        ending = asyncio.create_task(visit.end())
        with contextlib.suppress(OSError):
            await visit.send(bomb)
        async with asyncio.timeout(END_SECONDS):
            attack.endings[await ending] += 1
        visit.drop()
        await asyncio.sleep(attack.seconds / attack.count)


async def headers(attack: Attack) -> None:
    """Send a request of `size` bytes: half of the clients in many lines, half in one."""
    line = b"X-Fill: " + b"f" * 118 + b"\r\n"

    async def one(number: int) -> str:
        visit = Visit(attack.port, number)
        await visit.connect()
        ending = asyncio.create_task(visit.end())
        piece = line * (PIECE // len(line)) if number % 2 else b"f" * PIECE
        left = attack.size
        with contextlib.suppress(OSError):
            await visit.send(upgrade_request(attack.port, b"X-Start: ", ends=False))
            while left > 0:
                await visit.send(piece)
                left -= len(piece)
                attack.counts["taken"] += len(piece)
                await asyncio.sleep(attack.seconds * PIECE / attack.size)
        how = await ending
        visit.drop()
        return how

    await attack.everyone(one, comes_again=True)


async def pings(attack: Attack) -> None:
    """Send pings, and read the pongs."""
    payload = bytes(125)
    ping = plain_frame(payload, PING)

    def take(first: int, reply: bytes) -> None:
        attack.counts["pongs" if first == PONG and reply == payload else "wrong"] += 1

    await attack.answered_flood(
        lambda number: ping, take, lambda sent: attack.counts["pongs"] >= sent
    )


async def deaf_pings(attack: Attack) -> None:
    """Send pings as fast as they are taken, and read no pong."""
    burst = plain_frame(bytes(125), PING) * BURST
    visits = await attack.upgraded(receive_buffer=SMALL_BUFFER)

    async def one(number: int) -> str:
        visit = visits[number]
        ending = asyncio.create_task(visit.cut())
        sending: asyncio.Task[None] | None = None
        while not ending.done():
            if sending is None or sending.done():
                sending = asyncio.create_task(_send_all_the_same(visit, burst))
                attack.counts["sent"] += BURST
            pause = BURST * attack.count / attack.rate
            await asyncio.wait([ending], timeout=pause)
        if sending is not None:
            sending.cancel()
        how = await ending
        visit.drop()
        return how

    await attack.everyone(one)


async def _send_all_the_same(visit: Visit, data: bytes) -> None:
    with contextlib.suppress(OSError):
        await visit.send(data)


async def cancels(attack: Attack) -> None:
    """Make calls that never end; cancel the one before, and one that there never was."""

    def next_frame(number: int) -> bytes:
        visit, turn = number % attack.count, number // attack.count
        attack.counts["calls"] += 1
        return (
            message(method="CANCEL", id=turn - 1)
            + message(method="CANCEL", id="none")
            + message(method="GET", url=NEVER[visit % 2], id=turn)
        )

    def take(first: int, reply: bytes) -> None:
        attack.counts[f"status {json.loads(reply).get('status')}"] += 1

    # The last call of each is left to the end of the connection.
    await attack.answered_flood(
        next_frame, take, lambda sent: attack.counts["status 499"] >= sent - attack.count
    )


NEVER = ("/never", "/never-awaited")


async def unknown_urls(attack: Attack) -> None:
    """Ask for what is not there, each time by another name."""

    def take(first: int, reply: bytes) -> None:
        attack.counts[f"status {json.loads(reply).get('status')}"] += 1

    await attack.answered_flood(
        lambda number: message(method="GET", url=f"/nothing/{number}/at/all", id=number),
        take,
        lambda sent: attack.counts["status 404"] >= sent,
    )


async def too_many(attack: Attack) -> None:
    """Make more calls a second than a connection may."""
    frames = message(method="GET", url="/plain/1", id=1) * 5

    def take(first: int, reply: bytes) -> None:
        told = json.loads(reply)
        attack.counts["answered" if "data" in told else f"status {told['status']}"] += 1

    async def one(number: int) -> str:
        visit = Visit(attack.port, number)
        await visit.upgrade()
        ending = asyncio.create_task(visit.end(take))
        with contextlib.suppress(OSError):
            while not ending.done():
                await visit.send(frames)
                await asyncio.wait([ending], timeout=5 * attack.count / attack.rate)
        how = await ending
        visit.drop()
        return how

    await attack.everyone(one, comes_again=True)


ATTACKS: dict[str, Callable[[Attack], Awaitable[None]]] = {
    function.__name__: function
    for function in (
        silent_readers,
        slowloris,
        byte_senders,
        bombs,
        headers,
        pings,
        deaf_pings,
        cancels,
        unknown_urls,
        too_many,
    )
}


def main(port: str, name: str, *numbers: str) -> None:
    attack = Attack(int(port), *map(int, numbers))
    tell("ready")
    sys.stdin.readline()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ATTACKS[name](attack))
    tell({"endings": attack.endings, **attack.counts})


if __name__ == "__main__":
    main(*sys.argv[1:])
