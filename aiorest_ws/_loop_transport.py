"""Twisted's transport over that of an asyncio loop."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any, cast

from cryptography import x509
from OpenSSL import crypto
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ("LoopTLSTransport", "LoopTransport", "address_of")

_log = Logger("aiorest-ws")


def address_of(name: Any) -> IPv4Address | IPv6Address | UNIXAddress:
    """Return Twisted's address for a name of the socket module's."""
    if isinstance(name, tuple):
        return IPv4Address("TCP", *name) if len(name) == 2 else IPv6Address("TCP", *name)
    return UNIXAddress(name or None)


def _drop(_: bytes) -> None:
    """Take what is written or received when nobody is there any more."""


@implementer(ITCPTransport, IConsumer, IPushProducer)
class LoopTransport(asyncio.Protocol):
    """Both ends of the bridge in one object: asyncio's protocol, and the protocol's transport.

    What passes often does not cross it: the loop calls the protocol's `dataReceived` itself, and
    `write` is the loop's own.
    """

    __slots__ = (
        "_factory",
        "_is_aborted",
        "_is_delayed",
        "_is_full",
        "_loop_transport",
        "_producer",
        "_protocol",
        "_pulls",
        "data_received",
        "disconnecting",
        "write",
    )

    def __init__(self, factory: Any) -> None:
        self._factory = factory
        self._loop_transport: Any = None
        self._protocol: Any = None
        self._producer: Any = None
        self._pulls = False
        self._is_full = False
        self._is_delayed = False
        self._is_aborted = False
        self.disconnecting = False
        self.write: Callable[[bytes], None] = _drop
        self.data_received: Any = _drop

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the factory build a protocol for a new connection."""
        self._loop_transport = transport
        factory, self._factory = self._factory, None
        try:
            self._protocol = factory.buildProtocol(self.getPeer())
            if self._protocol is None:
                self._close()
                return
            self.write = self._loop_transport.write
            self.data_received = self._protocol.dataReceived
            # uvloop looks for data_received when it is given a protocol, and not again.
            self._loop_transport.set_protocol(self)
            self._protocol.makeConnection(self)
        except Exception:  # noqa: BLE001  the loop would only complain
            _log.failure("a protocol could not begin")
            self.abortConnection()

    def eof_received(self) -> bool:
        """Tell whether the connection stays open for what is still to be written."""
        if self._protocol is not None and IHalfCloseableProtocol.providedBy(self._protocol):
            self._protocol.readConnectionLost()
            return not self._is_secure
        # The loop closes its transport, and would count what is written from here on as errors.
        self.disconnecting = True
        self.write = _drop
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell the protocol why the connection is lost."""
        protocol, self._protocol = self._protocol, None
        producer, self._producer = self._producer, None
        self.write = self.data_received = _drop
        self.disconnecting = False
        try:
            if producer is not None:
                producer.stopProducing()
            if protocol is not None:
                protocol.connectionLost(Failure(self._reason(exc)))
        except Exception:  # noqa: BLE001  the loop would only complain
            _log.failure("a protocol could not end")

    def _reason(self, exc: BaseException | None) -> BaseException:
        if self._is_aborted:
            return ConnectionAborted()
        if exc is None:
            return ConnectionDone()
        return ConnectionLost(str(exc)) if isinstance(exc, OSError) else exc

    def pause_writing(self) -> None:
        """Stop the producer: more waits to be written than the loop likes."""
        self._is_full = True
        if self._producer is not None and not self._pulls:
            self._producer.pauseProducing()

    def resume_writing(self) -> None:
        """Let the producer go on."""
        self._is_full = False
        if self._producer is not None:
            if self._pulls:
                self._pull()
            else:
                self._producer.resumeProducing()

    # What the protocol calls

    @property
    def connected(self) -> bool:
        """Whether the connection is open, at least for writing."""
        return self._protocol is not None

    @property
    def disconnected(self) -> bool:
        """Whether the connection is lost."""
        return not self.connected

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Write several pieces."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close the connection when all is written, and the producer has finished."""
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            if self._producer is None:
                self._close()

    def loseWriteConnection(self) -> None:
        """Write no more; the peer may go on. Over TLS both directions are closed."""
        if not self.connected or self.disconnecting:
            return
        if not self._loop_transport.can_write_eof():
            self.loseConnection()
            return
        self.write = _drop
        self._loop_transport.write_eof()
        if IHalfCloseableProtocol.providedBy(self._protocol):
            asyncio.get_running_loop().call_soon(self._protocol.writeConnectionLost)

    def abortConnection(self) -> None:
        """Close the connection now; what is not written yet is lost."""
        if self._loop_transport is not None and not self._is_aborted:
            self._is_aborted = True
            self.disconnecting = True
            self.write = _drop
            self._loop_transport.abort()

    def _close(self) -> None:
        self.write = _drop
        self._loop_transport.close()

    def pauseProducing(self) -> None:
        """Stop reading."""
        if not self._loop_transport.is_closing():
            self._loop_transport.pause_reading()

    def resumeProducing(self) -> None:
        """Go on reading."""
        if not self._loop_transport.is_closing():
            self._loop_transport.resume_reading()

    def stopProducing(self) -> None:
        """Close the connection, as a producer is asked to."""
        self.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Take what `producer` writes at the pace of the connection."""
        if self._producer is not None:
            raise RuntimeError(
                f"{producer!r} cannot be registered: {self._producer!r} was never unregistered."
            )
        if not self.connected:
            producer.stopProducing()
            return
        self._producer = producer
        self._pulls = not streaming
        if self._pulls:
            self._pull()
        elif self._is_full:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """Forget the producer, if there is one."""
        self._producer = None
        if self.disconnecting and self.connected:
            self._close()

    def _pull(self) -> None:
        if self._producer is not None and self._pulls and not self._is_full:
            self._producer.resumeProducing()
            asyncio.get_running_loop().call_soon(self._pull)

    # Addresses and options

    @property
    def _is_secure(self) -> bool:
        return False

    def getPeer(self) -> Any:
        """Return the address of the client."""
        return address_of(self._loop_transport.get_extra_info("peername"))

    def getHost(self) -> Any:
        """Return the address that the client has connected to."""
        return address_of(self._loop_transport.get_extra_info("sockname"))

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Let small pieces leave at once, or be gathered. asyncio's loops begin with the first."""
        if enabled == self._is_delayed:
            self._socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)
            self._is_delayed = not enabled

    def getTcpNoDelay(self) -> bool:
        """Tell whether small pieces leave at once."""
        return bool(self._socket().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Let the system look whether the peer is still there."""
        self._socket().setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, enabled)

    def getTcpKeepAlive(self) -> bool:
        """Tell whether the system looks if the peer is still there."""
        return bool(self._socket().getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def _socket(self) -> Any:
        return self._loop_transport.get_extra_info("socket")


@implementer(ISSLTransport)
class LoopTLSTransport(LoopTransport):
    """A transport inside TLS."""

    __slots__ = ()

    @property
    def _is_secure(self) -> bool:
        return True

    @property
    def negotiatedProtocol(self) -> bytes | None:
        """The protocol chosen by ALPN (RFC 7301)."""
        chosen = self._tls().selected_alpn_protocol()
        return None if chosen is None else chosen.encode()

    def getPeerCertificate(self) -> crypto.X509 | None:
        """Return the certificate of the client, None if it has shown none."""
        shown = self._tls().getpeercert(True)
        if shown is None:
            return None
        return crypto.X509.from_cryptography(x509.load_der_x509_certificate(shown))

    def _tls(self) -> ssl.SSLObject:
        return cast("ssl.SSLObject", self._loop_transport.get_extra_info("ssl_object"))
