"""Many open connections, few of them active.

    python -m soak.load PORT CONNECTIONS ACTIVE SECONDS

Each second other connections are the active ones, and each of them makes ten calls. Every reply is
looked at. Prints a line of JSON when all are open, when all calls are answered and when all are
closed, and waits for a line of input before each of the next steps.
"""

import asyncio
import json
import sys
import time
from typing import Any

from soak.wire import SECONDS, Client, call, open_client, tell

CALLS_PER_SECOND = 10  # of each active connection
AT_ONCE = 100  # handshakes under way
KINDS = (("plain", 1), ("awaited", 2), ("deferred", 3))


class Load:
    def __init__(self) -> None:
        self.clients: list[Client] = []
        self.calls = self.replies = 0
        self.faults: list[str] = []
        self._waiting: dict[int, tuple[Client, int, float]] = {}
        self._slowest = 0.0

    async def open(self, port: int, connections: int) -> None:
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> None:
            async with gate:
                self.clients.append(await open_client(port, self.take, number))

        async with asyncio.TaskGroup() as group:
            for number in range(connections):
                group.create_task(one(number))

    def take(self, client: Client, payload: bytes) -> None:
        reply = json.loads(payload)
        name = reply.get("id")
        caller, data, sent = self._waiting.pop(name, (None, None, 0.0))
        if caller is not client or reply != {"data": data, "event_name": None, "id": name}:
            self.faults.append(payload[:200].decode())
            return
        self._slowest = max(self._slowest, time.monotonic() - sent)
        self.replies += 1

    def make_call(self, client: Client) -> None:
        number, self.calls = self.calls, self.calls + 1
        kind, step = KINDS[number % len(KINDS)]
        self._waiting[number] = client, number + step, time.monotonic()
        client.send(call(f"/{kind}/{number}", id=number))

    async def run(self, active: int, seconds: float) -> None:
        rate = active * CALLS_PER_SECOND
        start = time.monotonic()
        while (elapsed := time.monotonic() - start) < seconds:
            first = int(elapsed) * active
            for number in range(self.calls, int(elapsed * rate)):
                self.make_call(self.clients[(first + number % active) % len(self.clients)])
            await asyncio.sleep(0.01)
        end = time.monotonic() + SECONDS
        while self._waiting and time.monotonic() < end:
            await asyncio.sleep(0.01)

    def told(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "replies": self.replies,
            "faults": self.faults[:10],
            "lost": sum(client.closed.done() for client in self.clients),
            "slowest_ms": round(self._slowest * 1000, 1),
        }

    async def close(self) -> dict[str, int]:
        codes: dict[str, int] = {}
        for client in self.clients:
            client.close()
        async with asyncio.timeout(SECONDS):
            for client in self.clients:
                code = str(await client.closed)
                codes[code] = codes.get(code, 0) + 1
                client.transport.close()
        return codes


async def main(port: int, connections: int, active: int, seconds: float) -> None:
    load = Load()
    await load.open(port, connections)
    await _say({"opened": len(load.clients)})
    await load.run(active, seconds)
    await _say(load.told())
    await _say(await load.close())


async def _say(told: Any) -> None:
    tell(told)
    # Pings want their answers while the test does something else.
    await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
