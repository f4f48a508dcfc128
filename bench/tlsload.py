"""The load generator's `calls -t` in Python, for machines without the headers of OpenSSL.

It takes the arguments of load.c, does the same, prints the same; it is slower, so that fast
servers look more alike than they are.
"""

import argparse
import base64
import json
import os
import selectors
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import NoReturn

from bench.frames import masked_text_frame, text_frame, upgrade_request

HOST = "127.0.0.1"
STALL_SECONDS = 10
CHUNK = 1 << 18
DISTINCT_MASKS = 32


def fail(reason: str) -> NoReturn:
    sys.exit(f"tlsload: {reason}")


class Connection:
    """A connection of which each reply has to be the expected one."""

    def __init__(self, port: int, frames: list[bytes], expected: bytes) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # made for this run, by this run
        plain = socket.create_connection((HOST, port), timeout=STALL_SECONDS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(plain)
        self.socket.sendall(upgrade_request(port, base64.b64encode(os.urandom(16)).decode()))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.socket.recv(1)
            if not byte:
                fail("a connection was closed in its handshake")
            head += byte
        if not head.startswith(b"HTTP/1.1 101"):
            fail(f"the handshake was answered by {head[:200]!r}")
        self.socket.setblocking(False)
        self._frames = frames
        self._expected = expected
        self._received = b""
        self._unsent = b""
        self._next_frame = 0
        self._sent_at: list[float] = []

    @property
    def is_blocked(self) -> bool:
        return bool(self._unsent)

    def send(self, count: int) -> None:
        """Send that many messages, or what is left of earlier ones."""
        time_ = time.perf_counter()
        burst = []
        for _ in range(count):
            burst.append(self._frames[self._next_frame])
            self._next_frame = (self._next_frame + 1) % len(self._frames)
            self._sent_at.append(time_)
        self._unsent += b"".join(burst)
        while self._unsent:
            try:
                written = self.socket.send(self._unsent)
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return
            self._unsent = self._unsent[written:]

    def receive(self) -> list[float]:
        """Return the latencies of the replies that have come."""
        while True:
            try:
                chunk = self.socket.recv(CHUNK)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            if not chunk:
                fail("the server has closed a connection")
            self._received += chunk
        size = len(self._expected)
        count = len(self._received) // size
        whole, self._received = self._received[: count * size], self._received[count * size :]
        if whole != self._expected * count or not self._expected.startswith(self._received[:size]):
            fail(f"a wrong reply: {(whole + self._received)[:300]!r}")
        if count > len(self._sent_at):
            fail("a reply that nobody asked for")
        now = time.perf_counter()
        latencies = [now - sent for sent in self._sent_at[:count]]
        del self._sent_at[:count]
        return latencies


def run(options: argparse.Namespace) -> dict[str, float]:
    message, expected = options.message.read_bytes(), text_frame(options.expected.read_bytes())
    frames = [masked_text_frame(message) for _ in range(DISTINCT_MASKS)]
    selector = selectors.DefaultSelector()
    for _ in range(options.connections):
        connection = Connection(options.port, frames, expected)
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send(options.depth)
    latencies: list[float] = []
    start: float | None = None
    warm = time.perf_counter() + options.warm_up
    while True:
        ready = selector.select(STALL_SECONDS)
        if not ready:
            fail(f"no reply within {STALL_SECONDS} s")
        now = time.perf_counter()
        if start is None and now >= warm:
            start, latencies = now, []
        if start is not None and now >= start + options.seconds:
            break
        for key, _ in ready:
            connection = key.data
            fresh = connection.receive()
            latencies += fresh
            if fresh or connection.is_blocked:
                connection.send(len(fresh))
            events = selectors.EVENT_READ
            if connection.is_blocked:
                events |= selectors.EVENT_WRITE
            if key.events != events:
                selector.modify(connection.socket, events, connection)
    if not latencies:
        fail("no reply while it counted")
    latencies.sort()
    count = len(latencies)
    return {
        "rate": count / (now - start),
        "count": count,
        "seconds": now - start,
        "p50": latencies[count // 2] * 1e6,
        "p99": latencies[count * 99 // 100] * 1e6,
        "max": latencies[-1] * 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=["calls"])
    parser.add_argument("port", type=int)
    parser.add_argument("-c", dest="connections", type=int, default=64)
    parser.add_argument("-d", dest="depth", type=int, default=1)
    parser.add_argument("-s", dest="seconds", type=float, default=2.0)
    parser.add_argument("-w", dest="warm_up", type=float, default=0.3)
    parser.add_argument("-m", dest="message", type=Path, required=True)
    parser.add_argument("-e", dest="expected", type=Path, required=True)
    parser.add_argument("-t", action="store_true", required=True)
    print(json.dumps(run(parser.parse_args())))


if __name__ == "__main__":
    main()
