"""The client's side of RFC 6455, as far as these clients speak it."""

import asyncio
import base64
import contextlib
import json
import os
import queue
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

HOST = "127.0.0.1"
TEXT, CLOSE, PING, PONG = 0x81, 0x88, 0x89, 0x8A
COMPRESSED_TEXT = 0xC1
END_OF_HEAD = b"\r\n\r\n"
SECONDS = 60


def tell(told: Any) -> None:
    """Write a line of JSON, for the test."""
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def upgrade_request(port: int, more: bytes = b"", *, ends: bool = True) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    head = (
        f"GET / HTTP/1.1\r\nHost: {HOST}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
    ).encode()
    return head + more + (b"\r\n" if ends else b"")


def header(first: int, length: int) -> bytes:
    if length < 126:
        return bytes((first, 0x80 | length))
    if length < 65536:
        return bytes((first, 0x80 | 126)) + length.to_bytes(2, "big")
    return bytes((first, 0x80 | 127)) + length.to_bytes(8, "big")


def frame(payload: bytes, first: int = TEXT) -> bytes:
    """Return a client's frame, with a random mask."""
    mask, length = os.urandom(4), len(payload)
    key = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
    masked = (int.from_bytes(payload, "big") ^ key).to_bytes(length, "big")
    return header(first, length) + mask + masked


def call(url: str, **more: Any) -> bytes:
    return frame(json.dumps({"method": "GET", "url": url, **more}).encode())


def close_frame(code: int = 1000) -> bytes:
    return frame(code.to_bytes(2, "big"), CLOSE)


def close_code(payload: bytes) -> int:
    return int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005


def status_of(head: bytes) -> int:
    return int(head.split(b" ", 2)[1])


class Frames:
    """Take bytes of a server, give its frames: the first byte and the payload of each."""

    def __init__(self) -> None:
        self.bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        self.bytes += data
        while len(self.bytes) >= 2:
            length, start = self.bytes[1], 2
            if length >= 126:
                start = 4 if length == 126 else 10
                if len(self.bytes) < start:
                    return
                length = int.from_bytes(self.bytes[2:start], "big")
            if len(self.bytes) < start + length:
                return
            found = self.bytes[0], bytes(self.bytes[start : start + length])
            del self.bytes[: start + length]
            yield found


def bound_socket(number: int = 0, receive_buffer: int | None = None) -> socket.socket:
    """Return a socket that does not block; clients of many numbers come from many addresses."""
    raw = socket.socket()
    raw.setblocking(False)
    if receive_buffer is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # The port is chosen at connect(): else one of an address could serve one connection only.
    raw.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    raw.bind((f"127.0.{1 + number % 20}.1", 0))
    return raw


IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h; a name in `socket` from Python 3.12 on


class Client(asyncio.Protocol):
    """A client that behaves: it answers pings and close frames.

    `closed` is a future: the code of the server's close frame, or why there was none.
    """

    def __init__(self, port: int, on_message: Callable[["Client", bytes], Any]) -> None:
        loop = asyncio.get_running_loop()
        self._port = port
        self._on_message = on_message
        self._head: bytearray | None = bytearray()
        self._frames = Frames()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[int | str] = loop.create_future()
        self.is_closing = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(upgrade_request(self._port))

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            self._head += data
            end = self._head.find(END_OF_HEAD)
            if end < 0:
                return
            if status_of(self._head) != 101:
                self.opened.set_exception(ConnectionError(bytes(self._head[:200])))
                return
            data, self._head = bytes(self._head[end + 4 :]), None
            self.opened.set_result(None)
        for first, payload in self._frames.feed(data):
            if first == TEXT:
                self._on_message(self, payload)
            elif first == PING:
                self.transport.write(frame(payload, PONG))
            elif first == CLOSE:
                if not self.closed.done():
                    self.closed.set_result(close_code(payload))
                if not self.is_closing:
                    self.is_closing = True
                    self.transport.write(frame(payload, CLOSE))

    def connection_lost(self, exc: BaseException | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(exc or ConnectionError("closed in its handshake"))
        if not self.closed.done():
            self.closed.set_result(repr(exc))
        self.is_closing = True

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    def close(self) -> None:
        self.is_closing = True
        self.transport.write(close_frame())


async def open_client(
    port: int, on_message: Callable[[Client, bytes], Any], number: int = 0
) -> Client:
    """Connect and upgrade."""
    loop = asyncio.get_running_loop()
    raw = bound_socket(number)
    try:
        async with asyncio.timeout(SECONDS):
            await loop.sock_connect(raw, (HOST, port))
            _, client = await loop.create_connection(lambda: Client(port, on_message), sock=raw)
            await client.opened
    except BaseException:
        raw.close()
        raise
    return client


class Control:
    """A connection by which a test asks the server how it is; a thread reads it.

    For a server pings also those who have nothing to ask.
    """

    def __init__(self, port: int, *, answers_close: bool = True) -> None:
        self._answers_close = answers_close
        self._socket = socket.create_connection((HOST, port), timeout=SECONDS)
        self._frames = Frames()
        self._replies: queue.SimpleQueue[bytes | str] = queue.SimpleQueue()
        self._socket.sendall(upgrade_request(port))
        head = b""
        while END_OF_HEAD not in head:
            data = self._socket.recv(4096)
            if not data:
                raise ConnectionError(f"closed in the handshake: {head[:200]!r}")
            head += data
        if status_of(head) != 101:
            raise ConnectionError(repr(head[:200]))
        self._socket.settimeout(None)
        rest = head.partition(END_OF_HEAD)[2]
        self._reader = threading.Thread(target=self._read, args=(rest,), daemon=True)
        self._reader.start()

    def send(self, url: str) -> None:
        """Make a call without waiting for its reply."""
        self.write(call(url))

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def ask(self, url: str) -> Any:
        self.send(url)
        return json.loads(self.next())["data"]

    def next(self) -> bytes:
        """Return the next message; raise ConnectionError if there will be none."""
        reply = self._replies.get(timeout=SECONDS)
        if isinstance(reply, str):
            raise ConnectionError(reply)
        return reply

    def _read(self, data: bytes) -> None:
        ending = "dropped"
        with contextlib.suppress(OSError):
            while True:
                for first, payload in self._frames.feed(data):
                    if first == TEXT:
                        self._replies.put(payload)
                    elif first == PING:
                        self._socket.sendall(frame(payload, PONG))
                    elif first == CLOSE:
                        ending = f"close {close_code(payload)}"
                        if self._answers_close:
                            self._socket.sendall(frame(payload, CLOSE))
                        else:
                            self._replies.put(ending)
                data = self._socket.recv(65536)
                if not data:
                    break
        self._replies.put(ending)

    def close(self) -> None:
        """Take leave; harmless when the server is gone."""
        with contextlib.suppress(OSError):
            self._socket.sendall(close_frame())
        self._reader.join(SECONDS)
        self._socket.close()
