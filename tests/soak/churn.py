"""Clients that come and go: `python -m soak.churn PORT`.

Each line of input is a number: so many connect and disconnect, in each of the ways below, and a
line of JSON tells how often which way was gone. After the word `heavy` and a number, so many send
most of a large message and a request that is too large, all at once, and are reset.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Awaitable, Callable

import uvloop

from soak.visit import Visit
from soak.wire import SECONDS, TEXT, call, header, tell, upgrade_request

WORKERS = 64
NEVER = call("/never", id="never")
NEVER_AWAITED = call("/never-awaited", id="never awaited")


async def closed_properly(visit: Visit) -> None:
    await visit.upgrade()
    await visit.call()
    await visit.close()
    visit.drop()


async def reset_after_a_call(visit: Visit) -> None:
    await visit.upgrade()
    await visit.call()
    visit.reset()


async def dropped_without_a_word(visit: Visit) -> None:
    await visit.connect()
    visit.drop()


async def dropped_in_the_handshake(visit: Visit) -> None:
    await visit.connect()
    await visit.send(upgrade_request(visit.port, b"X-More: ", ends=False))
    visit.drop()


async def reset_in_the_handshake(visit: Visit) -> None:
    await visit.connect()
    await visit.send(upgrade_request(visit.port)[: 20 + visit.number % 100])
    visit.reset()


async def reset_with_the_handshake_unread(visit: Visit) -> None:
    await visit.connect()
    await visit.send(upgrade_request(visit.port))
    visit.reset()


async def dropped_with_a_running_call(visit: Visit) -> None:
    await visit.upgrade()
    await visit.send(NEVER)
    visit.drop()


async def reset_with_a_running_coroutine(visit: Visit) -> None:
    await visit.upgrade()
    await visit.call()
    await visit.send(NEVER_AWAITED)
    visit.reset()


async def closed_with_a_running_coroutine(visit: Visit) -> None:
    await visit.upgrade()
    await visit.send(NEVER_AWAITED + NEVER)
    await visit.close()
    visit.drop()


async def reset_in_a_frame(visit: Visit) -> None:
    await visit.upgrade()
    await visit.send(NEVER[: 1 + visit.number % (len(NEVER) - 1)])
    visit.reset()


WAYS: tuple[Callable[[Visit], Awaitable[None]], ...] = (
    closed_properly,
    reset_after_a_call,
    dropped_without_a_word,
    dropped_in_the_handshake,
    reset_in_the_handshake,
    reset_with_the_handshake_unread,
    dropped_with_a_running_call,
    reset_with_a_running_coroutine,
    closed_with_a_running_coroutine,
    reset_in_a_frame,
)


async def run(port: int, count: int) -> dict[str, int]:
    done: Counter[str] = Counter()
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            way = WAYS[number % len(WAYS)]
            visit = Visit(port, number)
            try:
                async with asyncio.timeout(SECONDS):
                    await way(visit)
                done[way.__name__] += 1
            except (OSError, TimeoutError) as exc:
                done[f"{way.__name__}: {exc!r}"] += 1
                visit.drop()

    async with asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(work())
    return done


LARGE = 1_000_000
MOST_OF_A_MESSAGE = header(TEXT, LARGE) + bytes(4) + bytes(LARGE - 1)
TOO_LARGE = b"X-Fill: " + b"f" * 60_000


async def leave_much(port: int, count: int) -> int:
    """Let each have much unfinished when it goes; return how many requests were refused."""
    talkers = [Visit(port, number) for number in range(count)]
    refused = [Visit(port, number) for number in range(count)]
    endings = []
    async with asyncio.timeout(SECONDS):
        for talker, other in zip(talkers, refused, strict=True):
            await talker.upgrade()
            await talker.send(MOST_OF_A_MESSAGE)
            await other.connect()
            await other.send(upgrade_request(port, TOO_LARGE, ends=False))
            endings.append(await other.end())
    for visit in talkers + refused:
        visit.reset()
    return endings.count("HTTP 431")


def main(port: int) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin:
            *heavy, count = line.split()
            tell(runner.run((leave_much if heavy else run)(port, int(count))))


if __name__ == "__main__":
    main(int(sys.argv[1]))
