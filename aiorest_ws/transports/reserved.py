"""Addresses that are taken before a server listens on them."""

from typing import Any, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import ServerFactory
from twisted.python.failure import Failure

from aiorest_ws.transports.loop_port import LoopServerEndpoint

__all__ = ("Reservation", "reserve")


class Reservation(Protocol):
    """An address that no other server can take."""

    def listen(self, protocolFactory: Any) -> Deferred[IListeningPort]:
        """Accept clients; return a Deferred with the port."""

    def release(self) -> None:
        """Give the address back, unless a port listens on it."""


def reserve(endpoint: IStreamServerEndpoint) -> Reservation:
    """Take the address of an endpoint; raise CannotListenError."""
    if isinstance(endpoint, LoopServerEndpoint):
        return endpoint.reserve()
    return _HeldPort(endpoint)


class _Gate(ServerFactory):
    """The factory of a port that does not accept yet."""

    noisy = False
    inner: Any = None

    def buildProtocol(self, addr: Any) -> Any:
        return self.inner.buildProtocol(addr)

    def stopFactory(self) -> None:
        if self.inner is not None:
            self.inner.doStop()


class _HeldPort:
    """A port of Twisted's that does not accept yet: clients wait in its backlog."""

    def __init__(self, endpoint: IStreamServerEndpoint) -> None:
        self._gate = _Gate()
        self._port: Any = None
        self._listening = endpoint.listen(self._gate).addCallback(self._hold)
        result = getattr(self._listening, "result", None)
        if isinstance(result, Failure) and result.check(CannotListenError):
            self._listening.addErrback(lambda _: None)
            result.raiseException()

    def listen(self, protocolFactory: Any) -> Deferred[IListeningPort]:
        """Accept clients; return a Deferred with the port."""
        return self._listening.addCallback(self._accept, protocolFactory)

    def release(self) -> None:
        """Give the address back, unless a port listens on it."""
        if self._port is not None and self._gate.inner is None:
            maybeDeferred(self._port.stopListening)

    def _hold(self, port: Any) -> Any:
        self._port = port
        port.stopReading()
        return port

    def _accept(self, port: Any, factory: Any) -> Any:
        self._gate.inner = factory
        factory.doStart()
        port.startReading()
        return port
