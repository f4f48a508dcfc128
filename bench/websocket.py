"""Receive rate of a WebSocket: ours, bare aiohttp's and networkpype 1.1.5's, taking turns.

    python bench/websocket.py [--reference-python /path/to/python3.13-with-networkpype-1.1.5]

A server process sends the same JSON text frames, many to a write, so that the client is what is
measured. Each client runs in its turn; the medians over the rounds are compared. "bare" decodes
with msgspec, as ours does, "bare json()" with aiohttp's own `msg.json()`.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import os
import platform
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

# The reference interpreter measures the networkpype that is installed there.
if "NETWORKPYPE_REFERENCE" not in os.environ:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from networkpype.websocket.connection import WebSocketConnection
from networkpype.websocket.manager import WebSocketManager

MESSAGE = json.dumps(
    {"e": "trade", "s": "BTCUSDT", "p": "67000.10", "q": "0.005", "T": 1700000000000, "m": True}
).encode()
FRAMES_PER_WRITE = 100
TARGET_RATIO = 0.9


async def serve_frames(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    count = int(head.split("?n=")[1].split()[0])
    fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
    key = next(value for name, value in fields.items() if name.lower() == "sec-websocket-key")
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )
    frame = bytes([0x81, len(MESSAGE)]) + MESSAGE
    for _ in range(count // FRAMES_PER_WRITE):
        writer.write(frame * FRAMES_PER_WRITE)
        await writer.drain()
    writer.write(bytes([0x88, 2]) + struct.pack("!H", 1000))
    await reader.read()
    writer.close()


async def run_server() -> None:
    assert len(MESSAGE) < 126
    server = await asyncio.start_server(serve_frames, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def receive_bare(session: aiohttp.ClientSession, url: str) -> int:
    import msgspec

    decode = msgspec.json.decode
    count = 0
    async with session.ws_connect(url) as websocket:
        async for message in websocket:
            decode(message.data)
            count += 1
    return count


async def receive_bare_json(session: aiohttp.ClientSession, url: str) -> int:
    count = 0
    async with session.ws_connect(url) as websocket:
        async for message in websocket:
            message.json()
            count += 1
    return count


async def receive_connection(session: aiohttp.ClientSession, url: str) -> int:
    connection = WebSocketConnection(session)
    await connection.connect(url)
    count = 0
    try:
        while True:
            await connection.receive()
            count += 1
    except ConnectionError:
        return count


async def receive_manager(session: aiohttp.ClientSession, url: str) -> int:
    manager = WebSocketManager(WebSocketConnection(session))
    await manager.connect(url)
    count = 0
    try:
        async for _ in manager.iter_messages():
            count += 1
    except ConnectionError:
        return count
    raise RuntimeError("the server did not close")


Receiver = Callable[[aiohttp.ClientSession, str], Awaitable[int]]
OURS: dict[str, Receiver] = {
    "bare": receive_bare,
    "bare json()": receive_bare_json,
    "connection": receive_connection,
    "manager": receive_manager,
}


async def rate_per_second(receive: Receiver, url: str) -> float:
    async with aiohttp.ClientSession() as session:
        started = time.perf_counter()
        count = await receive(session, url)
        return count / (time.perf_counter() - started)


def reference_rate(python: str, url: str) -> float:
    """Measure the networkpype of another interpreter, with this very file."""
    # An absolute path elsewhere, so that the tree beside this file is not imported.
    command = [python, "-P", str(Path(__file__).resolve()), "--one", "manager", "--url", url]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    output = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        cwd="/",
        env={**environment, "NETWORKPYPE_REFERENCE": "1"},
    )
    return float(output.stdout)


def revision() -> str:
    answer = subprocess.run(
        ["git", "describe", "--always", "--dirty"], check=False, capture_output=True, text=True
    )
    return answer.stdout.strip() or "unknown"


def report(rates: dict[str, list[float]]) -> dict[str, Any]:
    medians = {name: statistics.median(values) for name, values in rates.items()}
    bare = medians["bare"]
    for name, median in medians.items():
        print(f"{name:14} {median:12,.0f} messages/s   {median / bare:5.2f} of bare")
    ratio = medians["manager"] / bare
    verdict = "met" if ratio >= TARGET_RATIO else "MISSED"
    print(f"target: manager at least {TARGET_RATIO} of bare: {verdict}")
    return {
        "benchmark": "websocket receive",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "revision": revision(),
        "median_messages_per_second": medians,
        "ratio_to_bare": {name: median / bare for name, median in medians.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--reference-python")
    parser.add_argument("--json", type=Path, default=Path("bench-websocket.json"))
    parser.add_argument("--one", choices=OURS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(run_server())
        return
    if options.one:
        print(asyncio.run(rate_per_second(OURS[options.one], options.url)))
        return
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    try:
        url = f"ws://127.0.0.1:{int(server.stdout.readline())}/?n={options.messages}"
        rates: dict[str, list[float]] = {}
        for _ in range(options.rounds):
            for name, receive in OURS.items():
                rates.setdefault(name, []).append(asyncio.run(rate_per_second(receive, url)))
            if options.reference_python:
                rate = reference_rate(options.reference_python, url)
                rates.setdefault("1.1.5 manager", []).append(rate)
    finally:
        server.terminate()
        server.wait()
    options.json.write_text(json.dumps(report(rates), indent=2) + "\n")


if __name__ == "__main__":
    main()
