"""A client of raw bytes: it sends what a case says, cut where it says, and reads frames."""

import asyncio
import base64
import hashlib
import os
import time
import zlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN, RSV1, RSV2, RSV3 = 0x80, 0x40, 0x20, 0x10

MASK = b"\x37\xfa\x21\x3d"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3

# How long a case may wait for anything. A right server takes a thousandth of it.
MOST_SECONDS = 30


def masked(payload: bytes, mask: bytes) -> bytes:
    """Return `payload` XORed with the repeated mask (RFC 6455, 5.3)."""
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(len(payload))


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
    length_bits: int | None = None,
    length: int | None = None,
) -> bytes:
    """Return a frame (RFC 6455, 5.2); the last two force a form of the length, or a wrong one."""
    size = len(payload) if length is None else length
    if length_bits is None:
        length_bits = 7 if size < 126 else 16 if size < 65536 else 64
    second = {7: size, 16: 126, 64: 127}[length_bits] | (0 if mask is None else 0x80)
    head = bytes(((FIN if fin else 0) | rsv | opcode, second))
    if length_bits > 7:
        head += size.to_bytes(length_bits // 8)
    return head + payload if mask is None else head + mask + masked(payload, mask)


def close(code: int | None = None, reason: bytes = b"", **how: Any) -> bytes:
    """Return a close frame."""
    return frame(CLOSE, b"" if code is None else code.to_bytes(2) + reason, **how)


def chopped(data: bytes, size: int) -> tuple[bytes, ...]:
    """Return `data` in pieces of at most `size` bytes."""
    return tuple(data[at : at + size] for at in range(0, len(data), size))


class Received(NamedTuple):
    """A frame of the server's."""

    opcode: int
    payload: bytes
    rsv: int = 0


def first_frame(data: bytes) -> tuple[Received, int] | None:
    """Return the frame at the head of `data`, and its size; None if it is not all there.

    What no server may send fails the test.
    """
    if len(data) < 2:
        return None
    first, second = data[0], data[1]
    assert not second & 0x80, "a server must not mask (RFC 6455, 5.1)"
    assert first & FIN, "the server was not asked for fragments"
    start = {126: 4, 127: 10}.get(second, 2)
    if len(data) < start:
        return None
    size = int.from_bytes(data[2:start]) if start > 2 else second
    assert start == (2 if size < 126 else 4 if size < 65536 else 10), "not the shortest length"
    if len(data) < start + size:
        return None
    return Received(first & 0x0F, bytes(data[start : start + size]), first & 0x70), start + size


class Inflater:
    """Undo the server's permessage-deflate, with the window that was agreed (RFC 7692, 7.2.2)."""

    def __init__(self, agreed: str) -> None:
        parameters = dict((part.strip().partition("=")[::2]) for part in agreed.split(";")[1:])
        self._bits = int(parameters.get("server_max_window_bits", "15"))
        self._forgets = "server_no_context_takeover" in parameters
        self._stream: Any = None

    def inflate(self, payload: bytes) -> bytes:
        if self._stream is None or self._forgets:
            self._stream = zlib.decompressobj(wbits=-self._bits)
        return self._stream.decompress(payload + b"\x00\x00\xff\xff")


class Peer(Protocol):
    """One connection to the server of a case."""

    is_lost = False
    # Whether the server has ended the connection by a reset, and not as RFC 6455, 7.1.1 likes it.
    was_reset = False

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.received = bytearray()
        self._waiting: tuple[Deferred[Any], Callable[[], Any]] | None = None

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.port = self.transport.getHost().port
        self.write = self.transport.write
        self.end_writing = self.transport.loseWriteConnection
        self.abort = self.transport.abortConnection

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._look()

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self.is_lost = True
        self.was_reset = reason.check(ConnectionDone) is None
        self._look()

    def _look(self) -> None:
        if self._waiting is None:
            return
        waiting, ready = self._waiting
        try:
            found = ready()
            if found is None and self.is_lost:
                raise EOFError(f"the connection ended behind {bytes(self.received)[:200]!r}")
        except Exception:  # noqa: BLE001  the test gets it
            self._waiting = None
            waiting.errback()
            return
        if found is not None:
            self._waiting = None
            waiting.callback(found)

    def until(self, ready: Callable[[], Any]) -> Deferred[Any]:
        """Return a Deferred with what `ready` returns as soon as that is not None."""
        waiting: Deferred[Any] = Deferred()
        self._waiting = (waiting, ready)
        waiting.addTimeout(MOST_SECONDS, self.reactor)
        self._look()
        return waiting

    def next_frame(self) -> Deferred[Received]:
        """Return a Deferred with the next frame; EOFError if the connection ends before it."""

        def ready() -> Received | None:
            found = first_frame(self.received)
            if found is None:
                return None
            del self.received[: found[1]]
            return found[0]

        return self.until(ready)

    def end(self) -> Deferred[bytes]:
        """Return a Deferred with all that is left when the server has closed the connection."""
        return self.until(lambda: bytes(self.received) if self.is_lost else None)

    async def open(self, request: bytes) -> dict[str, str]:
        """Shake hands; return the headers of the answer, its status under an empty name."""
        self.write(request)

        def ready() -> bytes | None:
            head, mark, rest = self.received.partition(b"\r\n\r\n")
            if not mark:
                return None
            self.received = rest
            return bytes(head)

        status, *lines = (await self.until(ready)).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (s.partition(":") for s in lines)
        }
        return {"": status.split()[1], **headers}

    def server_side(self, factory: Any) -> Any:
        """Return what the server has of this connection, which is open."""
        found = [one for one in factory.connections if one.transport.getPeer().port == self.port]
        assert len(found) == 1, "the server has answered, and has no such connection"
        return found[0]

    async def send(self, pieces: Iterable[bytes], server: Any) -> None:
        """Send pieces, each when the server has read the one before it."""
        sent, deadline = 0, time.monotonic() + MOST_SECONDS
        for number, piece in enumerate(pieces):
            while number and not self.is_lost and not has_read(server, sent):
                assert time.monotonic() < deadline, f"the server has not read {sent} bytes"
                await deferLater(self.reactor, 0)
            if self.is_lost:
                return
            self.write(piece)
            sent += len(piece)


def has_read(server: Any, count: int) -> bool:
    """Tell whether a connection of the server's has read so many bytes since it was opened."""
    return server.trafficStats.incomingOctetsWireLevel >= count


class _LoopPeer(asyncio.Protocol):
    """Let the loop's own transport carry a peer.

    Twisted's never hears of a reset on uvloop: libuv stops to poll a socket that has an error.
    """

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def connection_made(self, transport: Any) -> None:
        self._peer.port = transport.get_extra_info("sockname")[1]
        # uvloop's raise when the connection has ended, Twisted's do not.
        self._peer.write = lambda data: transport.is_closing() or transport.write(data)
        self._peer.end_writing = lambda: transport.is_closing() or transport.write_eof()
        self._peer.abort = lambda: transport.is_closing() or transport.abort()

    def data_received(self, data: bytes) -> None:
        self._peer.dataReceived(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._peer.connectionLost(Failure(ConnectionDone() if exc is None else exc))


async def connect(reactor: Any, port: int) -> Peer:
    """Return a connection that has not said anything yet."""
    peer = Peer(reactor)
    if isinstance(reactor, AsyncioSelectorReactor):
        loop = asyncio.get_event_loop()
        connecting = loop.create_connection(lambda: _LoopPeer(peer), "127.0.0.1", port)
        await Deferred.fromFuture(asyncio.ensure_future(connecting, loop=loop))
    else:
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), peer)
    return peer


def new_key() -> bytes:
    """Return a `Sec-WebSocket-Key` (RFC 6455, 4.1)."""
    return base64.b64encode(os.urandom(16))


def accept_of(key: bytes) -> str:
    """Return the `Sec-WebSocket-Accept` of a key (RFC 6455, 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()


def request_of(key: bytes, *headers: bytes) -> bytes:
    """Return an opening handshake."""
    lines = (
        b"GET / HTTP/1.1",
        b"Host: localhost",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Key: " + key,
        b"Sec-WebSocket-Version: 13",
        *headers,
    )
    return b"\r\n".join((*lines, b"", b""))
