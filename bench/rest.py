"""Compare `execute_request` with bare aiohttp (and with networkpype 1.1.5) on the loopback.

Run from the repository: `python bench/rest.py [--reference-python PATH] [--json FILE]`, where PATH
is an interpreter with networkpype 1.1.5. Each side runs in a process of its own that measures the
package and bare `session.request` + `json()` in turns, one request each, and the sides take turns
in rounds, so that whatever else the machine does falls on all. The server is a process of its own.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

ORDER = {"symbol": "BTCUSDT", "price": "27123.45", "qty": "0.125", "fills": [[1, 2], [3, 4]]}
BODY = json.dumps(ORDER).encode()
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)


class FixedAnswer(asyncio.Protocol):
    """Answer each head with the same response: as little work as a server can have."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        *heads, self.received = (self.received + data).split(b"\r\n\r\n")
        self.transport.write(ANSWER * len(heads))


async def run_server() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(FixedAnswer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def run_side(url: str, requests: int) -> None:
    """Measure one round for each line that comes in; print microseconds per request."""
    import aiohttp

    from networkpype.factory import ConnectionManagersFactory
    from networkpype.throttler.rate_limit import RateLimit
    from networkpype.throttler.throttler import AsyncThrottler

    factory = ConnectionManagersFactory(AsyncThrottler([RateLimit("x", 10**7, 1.0)]))
    manager = await factory.get_rest_manager()
    session = aiohttp.ClientSession()

    async def bare() -> None:
        async with session.request("GET", url) as response:
            assert await response.json() == ORDER

    async def package() -> None:
        assert await manager.execute_request(url, "x") == ORDER

    async def measure() -> dict[str, float]:
        """Return the medians; who is first changes with each pair."""
        took: dict[Any, list[float]] = {bare: [], package: []}
        for number in range(requests):
            for run in (bare, package) if number % 2 else (package, bare):
                start = time.perf_counter()
                await run()
                took[run].append(time.perf_counter() - start)
        return {run.__name__: statistics.median(times) * 1e6 for run, times in took.items()}

    await measure()
    print("ready", flush=True)
    # Blocks the loop between rounds, on purpose: nothing else is to run.
    for _line in sys.stdin:
        print(json.dumps(await measure()), flush=True)
    await session.close()
    await factory.close()


class Side:
    """A process that measures when it is told to."""

    def __init__(self, python: str, port: int, requests: int, *, ours: bool) -> None:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        if ours:
            environment["PYTHONPATH"] = str(ROOT)
        self.process = subprocess.Popen(
            [python, __file__, "--side", f"http://127.0.0.1:{port}/", "--requests", str(requests)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).parent,
        )
        assert self._answer() == "ready"
        self.bare: list[float] = []
        self.package: list[float] = []

    def measure(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        took = json.loads(self._answer())
        self.bare.append(took["bare"])
        self.package.append(took["package"])

    def close(self) -> None:
        self.process.communicate()

    def result(self) -> dict[str, float]:
        ratios = [bare / package for bare, package in zip(self.bare, self.package, strict=True)]
        return {
            "bare_us": round(statistics.median(self.bare), 1),
            "package_us": round(statistics.median(self.package), 1),
            "rate_ratio": round(statistics.median(ratios), 3),
        }

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference-python", help="an interpreter with networkpype 1.1.5")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--requests", type=int, default=500, help="requests in a round")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--server", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--side", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.server:
        asyncio.run(run_server())
    elif options.side:
        asyncio.run(run_side(options.side, options.requests))
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    server = subprocess.Popen(
        [sys.executable, __file__, "--server"], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    port = int(server.stdout.readline())
    try:
        sides = {"networkpype": Side(sys.executable, port, options.requests, ours=True)}
        if options.reference_python:
            sides["networkpype 1.1.5"] = Side(
                options.reference_python, port, options.requests, ours=False
            )
        for _ in range(options.rounds):
            for side in sides.values():
                side.measure()
        for side in sides.values():
            side.close()
    finally:
        server.kill()
        server.communicate()
    report(options, {name: side.result() for name, side in sides.items()})


def report(options: argparse.Namespace, results: dict[str, dict[str, float]]) -> None:
    print(f"{'':20} {'bare us':>9} {'package us':>11} {'rate, bare = 1':>15}")
    for name, result in results.items():
        print(
            f"{name:20} {result['bare_us']:9.1f} {result['package_us']:11.1f} "
            f"{result['rate_ratio']:15.3f}"
        )
    print("target: 0.85")
    if options.json:
        machine = {"platform": platform.platform(), "python": platform.python_version()}
        document = {**machine, "rounds": options.rounds, "requests": options.requests, **results}
        options.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
