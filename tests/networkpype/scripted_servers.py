"""A WebSocket server that plays scripts: it closes, resets or goes silent."""

import asyncio
import base64
import contextlib
import hashlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp

from networkpype.websocket.connection import WebSocketConnection
from networkpype.websocket.manager import WebSocketManager
from networkpype.websocket.reconnect import ReconnectPolicy
from networkpype.websocket.request import WebSocketPlainTextRequest
from networkpype.websocket.response import Gap

Run = Callable[[Any], Any]
Serve = Callable[..., Any]
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The server's end of one WebSocket, byte by byte."""

    def __init__(self, number: int, reader: Any, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer
        self.head = b""

    async def handshake(self, status: str = "101 Switching Protocols") -> None:
        self.head = await self.reader.readuntil(b"\r\n\r\n")
        key = self.head.lower().split(b"sec-websocket-key:")[1].split(b"\r\n")[0].strip()
        # The key is case-sensitive; find it again where it was.
        at = self.head.lower().index(key)
        key = self.head[at : at + len(key)]
        accept = base64.b64encode(
            hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        )
        self.writer.write(
            f"HTTP/1.1 {status}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n".encode()
            + b"Sec-WebSocket-Accept: "
            + accept
            + b"\r\nContent-Length: 0\r\n\r\n"
        )

    def frame(self, opcode: int, payload: bytes = b"") -> None:
        assert len(payload) < 126
        self.writer.write(bytes([0x80 | opcode, len(payload)]) + payload)

    def text(self, text: str) -> None:
        self.frame(TEXT, text.encode())

    def close(self, code: int) -> None:
        self.frame(CLOSE, struct.pack("!H", code))

    def reset(self) -> None:
        """Send a TCP RST."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, linger
        )
        self.writer.transport.abort()

    async def read(self) -> tuple[int, bytes]:
        """Read a short frame of the client's."""
        first, second = await self.reader.readexactly(2)
        mask = await self.reader.readexactly(4)
        payload = await self.reader.readexactly(second & 0x7F)
        return first & 0x0F, bytes(b ^ mask[i % 4] for i, b in enumerate(payload))

    async def read_texts(self, count: int) -> list[str]:
        texts: list[str] = []
        while len(texts) < count:
            opcode, payload = await self.read()
            if opcode == TEXT:
                texts.append(payload.decode())
        return texts

    async def answer_pings(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                opcode, payload = await self.read()
                if opcode == PING:
                    self.frame(PONG, payload)

    async def until_gone(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await self.read()


class Scripted:
    """A server that plays one script after the other, one per connection; the last one again."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = scripts
        self.count = 0
        self.errors: list[BaseException] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._play, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _play(self, reader: Any, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        script = self.scripts[min(self.count, len(self.scripts) - 1)]
        self.count += 1
        try:
            await script(Peer(self.count, reader, writer))
        except asyncio.CancelledError:
            pass
        except Exception as error:  # noqa: BLE001  (told at the end of the test)
            self.errors.append(error)
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def scripted(*scripts: Script) -> AsyncIterator[Scripted]:
    server = Scripted(*scripts)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
        assert server.errors == []


class Sleeps:
    """A sleep that returns at once and keeps what it was asked for."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


def at_once(**options: Any) -> ReconnectPolicy:
    return ReconnectPolicy(**{"sleep": Sleeps(), **options})


@contextlib.asynccontextmanager
async def managed(
    server: Scripted, policy: ReconnectPolicy | None, *, connect: Any = None, **options: Any
) -> AsyncIterator[WebSocketManager]:
    async with aiohttp.ClientSession() as session:
        manager = WebSocketManager(WebSocketConnection(session), reconnect=policy, **options)
        await manager.connect(server.url, **{"close_timeout": 0.2, **(connect or {})})
        try:
            yield manager
        finally:
            await manager.disconnect()


async def serve_data(peer: Peer) -> None:
    """Greet with the number of the connection, then stay."""
    await peer.handshake()
    peer.text(f"[{peer.number}]")
    await peer.answer_pings()


def closing(code: int) -> Script:
    async def script(peer: Peer) -> None:
        await peer.handshake()
        peer.close(code)
        await peer.until_gone()

    return script


async def closing_without_code(peer: Peer) -> None:
    await peer.handshake()
    peer.frame(CLOSE)
    await peer.until_gone()


async def reset_inside_a_frame(peer: Peer) -> None:
    await peer.handshake()
    # A frame of 100 bytes, of which 10 are sent.
    peer.writer.write(bytes([0x81, 100]) + b"x" * 10)
    await peer.writer.drain()
    await asyncio.sleep(0.02)
    peer.reset()


async def eof_without_close(peer: Peer) -> None:
    await peer.handshake()


async def half_open(peer: Peer) -> None:
    """Read on, say nothing: no data, no pong, no close, no FIN."""
    await peer.handshake()
    await peer.until_gone()


async def pongs_only(peer: Peer) -> None:
    """Answer pings, give no data."""
    await peer.handshake()
    await peer.answer_pings()


async def big_frame(peer: Peer) -> None:
    """Send a frame of 5 MiB."""
    await peer.handshake()
    peer.writer.write(bytes([0x82, 127]) + struct.pack("!Q", 5 * 2**20))
    with contextlib.suppress(ConnectionError):
        for _ in range(5):
            peer.writer.write(bytes(2**20))
            await peer.writer.drain()
        await peer.until_gone()


async def data_of(manager: WebSocketManager) -> Any:
    response = await manager.receive()
    assert response is not None
    return response if isinstance(response, Gap) else response.data


def text(payload: str, limit_id: str | None = None) -> WebSocketPlainTextRequest:
    return WebSocketPlainTextRequest(payload, throttler_limit_id=limit_id)
