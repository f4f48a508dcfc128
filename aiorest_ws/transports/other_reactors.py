"""Endpoints of reactors without an event loop: what Twisted's own do not do."""

from typing import Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from aiorest_ws.transports.sockets import FREE_PORT_ATTEMPTS, NO_SUCH_ADDRESS, UNIXSocket

__all__ = ("LocalhostEndpoint", "StaleFileEndpoint")


@implementer(IStreamServerEndpoint)
class StaleFileEndpoint:
    """A Unix socket that takes the place of one whose server was killed."""

    def __init__(self, endpoint: IStreamServerEndpoint, where: UNIXSocket) -> None:
        self._endpoint = endpoint
        self._where = where

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Return a Deferred with the listening port."""
        listening: Deferred[IListeningPort] = maybeDeferred(self._listen, protocolFactory)
        return listening

    def _listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        try:
            self._where.remove_stale_files()
        except OSError as exc:
            raise CannotListenError(None, self._where.path, exc) from exc
        listening: Deferred[IListeningPort] = self._endpoint.listen(factory)
        return listening.addErrback(self._explain)

    def _explain(self, failure: Failure) -> Failure:
        # What the lock raises, Twisted does not convert.
        if isinstance(failure.value, OSError):
            return Failure(CannotListenError(None, self._where.path, failure.value))
        return failure


@implementer(IStreamServerEndpoint)
class LocalhostEndpoint:
    """127.0.0.1 and, if the system has it, ::1."""

    def __init__(self, reactor: Any, port: int, backlog: int) -> None:
        self._reactor = reactor
        self._port = port
        self._backlog = backlog

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Return a Deferred with the listening port."""
        return self._listen(protocolFactory, 1 if self._port else FREE_PORT_ATTEMPTS)

    def _listen(self, factory: IProtocolFactory, attempts: int) -> Deferred[IListeningPort]:
        endpoint = TCP4ServerEndpoint(self._reactor, self._port, self._backlog, "127.0.0.1")
        listening: Deferred[IListeningPort] = endpoint.listen(factory)
        return listening.addCallback(self._add_ipv6, factory, attempts)

    def _add_ipv6(self, port: Any, factory: IProtocolFactory, attempts: int) -> Any:
        number = port.getHost().port

        def failed(failure: Failure) -> Any:
            failure.trap(CannotListenError)
            error: Any = failure.value
            if error.socketError.errno in NO_SUCH_ADDRESS:
                return port
            stopped = maybeDeferred(port.stopListening)
            if attempts == 1:
                return stopped.addCallback(lambda _: failure)
            return stopped.addCallback(lambda _: self._listen(factory, attempts - 1))

        endpoint = TCP6ServerEndpoint(self._reactor, number, self._backlog, "::1")
        return endpoint.listen(factory).addCallbacks(lambda other: _TwoPorts(port, other), failed)


@implementer(IListeningPort)
class _TwoPorts:
    """Two ports, of which the first one's address is shown."""

    def __init__(self, *ports: Any) -> None:
        self._ports = ports

    def getHost(self) -> Any:
        return self._ports[0].getHost()

    def startListening(self) -> None:
        for port in self._ports:
            port.startListening()

    def stopListening(self) -> Deferred[Any]:
        return gatherResults([maybeDeferred(port.stopListening) for port in self._ports])

    def startReading(self) -> None:
        for port in self._ports:
            port.startReading()

    def stopReading(self) -> None:
        for port in self._ports:
            port.stopReading()
