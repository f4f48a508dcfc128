"""Ports that the asyncio reactor's loop listens on."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IProtocolNegotiationFactory,
    IStreamServerEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from aiorest_ws.internals.twisted_private import loop_of
from aiorest_ws.internals.uvloop_private import is_uvloop
from aiorest_ws.transports.acceptor import Acceptor
from aiorest_ws.transports.forked import fork_guard
from aiorest_ws.transports.loop_tls import DirectTransport, LoopTLSTransport, LoopUNIXTransport
from aiorest_ws.transports.loop_transport import LoopTransport, log
from aiorest_ws.transports.sockets import (
    Address,
    ListeningSocket,
    OwnSocket,
    ReservedSocket,
    address_of,
)

__all__ = ("LoopPort", "LoopServerEndpoint")

TLS_HANDSHAKE_SECONDS = 5
TLS_SHUTDOWN_SECONDS = 5

# How long a TLS handshake may still take when its port stops.
STOP_HANDSHAKE_SECONDS = 1


@implementer(IStreamServerEndpoint)
class LoopServerEndpoint:
    """Listens with the transports of an asyncio reactor's loop.

    With an SSL context, or a function that returns that of the next handshake, the connections
    use TLS.
    """

    def __init__(
        self,
        reactor: Any,
        where: ListeningSocket,
        tls: "ssl.SSLContext | Callable[[], ssl.SSLContext] | None" = None,
    ) -> None:
        self._where = where
        self._reactor = reactor
        self._tls = (lambda: tls) if isinstance(tls, ssl.SSLContext) else tls

    @property
    def where(self) -> ListeningSocket:
        """The socket that it listens on."""
        return self._where

    def on(self, where: ListeningSocket) -> "LoopServerEndpoint":
        """Return an endpoint like this one that listens on another socket."""
        return LoopServerEndpoint(self._reactor, where, self._tls)

    def reserve(self) -> "LoopServerEndpoint":
        """Take the address now, and return an endpoint that listens there.

        Raises CannotListenError.
        """
        assert isinstance(self._where, OwnSocket)  # noqa: S101  others have their address
        return self.on(ReservedSocket(self._where))

    def release(self) -> None:
        """Give a reserved address back, unless a port listens on it."""
        if isinstance(self._where, ReservedSocket):
            self._where.release()

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Return a Deferred that has fired: with the port, or with CannotListenError.

        Clients wait in the backlog until the loop runs.
        """
        loop = loop_of(self._reactor)
        assert loop is not None  # noqa: S101  this endpoint is made for asyncio reactors
        port = LoopPort(loop, protocolFactory, self._where, self._tls)
        try:
            port.startListening()
        except CannotListenError:
            return fail()
        return succeed(port)


@implementer(IListeningPort)
class LoopPort:
    """A port of an asyncio loop.

    What protocols raise goes to Twisted's log, not to asyncio's.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        factory: Any,
        where: ListeningSocket,
        tls: Callable[[], ssl.SSLContext] | None,
    ) -> None:
        self.factory = factory
        self._loop = loop
        self._where = where
        self._tls = tls
        self._alpn: list[str] | None = None
        self._kind: type[LoopTransport] = LoopTransport
        self._name: Any = None
        self._acceptors: list[Acceptor] = []
        # Accepted connections without a protocol yet. A loop does not keep its tasks alive.
        self._connecting: set[asyncio.Task[None]] = set()
        self._stopping: Deferred[None] | None = None
        self._stop_timer: asyncio.TimerHandle | None = None

    def startListening(self) -> None:
        """Listen; raise CannotListenError."""
        sockets = self._where.open_all()
        self._name = sockets[0].getsockname()
        self._kind = self._kind_for(sockets[0])
        for one in sockets:
            fork_guard().add(one.getsockname())
        self.factory.doStart()
        if self._tls is not None and IProtocolNegotiationFactory.providedBy(self.factory):
            names = self.factory.acceptableProtocols()
            self._alpn = [name.decode() for name in names]
        _FailureReporter.attach(self._loop)
        self._acceptors = [
            Acceptor(
                *(self._loop, one, address_of(one.getsockname()), self._accepted),
                accepts_per_turn=self._where.accepts_per_turn,
            )
            for one in sockets
        ]
        for acceptor in self._acceptors:
            acceptor.start()
        if getattr(self.factory, "noisy", False):
            log.info(
                "{factory} listens on {address}",
                factory=type(self.factory).__name__,
                address=self.getHost(),
            )

    def _kind_for(self, listening: socket.socket) -> type[LoopTransport]:
        if self._tls is not None:
            return LoopTLSTransport
        if listening.family == socket.AF_UNIX:
            return LoopUNIXTransport
        return DirectTransport if is_uvloop(self._loop) else LoopTransport

    def _accepted(self, accepted: socket.socket) -> None:
        connecting = self._loop.create_task(self._connect(accepted))
        self._connecting.add(connecting)
        connecting.add_done_callback(self._connected)

    async def _connect(self, accepted: socket.socket) -> None:
        has_tls = self._tls is not None
        try:
            context = self._tls() if self._tls is not None else None
            if context is not None and self._alpn is not None:
                context.set_alpn_protocols(self._alpn)
            await self._loop.connect_accepted_socket(
                partial(self._kind, self),
                accepted,
                ssl=context,
                ssl_handshake_timeout=TLS_HANDSHAKE_SECONDS if has_tls else None,
                ssl_shutdown_timeout=TLS_SHUTDOWN_SECONDS if has_tls else None,
            )
        except (OSError, asyncio.CancelledError) as exc:  # ssl.SSLError is an OSError
            log.debug("a connection to {address} failed: {why!r}", address=self._name, why=exc)
            self._discard(accepted)
        except Exception:  # noqa: BLE001  nothing waits for the task
            log.failure("a connection to {address} failed", address=self._name)
            self._discard(accepted)

    def _discard(self, accepted: socket.socket) -> None:
        accepted.close()
        self.connection_ended()

    def _connected(self, connecting: asyncio.Task[None]) -> None:
        self._connecting.discard(connecting)
        if not self._connecting and self._stopping is not None:
            self._stopped()

    def connection_ended(self) -> None:
        """Note that a connection has released its descriptor."""
        for acceptor in self._acceptors:
            if acceptor.is_paused:
                acceptor.retry_soon()

    def stopListening(self) -> Deferred[None]:
        """Stop accepting; open connections stay open.

        The Deferred fires when all accepted connections have a protocol. TLS handshakes that take
        more than a second are aborted.
        """
        acceptors, self._acceptors = self._acceptors, []
        if not acceptors:
            return succeed(None)
        for acceptor in acceptors:
            acceptor.stop(self._where.backlog)
        self._where.close()
        if not self._connecting:
            self.factory.doStop()
            return succeed(None)
        self._stopping = Deferred()
        self._stop_timer = self._loop.call_later(STOP_HANDSHAKE_SECONDS, self._cancel_connecting)
        return self._stopping

    def _cancel_connecting(self) -> None:
        for connecting in self._connecting:
            connecting.cancel()

    def _stopped(self) -> None:
        stopping, self._stopping = self._stopping, None
        if self._stop_timer is not None:
            self._stop_timer.cancel()
        self.factory.doStop()
        if stopping is not None:
            stopping.callback(None)

    def getHost(self) -> Address:
        """Return the address of the port."""
        return address_of(self._name)


class _FailureReporter:
    """A loop's exception handler that logs failures of Twisted's protocols.

    It passes everything else to the handler of before.
    """

    def __init__(self, before: Callable[..., Any] | None) -> None:
        self._before = before

    @classmethod
    def attach(cls, loop: asyncio.AbstractEventLoop) -> None:
        before = loop.get_exception_handler()
        if not isinstance(before, cls):
            loop.set_exception_handler(cls(before))

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        exc = context.get("exception")
        if exc is not None and isinstance(context.get("protocol"), LoopTransport):
            log.failure("a protocol failed, its connection is closed", Failure(exc))
        elif self._before is not None:
            self._before(loop, context)
        else:
            loop.default_exception_handler(context)
