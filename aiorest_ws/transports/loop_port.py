"""Ports that the asyncio reactor's loop listens on."""

import asyncio
import socket
import ssl
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
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
from twisted.python.lockfile import FilesystemLock
from zope.interface import implementer

from aiorest_ws.transports.acceptor import AT_ONCE, Acceptor
from aiorest_ws.transports.loop_tls import DirectTransport, LoopTLSTransport, LoopUNIXTransport
from aiorest_ws.transports.loop_transport import Address, LoopTransport, address_of, log

__all__ = ("InheritedSocket", "LoopPort", "LoopServerEndpoint", "TCPSocket", "UNIXSocket")

TLS_HANDSHAKE_SECONDS = 5
TLS_SHUTDOWN_SECONDS = 5

UNSENT_IN_SYSTEM_BYTES = 128 * 1024

# What a TLS handshake may still take when its port stops.
STOP_SECONDS = 1


class TCPSocket:
    """Where to listen: an address of this machine, of IPv4 or IPv6."""

    at_once = AT_ONCE

    def __init__(self, host: str, port: int, backlog: int) -> None:
        self.backlog = backlog
        self._host = host
        self._port = port

    def open(self) -> socket.socket:
        """Return a listening socket; raise CannotListenError."""
        # As with Twisted's ports, "::" takes IPv4 clients, too, where the system does so.
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            # asyncio's own loop looks at the protocol before it lets small pieces leave at once.
            listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        except OSError as exc:
            raise CannotListenError(self._host, self._port, exc) from exc
        try:
            listening.setblocking(False)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # What a client does not read is to wait here, where it is counted, and not megabytes
            # of it in the system. Accepted sockets inherit it.
            with suppress(AttributeError, OSError):
                lowat = socket.TCP_NOTSENT_LOWAT
                listening.setsockopt(socket.IPPROTO_TCP, lowat, UNSENT_IN_SYSTEM_BYTES)
            listening.bind((self._host, self._port))
            listening.listen(self.backlog)
        except OSError as exc:
            listening.close()
            raise CannotListenError(self._host, self._port, exc) from exc
        return listening

    def close(self) -> None:
        """Leave nothing behind."""


class UNIXSocket:
    """Where to listen: a path, or an abstract name that begins with a zero byte.

    A socket that nobody listens on any more is replaced. With `lockfile`, Twisted's lock next to
    it is taken, too, which tells Twisted's ports that this one is alive.
    """

    at_once = AT_ONCE

    def __init__(self, path: str, mode: int, backlog: int, *, lockfile: bool = False) -> None:
        self.backlog = backlog
        self._path = path
        self._mode = mode
        self._is_file = not path.startswith("\0")
        self._lock = FilesystemLock(f"{path}.lock") if lockfile and self._is_file else None
        self._inode: int | None = None

    def open(self) -> socket.socket:
        """Return a listening socket; raise CannotListenError."""
        if self._lock is not None and not self._lock.lock():
            raise CannotListenError(None, self._path, OSError("Cannot acquire lock"))
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.setblocking(False)
            if self._is_file:
                self._remove_dead_socket()
            listening.bind(self._path)
            if self._is_file:
                Path(self._path).chmod(self._mode)
                self._inode = Path(self._path).stat().st_ino
            listening.listen(self.backlog)
        except OSError as exc:
            listening.close()
            self.close()
            raise CannotListenError(None, self._path, exc) from exc
        return listening

    def close(self) -> None:
        """Remove what this port has made, unless another server has replaced it."""
        if self._inode is not None:
            with suppress(OSError):
                if Path(self._path).stat().st_ino == self._inode:
                    Path(self._path).unlink()
            self._inode = None
        if self._lock is not None:
            self._lock.unlock()

    def _remove_dead_socket(self) -> None:
        """Remove what a server that was killed has left; a living one keeps its socket."""
        path = Path(self._path)
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.stat().st_mode):
                return
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                try:
                    probe.setblocking(False)  # a living one may have a full backlog
                    probe.connect(self._path)
                except ConnectionRefusedError:
                    path.unlink()
                except BlockingIOError:
                    return


class InheritedSocket:
    """Where to listen: on a socket that other processes listen on, too.

    The descriptor is the port's from `open()` on. Who stops leaves those that wait to the others,
    unless it `is_last`.
    """

    # One that takes a whole burst would leave nothing to the others.
    at_once = 1

    def __init__(self, descriptor: int, backlog: int, is_last: Callable[[], bool]) -> None:
        self._descriptor = descriptor
        self._backlog = backlog
        self._is_last = is_last

    @property
    def backlog(self) -> int:
        """How many may wait, and be this process's to take."""
        return self._backlog if self._is_last() else 0

    def open(self) -> socket.socket:
        """Return the listening socket."""
        return socket.socket(fileno=self._descriptor)

    def close(self) -> None:
        """Leave all to the process that has made it."""


Where = TCPSocket | UNIXSocket | InheritedSocket


@implementer(IStreamServerEndpoint)
class LoopServerEndpoint:
    """Listen with the transports of an asyncio reactor's loop.

    With an SSL context connections are inside TLS.
    """

    def __init__(
        self,
        reactor: Any,
        where: Where,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._where = where
        self._reactor = reactor
        self._tls = tls

    @property
    def where(self) -> Where:
        """Where it listens."""
        return self._where

    def on(self, where: Where) -> "LoopServerEndpoint":
        """Return an endpoint like this one that listens somewhere else."""
        return LoopServerEndpoint(self._reactor, where, self._tls)

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Return a Deferred that has fired: with the port, or with CannotListenError.

        Connections wait in the port until the loop runs.
        """
        loop: asyncio.AbstractEventLoop = self._reactor._asyncioEventloop
        port = LoopPort(loop, protocolFactory, self._where, self._tls)
        try:
            port.startListening()
        except CannotListenError:
            return fail()
        return succeed(port)


@implementer(IListeningPort)
class LoopPort:
    """A port under an asyncio loop.

    It sees to it that what protocols raise is in Twisted's log, and not asyncio's.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        factory: Any,
        where: Where,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.factory = factory
        self._loop = loop
        self._where = where
        self._tls = tls
        self._kind: type[LoopTransport] = LoopTransport
        self._name: Any = None
        self._acceptor: Acceptor | None = None
        # Accepted, and without a protocol yet. A loop keeps no task alive by itself.
        self._arriving: set[asyncio.Task[None]] = set()
        self._stopping: Deferred[None] | None = None
        self._patience: asyncio.TimerHandle | None = None

    def startListening(self) -> None:
        """Listen; raise CannotListenError if that cannot be."""
        listening = self._where.open()
        self._name = listening.getsockname()
        self._kind = self._kind_for(listening)
        self.factory.doStart()
        if self._tls is not None and IProtocolNegotiationFactory.providedBy(self.factory):
            names = self.factory.acceptableProtocols()
            self._tls.set_alpn_protocols([name.decode() for name in names])
        _FailureReporter.attach(self._loop)
        self._acceptor = Acceptor(
            self._loop, listening, self.getHost(), self._take, self._where.at_once
        )
        self._acceptor.begin()
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
        return DirectTransport if _is_uvloop(self._loop) else LoopTransport

    def _take(self, accepted: socket.socket) -> None:
        arriving = self._loop.create_task(self._connect(accepted))
        self._arriving.add(arriving)
        arriving.add_done_callback(self._arrived)

    async def _connect(self, accepted: socket.socket) -> None:
        has_tls = self._tls is not None
        try:
            await self._loop.connect_accepted_socket(
                partial(self._kind, self),
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=TLS_HANDSHAKE_SECONDS if has_tls else None,
                ssl_shutdown_timeout=TLS_SHUTDOWN_SECONDS if has_tls else None,
            )
        except (OSError, asyncio.CancelledError) as exc:  # ssl.SSLError is an OSError
            log.debug("a connection to {address} failed: {why!r}", address=self._name, why=exc)
            self._give_up(accepted)
        except Exception:  # noqa: BLE001  a task has nobody to tell
            log.failure("a connection to {address} failed", address=self._name)
            self._give_up(accepted)

    def _give_up(self, accepted: socket.socket) -> None:
        accepted.close()
        self.connection_ended()

    def _arrived(self, arriving: asyncio.Task[None]) -> None:
        self._arriving.discard(arriving)
        if not self._arriving and self._stopping is not None:
            self._stop()

    def connection_ended(self) -> None:
        """Note that a connection has let its descriptor go."""
        if self._acceptor is not None and self._acceptor.is_paused:
            self._acceptor.try_soon()

    def stopListening(self) -> Deferred[None]:
        """Accept no more; open connections go on.

        The Deferred fires when those accepted so far have a protocol. TLS handshakes that are
        not done in a second are given up.
        """
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is None:
            return succeed(None)
        acceptor.end(self._where.backlog)
        self._where.close()
        if not self._arriving:
            self.factory.doStop()
            return succeed(None)
        self._stopping = Deferred()
        self._patience = self._loop.call_later(STOP_SECONDS, self._give_up_arriving)
        return self._stopping

    def _give_up_arriving(self) -> None:
        for arriving in self._arriving:
            arriving.cancel()

    def _stop(self) -> None:
        stopping, self._stopping = self._stopping, None
        if self._patience is not None:
            self._patience.cancel()
        self.factory.doStop()
        if stopping is not None:
            stopping.callback(None)

    def getHost(self) -> Address:
        """Return the address that this port listens on."""
        return address_of(self._name)


class _FailureReporter:
    """A loop's exception handler that knows protocols of Twisted's; the rest goes on as before."""

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


def _is_uvloop(loop: asyncio.AbstractEventLoop) -> bool:
    return type(loop).__module__.partition(".")[0] == "uvloop"
