"""One client that does only what it is told, be it against the rules."""

import asyncio
import contextlib
import json
import select
import socket
import struct
from collections.abc import Callable
from typing import Any

from soak.wire import (
    CLOSE,
    END_OF_HEAD,
    HOST,
    PING,
    PONG,
    TEXT,
    Frames,
    bound_socket,
    call,
    close_code,
    close_frame,
    frame,
    status_of,
    upgrade_request,
)

GLANCE_SECONDS = 0.25
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no seconds
NORMAL = 1000


class Visit:
    """One client, from connect to disconnect."""

    def __init__(
        self, port: int, number: int, *, receive_buffer: int | None = None, offers: bytes = b""
    ) -> None:
        self.port, self.number = port, number
        self._offers = offers
        self._loop = asyncio.get_running_loop()
        self._socket = bound_socket(number, receive_buffer)
        self._frames = Frames()
        self._is_upgraded = False
        self._waiting: list[tuple[int, bytes]] = []

    async def connect(self) -> None:
        await self._loop.sock_connect(self._socket, (HOST, self.port))

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._socket, data)

    async def upgrade(self) -> None:
        await self.connect()
        await self.send(upgrade_request(self.port, self._offers))
        head = b""
        while END_OF_HEAD not in head:
            head += await self._received()
        if status_of(head) != 101:
            raise ConnectionError(repr(head[:200]))
        self._is_upgraded = True
        self._waiting.extend(self._frames.feed(head.partition(END_OF_HEAD)[2]))

    async def frame(self) -> tuple[int, bytes]:
        while not self._waiting:
            self._waiting.extend(self._frames.feed(await self._received()))
        return self._waiting.pop(0)

    async def call(self) -> None:
        await self.send(call(f"/awaited/{self.number}", id=self.number))
        first, payload = await self.frame()
        expected = {"data": self.number + 2, "event_name": None, "id": self.number}
        if first != TEXT or json.loads(payload) != expected:
            raise ConnectionError(f"{payload!r} instead of {expected}")

    async def close(self) -> None:
        """Take leave properly."""
        await self.send(close_frame())
        first, payload = await self.frame()
        if first != CLOSE or close_code(payload) != NORMAL:
            raise ConnectionError(f"{first:x} {payload!r} instead of the close frame's answer")

    def reset(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._socket.close()

    def drop(self) -> None:
        self._socket.close()

    async def _received(self) -> bytes:
        data = await self._loop.sock_recv(self._socket, 65536)
        if not data:
            raise ConnectionError("the server has closed the connection")
        return data

    async def end(self, take: Callable[[int, bytes], Any] | None = None) -> str:
        """Read until the server ends the connection; return how: its code, status or nothing.

        With `take`, which is given the messages and pongs, pings are answered.
        """
        head = b""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while data := await self._loop.sock_recv(self._socket, 65536):
                if not self._is_upgraded:
                    head += data
                    continue
                for first, payload in self._frames.feed(data):
                    if first == CLOSE:
                        return f"close {close_code(payload)}"
                    if take is None:
                        continue
                    if first == PING:
                        await self.send(frame(payload, PONG))
                    else:
                        take(first, payload)
        return f"HTTP {status_of(head)}" if head else "dropped"

    async def cut(self) -> str:
        """Wait, without reading, until the server has reset the connection."""
        watch = select.poll()
        watch.register(self._socket, 0)
        while not watch.poll(0):
            await asyncio.sleep(GLANCE_SECONDS)
        return "reset"
