"""The transports of the loop's for its kinds of connections."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, cast

from cryptography import x509
from OpenSSL import crypto
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import ISSLTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from aiorest_ws._loop_transport import LoopTransport, address_of, log

__all__ = ("DirectTransport", "LoopTLSTransport", "LoopUNIXTransport")

# Twisted's own; asyncio's TLS would let eight times as much wait.
HIGH_WATER_BYTES = 64 * 1024


class DirectTransport(LoopTransport):
    """A transport under a loop that gives bytes to `dataReceived` itself.

    uvloop ends the connection of a protocol that raises, and tells the loop's exception handler:
    see `LoopPort`.
    """

    __slots__ = ()

    def _receiver(self) -> Callable[[bytes], None]:
        return cast("Callable[[bytes], None]", self._protocol.dataReceived)

    def _reason(self, exc: BaseException | None) -> BaseException:
        # uvloop takes any OSError for a fault of the network. Its own were never raised.
        if isinstance(exc, OSError) and exc.__traceback__ is not None:
            log.failure("a protocol failed, its connection is closed", Failure(exc))
            return exc
        return super()._reason(exc)


class LoopUNIXTransport(LoopTransport):
    """A transport that keeps the names of its ends, which the loop forgets when it is closed."""

    __slots__ = ("_host", "_peer")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the factory build a protocol for a new connection."""
        self._host = transport.get_extra_info("sockname")
        self._peer = transport.get_extra_info("peername")
        super().connection_made(transport)

    def getPeer(self) -> Any:
        """Return the address of the client."""
        return address_of(self._peer)

    def getHost(self) -> Any:
        """Return the address that the client has connected to."""
        return address_of(self._host)


@implementer(ISSLTransport)
class LoopTLSTransport(LoopUNIXTransport):
    """A transport inside TLS. Its protocol is built when the TLS handshake is done."""

    __slots__ = ()

    TLS = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the factory build a protocol for a new connection."""
        cast("asyncio.Transport", transport).set_write_buffer_limits(HIGH_WATER_BYTES)
        super().connection_made(transport)

    def eof_received(self) -> bool:
        """Let the loop answer the peer's close_notify and close the connection."""
        if self._cause is None:
            is_cut_off = not self.disconnecting and self._is_truncated()
            self._cause = ConnectionLost() if is_cut_off else ConnectionDone()
        self._stop()
        return False

    def _is_truncated(self) -> bool:
        """Tell whether the connection ended without close_notify (RFC 8446, 6.1)."""
        try:
            return bool(self._tls().read(1))
        except ssl.SSLZeroReturnError:
            return False
        except ssl.SSLError:
            return True

    def _reason(self, exc: BaseException | None) -> BaseException:
        if exc is None and self._cause is None and not self.disconnecting:
            return ConnectionLost()  # uvloop does not call eof_received without close_notify
        return super()._reason(exc)

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
