"""Twisted's transport over a transport of an asyncio loop."""

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    ITCPTransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from aiorest_ws.transports.asyncio_names import AsyncioNames
from aiorest_ws.transports.pull_producer import PullAdapter
from aiorest_ws.transports.sockets import address_of

__all__ = ("HIGH_WATER_BYTES", "LoopTransport", "log")

log = Logger("aiorest-ws")

# As in Twisted, and in the loops; their TLS transports have 512 KiB.
HIGH_WATER_BYTES = 64 * 1024

# SO_LINGER with no time: close() resets the connection, as abortConnection() should.
_RESET = struct.pack("ii", 1, 0)


def _drop_read(_: bytes) -> None:
    """Discard what is received after the end."""


def _drop_written(data: bytes) -> None:
    """Discard what is written after the end."""
    if isinstance(data, str):
        raise TypeError("Data must be bytes, not str.")


@implementer(ITCPTransport, IConsumer, IPushProducer)
class LoopTransport(AsyncioNames, asyncio.Protocol):
    """An asyncio protocol for the loop, and a Twisted transport for the protocol.

    `write` is the loop's own where that is possible. `server` is the port.
    """

    __slots__ = (
        "_buffered",
        "_cause",
        "_is_delayed",
        "_is_paused",
        "_loop_transport",
        "_producer",
        "_protocol",
        "data_received",
        "disconnecting",
        "is_full",
        "server",
        "write",
    )

    TLS = False

    def __init__(self, server: Any) -> None:
        self._cause: BaseException | None = None
        self._buffered = b""
        self._is_delayed = False
        self.is_full = False
        self._is_paused = False
        self._loop_transport: Any = None
        self._producer: Any = None
        self._protocol: Any = None
        self.disconnecting = False
        self.server = server
        self.write: Callable[[bytes], None] = _drop_written
        self.data_received: Callable[[bytes], None] = _drop_read  # type: ignore[assignment]

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the factory build a protocol for a new connection."""
        self._loop_transport = transport
        try:
            protocol = self.server.factory.buildProtocol(self.getPeer())
        except BaseException:  # noqa: BLE001  the loop would only log it
            log.failure("a factory could not build a protocol")
            protocol = None
        if protocol is None:
            self._end(ConnectionDone())
            return
        self.write = self._writer()
        self.protocol = protocol
        try:
            protocol.makeConnection(self)
        except BaseException as exc:  # noqa: BLE001
            self.fail(exc)
        if self._is_paused and self._can_read():
            # uvloop starts to read after this call, paused or not.
            self.data_received = self._buffer
            self._loop_transport.set_protocol(self)
            asyncio.get_running_loop().call_soon(self._buffer, b"")

    def eof_received(self) -> bool:
        """Tell whether the connection stays open for what is still to be written."""
        self.data_received = _drop_read
        if not IHalfCloseableProtocol.providedBy(self._protocol):
            # As in Twisted: what the peer has not received yet is lost.
            self._end(ConnectionDone())
            return False
        try:
            self._protocol.readConnectionLost()
        except BaseException as exc:  # noqa: BLE001
            self.fail(exc)
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell the protocol why the connection is lost."""
        reason = self._reason(exc)
        protocol, self._protocol = self._protocol, None
        producer, self._producer = self._producer, None
        self._cause = None
        self._stop()
        if producer is not None:
            try:
                producer.stopProducing()
            except BaseException:  # noqa: BLE001
                log.failure("a producer could not stop")
        if protocol is not None:
            try:
                protocol.connectionLost(Failure(reason))
            except BaseException:  # noqa: BLE001
                log.failure("a protocol could not end")
        self.server.connection_ended()

    def pause_writing(self) -> None:
        """Pause the producer: more bytes wait than the high-water mark."""
        self.is_full = True
        if self._producer is not None:
            self._producer.pauseProducing()

    def resume_writing(self) -> None:
        """Resume the producer."""
        self.is_full = False
        if self._producer is not None:
            self._producer.resumeProducing()

    # What the protocol calls

    @property
    def protocol(self) -> Any:
        """The protocol; another one may take over, as with Autobahn's WebSocketResource."""
        return self._protocol

    @protocol.setter
    def protocol(self, protocol: Any) -> None:
        self._protocol = protocol
        self.data_received = self._receiver()
        # uvloop looks up data_received only in set_protocol.
        self._loop_transport.set_protocol(self)

    @property
    def connected(self) -> bool:
        """Whether the connection is open, at least in one direction."""
        return self._protocol is not None

    @property
    def disconnected(self) -> bool:
        """Whether the connection is lost."""
        return self._protocol is None

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Write several pieces."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close the connection when the producer has finished and everything is written.

        A protocol that is its own producer, to hear of the pace, has finished.
        """
        if self.connected and not self.disconnecting:
            self.pauseProducing()
            self.disconnecting = True
            if self._producer is None or self._producer is self._protocol:
                self._close()

    def loseWriteConnection(self) -> None:
        """Close the direction to the peer; over TLS close both."""
        if not self.connected or self.disconnecting:
            return
        if not self._loop_transport.can_write_eof():
            self.loseConnection()
            return
        self.write = _drop_written
        self._loop_transport.write_eof()
        if IHalfCloseableProtocol.providedBy(self._protocol):
            asyncio.get_running_loop().call_soon(self._report_write_end)

    def abortConnection(self) -> None:
        """Reset the connection; what is not written yet is lost."""
        if self.connected and self._cause is None:
            with suppress(OSError):
                self._socket().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._end(ConnectionAborted())

    def pauseProducing(self) -> None:
        """Stop reading."""
        self._is_paused = True
        if self.connected and not self._loop_transport.is_closing():
            self._loop_transport.pause_reading()

    def resumeProducing(self) -> None:
        """Go on reading, unless the end has been reached."""
        self._is_paused = False
        if self.data_received == self._buffer:
            asyncio.get_running_loop().call_soon(self._deliver_buffered)
        elif self._can_read():
            self._loop_transport.resume_reading()

    def stopProducing(self) -> None:
        """Close the connection, as a producer is asked to."""
        self.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Pause and resume `producer` at the pace of the connection."""
        if self._producer is not None:
            raise RuntimeError(
                f"{producer!r} cannot be registered: {self._producer!r} was never unregistered."
            )
        if not self.connected or self.write is _drop_written:
            producer.stopProducing()
            return
        if not streaming:
            producer = PullAdapter(self, producer)
        self._producer = producer
        if not streaming:
            producer.start()
        elif self.is_full:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """Forget the producer, if there is one."""
        producer, self._producer = self._producer, None
        if isinstance(producer, PullAdapter):
            producer.stop()
        if producer is not None and self.disconnecting and self.connected:
            self._close()

    # Writing

    def _writer(self) -> Callable[[bytes], None]:
        """Return the function that `write` is."""
        return self._write

    def _write(self, data: bytes) -> None:
        # asyncio's transports warn when something is written after the peer has reset.
        if self._loop_transport.is_closing():
            self._drop(data)
        else:
            self._loop_transport.write(data)

    def _drop(self, data: bytes) -> None:
        self.write = _drop_written
        self.write(data)

    @property
    def unsent_bytes(self) -> int:
        """Bytes that were written and not passed on to the system yet."""
        return int(self._loop_transport.get_write_buffer_size()) if self.connected else 0

    def set_high_water(self, size: int) -> None:
        """Let the producer pause when more than `size` bytes wait."""
        if size != HIGH_WATER_BYTES and self.connected:
            self._loop_transport.set_write_buffer_limits(high=size)

    # Reading

    def _receiver(self) -> Callable[[bytes], None]:
        """Return the function that the loop passes received bytes to."""
        return self._receive

    def _receive(self, data: bytes) -> None:
        try:
            self._protocol.dataReceived(data)
        except BaseException as exc:  # noqa: BLE001
            self.fail(exc)

    def _buffer(self, data: bytes) -> None:
        """Keep what arrives before reading is paused."""
        self._buffered += data
        if self._is_paused and not self._loop_transport.is_closing():
            self._loop_transport.pause_reading()

    def _deliver_buffered(self) -> None:
        """Pass on what was kept, and go on reading."""
        if self._is_paused or not self._can_read():
            return
        self.protocol = self._protocol
        held, self._buffered = self._buffered, b""
        if held:
            self._receive(held)
        if not self._is_paused and self._can_read():
            self._loop_transport.resume_reading()

    def _can_read(self) -> bool:
        return (
            self.data_received is not _drop_read
            and not self.disconnecting
            and not self._loop_transport.is_closing()
        )

    # The end of a connection

    def _report_write_end(self) -> None:
        if self._protocol is not None:
            try:
                self._protocol.writeConnectionLost()
            except BaseException as exc:  # noqa: BLE001
                self.fail(exc)

    def fail(self, exc: BaseException) -> None:
        """Close the connection: its protocol or producer has raised."""
        log.failure("a protocol failed, its connection is closed", Failure(exc))
        self._end(exc)

    def _end(self, cause: BaseException) -> None:
        """Close the connection; what is not written yet is lost."""
        if self._cause is None:
            self._cause = cause
        self._stop()
        self._loop_transport.abort()

    def _close(self) -> None:
        self._stop()
        if not self._loop_transport.is_closing():
            self._loop_transport.close()

    def _stop(self) -> None:
        self.disconnecting = True
        self.write = _drop_written
        self.data_received = _drop_read

    def _reason(self, exc: BaseException | None) -> BaseException:
        if self._cause is not None:
            return self._cause
        if exc is None:
            return ConnectionDone()
        return ConnectionLost(str(exc)) if isinstance(exc, OSError) else exc

    # Addresses and options

    def getPeer(self) -> Any:
        """Return the address of the client."""
        # None if the client disconnected before it was accepted.
        return address_of(self._loop_transport.get_extra_info("peername") or ("", 0))

    def getHost(self) -> Any:
        """Return the local address of the connection."""
        return address_of(self._loop_transport.get_extra_info("sockname"))

    def fileno(self) -> int:
        """Return the descriptor of the socket, -1 when it is closed."""
        return int(self._socket().fileno())

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Send small pieces at once, or gather them. asyncio's loops send them at once."""
        if bool(enabled) == self._is_delayed:
            self._socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, bool(enabled))
            self._is_delayed = not enabled

    def getTcpNoDelay(self) -> bool:
        """Tell whether small pieces are sent at once."""
        return bool(self._socket().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Let the system probe whether the peer is still there."""
        self._socket().setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, bool(enabled))

    def getTcpKeepAlive(self) -> bool:
        """Tell whether the system probes the peer."""
        return bool(self._socket().getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def _socket(self) -> Any:
        return self._loop_transport.get_extra_info("socket")
