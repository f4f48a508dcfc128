"""Calls without end: `python -m soak.calls_until_closed PORT CLIENTS RATE SLOW_MS`.

Many clients call, in all at that rate, each until the server's close frame has come; one call in
ten takes SLOW_MS. Prints "ready", then a line of JSON when all connections have ended.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any

import uvloop

from soak.wire import SECONDS, Client, call, open_client, tell

PACE_SECONDS = 0.002
SLOW_EVERY = 10
KINDS = (("plain", 1), ("awaited", 2), ("deferred", 3))


class Callers:
    def __init__(self, slow_seconds: float) -> None:
        self.clients: list[Client] = []
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self._slow_seconds = slow_seconds
        self._calls = 0
        self._waiting: dict[int, int] = {}

    async def open(self, port: int, clients: int) -> None:
        for number in range(clients):
            self.clients.append(await open_client(port, self._take, number))

    def _take(self, client: Client, payload: bytes) -> None:
        reply = json.loads(payload)
        name = reply.get("id")
        expected = self._waiting.pop(name, None)
        if expected is None or client.closed.done():
            self.faults.append(payload[:200].decode())
        elif reply.get("status") == 503:
            self.counts["refused"] += 1
        elif reply == {"data": expected, "event_name": None, "id": name}:
            self.counts["answered"] += 1
        else:
            self.faults.append(payload[:200].decode())

    def _call(self) -> None:
        number, self._calls = self._calls, self._calls + 1
        client = self.clients[number % len(self.clients)]
        if client.closed.done():
            return
        kind, step = KINDS[number % len(KINDS)]
        is_slow = kind != "plain" and number % SLOW_EVERY == 0
        more: dict[str, Any] = {"args": {"seconds": self._slow_seconds}} if is_slow else {}
        self._waiting[number] = number + step
        self.counts["sent"] += 1
        client.send(call(f"/{kind}/{number}", id=number, **more))

    async def run(self, rate: int) -> None:
        start = time.monotonic()
        while not all(client.closed.done() for client in self.clients):
            due = int((time.monotonic() - start) * rate)
            while self._calls < due:
                self._call()
            await asyncio.sleep(PACE_SECONDS)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            if all(client.transport.is_closing() for client in self.clients):
                break
            await asyncio.sleep(PACE_SECONDS)

    def told(self) -> dict[str, Any]:
        codes = Counter(str(client.closed.result()) for client in self.clients)
        return {**self.counts, "codes": codes, "faults": self.faults[:10]}


async def main(port: int, clients: int, rate: int, slow_ms: int) -> None:
    callers = Callers(slow_ms / 1000)
    await callers.open(port, clients)
    tell("ready")
    await callers.run(rate)
    tell(callers.told())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(*map(int, sys.argv[1:])))
