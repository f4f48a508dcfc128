"""Transports for uvloop, for Unix sockets and for TLS."""

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

from aiorest_ws.internals import stdlib_private, uvloop_private
from aiorest_ws.transports.loop_transport import HIGH_WATER_BYTES, LoopTransport, log
from aiorest_ws.transports.sockets import address_of

__all__ = ("DirectTransport", "LoopTLSTransport", "LoopUNIXTransport")

# What TLS adds to each record; a record has at most 16 KiB.
RECORD_OVERHEAD_BYTES = 32


class DirectTransport(LoopTransport):
    """A transport of uvloop: bytes go between the loop and the protocol without a call of ours.

    uvloop closes the connection of a protocol that raises, and calls the loop's exception
    handler: see `LoopPort`.
    """

    __slots__ = ()

    def _receiver(self) -> Callable[[bytes], None]:
        return cast("Callable[[bytes], None]", self._protocol.dataReceived)

    def _writer(self) -> Callable[[bytes], None]:
        return cast("Callable[[bytes], None]", self._loop_transport.write)

    def _reason(self, exc: BaseException | None) -> BaseException:
        # uvloop takes any OSError for a network error. Its own ones were never raised.
        if isinstance(exc, OSError) and exc.__traceback__ is not None:
            log.failure("a protocol failed, its connection is closed", Failure(exc))
            return exc
        return super()._reason(exc)


class LoopUNIXTransport(LoopTransport):
    """A transport that keeps its addresses, which the loop forgets when it closes a socket."""

    __slots__ = ("_host", "_peer")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the factory build a protocol for a new connection."""
        self._host = transport.get_extra_info("sockname")
        self._peer = transport.get_extra_info("peername")
        super().connection_made(transport)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the loop tells of the connection, such as `peername` or `peercert`."""
        kept = {"peername": self._peer, "sockname": self._host}
        return kept[name] if name in kept else super().get_extra_info(name, default)

    def getPeer(self) -> Any:
        """Return the address of the client."""
        return address_of(self._peer)

    def getHost(self) -> Any:
        """Return the local address of the connection."""
        return address_of(self._host)


@implementer(ISSLTransport)
class LoopTLSTransport(LoopUNIXTransport):
    """A transport inside TLS. Its protocol is built when the TLS handshake is done."""

    # The loops' TLS transports pass on what is written to the transport under them, and do not
    # count it: they do not pause their producer for bytes that wait there.
    __slots__ = ("_high_water", "_max_unsent", "_under")

    TLS = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the factory build a protocol for a new connection."""
        self._high_water = HIGH_WATER_BYTES
        self._max_unsent = 0
        self._under = _transport_under(transport)
        cast("asyncio.Transport", transport).set_write_buffer_limits(HIGH_WATER_BYTES)
        super().connection_made(transport)

    @property
    def unsent_bytes(self) -> int:
        """Bytes that were written and not passed on to the system yet."""
        if not self.connected:
            return 0
        waiting = self._loop_transport.get_write_buffer_size()
        return int(waiting + self._under.get_write_buffer_size())

    def set_high_water(self, size: int) -> None:
        """Let the producer pause when more than `size` bytes wait."""
        if size != self._high_water and self.connected:
            self._high_water = size
            self._under.set_write_buffer_limits(high=size)
            if not self.is_full:
                self._loop_transport.set_write_buffer_limits(high=size)

    def _write(self, data: bytes) -> None:
        if self._under.is_closing():
            self._drop(data)
            return
        self._loop_transport.write(data)
        # An upper bound: asking both transports each time would cost a tenth of a call.
        self._max_unsent += len(data) + (len(data) >> 8) + RECORD_OVERHEAD_BYTES
        if self._max_unsent > self._high_water and not self.is_full:
            self._max_unsent = self.unsent_bytes
            if self._max_unsent > self._high_water:
                self._pause_until_drained()

    def _pause_until_drained(self) -> None:
        # With 0 the loop pauses at once, and resumes when the transport under it does.
        self._loop_transport.set_write_buffer_limits(high=0)

    def pause_writing(self) -> None:
        """Pause the producer: more bytes wait than the high-water mark."""
        if not self.is_full:
            super().pause_writing()

    def resume_writing(self) -> None:
        """Resume the producer, unless the bytes have only moved to the transport under TLS."""
        if self.unsent_bytes > self._high_water:
            self._pause_until_drained()
        else:
            self._loop_transport.set_write_buffer_limits(high=self._high_water)
            super().resume_writing()

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
        """Return the certificate of the client, None if it has sent none."""
        certificate = self._tls().getpeercert(True)
        if certificate is None:
            return None
        return crypto.X509.from_cryptography(x509.load_der_x509_certificate(certificate))

    def _tls(self) -> ssl.SSLObject:
        return cast("ssl.SSLObject", self._loop_transport.get_extra_info("ssl_object"))


def _transport_under(outer: Any) -> Any:
    """Return the transport that a TLS transport writes to; `outer` itself if it is unknown."""
    if outer.get_extra_info("uvloop.sslproto") is not None:
        return uvloop_private.transport_under_tls(outer) or outer
    return stdlib_private.transport_under_tls(outer) or outer
