"""Well-behaved clients: `python -m soak.neighbours PORT CLIENTS CALLS_PER_SECOND`.

They make calls, each client at that rate whether or not it has its replies yet, from one line of
input to the next, which is answered by a line of JSON: latencies in milliseconds.
"""

import asyncio
import json
import sys
import time
from typing import Any

import uvloop

from soak.wire import SECONDS, Client, call, open_client, tell

PACE_SECONDS = 0.001
KINDS = (("plain", 1), ("awaited", 2))


class Neighbours:
    def __init__(self) -> None:
        self.clients: list[Client] = []
        self._calls = 0
        self._waiting: dict[int, tuple[int, float]] = {}
        self._faults: list[str] = []
        self._latencies: list[float] = []

    async def open(self, port: int, clients: int) -> None:
        for number in range(clients):
            self.clients.append(await open_client(port, self._take, number))

    def _take(self, client: Client, payload: bytes) -> None:
        now = time.perf_counter()
        reply = json.loads(payload)
        name = reply.get("id")
        data, sent = self._waiting.pop(name, (None, now))
        if reply != {"data": data, "event_name": None, "id": name}:
            self._faults.append(payload[:200].decode())
        self._latencies.append(now - sent)

    async def call_until(self, end: "asyncio.Task[str]", rate: int) -> dict[str, Any]:
        self._latencies, self._faults = [], []
        start, before = time.perf_counter(), self._calls
        while not end.done():
            due = before + int((time.perf_counter() - start) * rate)
            while self._calls < due:
                number, self._calls = self._calls, self._calls + 1
                kind, step = KINDS[number % 2]
                frame = call(f"/{kind}/{number}", id=number)
                self._waiting[number] = number + step, time.perf_counter()
                self.clients[number % len(self.clients)].send(frame)
            await asyncio.sleep(PACE_SECONDS)
        last = time.monotonic() + SECONDS
        while self._waiting and time.monotonic() < last:
            await asyncio.sleep(PACE_SECONDS)
        milliseconds = sorted(1000 * latency for latency in self._latencies) or [0.0]
        told = {
            "calls": self._calls - before,
            "replies": len(self._latencies),
            "faults": self._faults[:10],
            "closed": sum(client.closed.done() for client in self.clients),
        }
        for name, part in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
            told[name] = round(milliseconds[int(part * (len(milliseconds) - 1))], 2)
        return told


async def main(port: int, clients: int, rate: int) -> None:
    neighbours = Neighbours()
    await neighbours.open(port, clients)
    tell("ready")
    while await asyncio.to_thread(sys.stdin.readline):
        end = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
        tell(await neighbours.call_until(end, clients * rate))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(*map(int, sys.argv[1:])))
