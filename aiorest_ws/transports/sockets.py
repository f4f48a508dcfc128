"""Listening sockets: of TCP, at a path, or inherited from a supervisor."""

import errno
import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import CannotListenError
from twisted.python.lockfile import FilesystemLock

from aiorest_ws.transports.acceptor import ACCEPTS_PER_TURN

__all__ = (
    "FREE_PORT_ATTEMPTS",
    "NO_SUCH_ADDRESS",
    "Address",
    "InheritedSocket",
    "ListeningSocket",
    "OwnSocket",
    "ReservedSocket",
    "TCPSocket",
    "UNIXSocket",
    "address_of",
)

# How many unsent bytes of a connection the system holds; more stay here, where they are counted.
SYSTEM_UNSENT_BYTES = 128 * 1024

# How often a free port is looked for that is free on all addresses of a name.
FREE_PORT_ATTEMPTS = 10

# What binding to ::1 fails with on a system without IPv6.
NO_SUCH_ADDRESS = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}

Address = IPv4Address | IPv6Address | UNIXAddress


def address_of(name: Any) -> Address:
    """Return Twisted's address for one of the socket module."""
    if isinstance(name, tuple):
        return IPv4Address("TCP", *name) if len(name) == 2 else IPv6Address("TCP", *name)
    return UNIXAddress(name or None)


class _Socket:
    """A place to listen at, with one socket unless `open_all` says otherwise."""

    def open(self) -> socket.socket:
        """Return the listening socket; raise CannotListenError."""
        raise NotImplementedError

    def open_all(self) -> list[socket.socket]:
        """Return the listening sockets; raise CannotListenError."""
        return [self.open()]

    def close(self) -> None:
        """Remove what is left when the sockets are closed: nothing but for a file."""


class TCPSocket(_Socket):
    """Sockets on an address of this machine, or on all addresses of a name, with one port.

    `localhost` is 127.0.0.1 and ::1, if the system has IPv6.
    """

    accepts_per_turn = ACCEPTS_PER_TURN

    def __init__(self, host: str, port: int, backlog: int) -> None:
        self.backlog = backlog
        self._host = host
        self._port = port

    def open(self) -> socket.socket:
        """Return the listening socket of the first address; raise CannotListenError."""
        [listening] = self.listen([self._bind(*self._addresses()[0], self._port)])
        return listening

    def open_all(self) -> list[socket.socket]:
        """Return the listening sockets; raise CannotListenError."""
        if len(self._addresses()) == 1:
            return [self.open()]
        return self.listen(self.bind_all())

    def listen(self, bound: list[socket.socket]) -> list[socket.socket]:
        """Let clients connect to bound sockets; raise CannotListenError."""
        try:
            for one in bound:
                one.listen(self.backlog)
        except OSError as exc:
            _close(bound)
            raise CannotListenError(self._host, self._port, exc) from exc
        return bound

    def bind_all(self) -> list[socket.socket]:
        """Return sockets that have the addresses and do not listen; raise CannotListenError."""
        addresses = self._addresses()
        for attempts_left in reversed(range(FREE_PORT_ATTEMPTS)):
            try:
                return self._bind_to(addresses)
            except CannotListenError:
                # A port that is free on one address may be busy on another one.
                if self._port or len(addresses) == 1 or not attempts_left:
                    raise
        raise AssertionError("unreachable")

    def _bind_to(self, addresses: list[tuple[int, str]]) -> list[socket.socket]:
        bound: list[socket.socket] = []
        missing: CannotListenError | None = None
        port = self._port
        for family, host in addresses:
            try:
                bound.append(self._bind(family, host, port, is_alone=len(addresses) == 1))
            except CannotListenError as exc:
                if exc.socketError.errno not in NO_SUCH_ADDRESS:
                    _close(bound)
                    raise
                missing = exc
            else:
                port = bound[0].getsockname()[1]
        if missing is not None and not bound:
            raise missing
        return bound

    def _addresses(self) -> list[tuple[int, str]]:
        if ":" in self._host or not self._host:
            # As with Twisted's ports, "::" also accepts IPv4 clients where the system does so.
            return [(socket.AF_INET6 if self._host else socket.AF_INET, self._host)]
        if self._host.lower() == "localhost":  # RFC 6761, 6.3
            return [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
        try:
            found = socket.getaddrinfo(self._host, None, proto=socket.IPPROTO_TCP)
        except (OSError, UnicodeError) as exc:
            raise CannotListenError(self._host, self._port, exc) from exc
        addresses = {(int(family), str(address[0])) for family, *_, address in found}
        return sorted(addresses, key=lambda one: one[0] != socket.AF_INET)

    def _bind(self, family: int, host: str, port: int, *, is_alone: bool = True) -> socket.socket:
        try:
            # asyncio sets TCP_NODELAY only if the protocol number is given.
            listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        except OSError as exc:
            raise CannotListenError(host, port, exc) from exc
        try:
            listening.setblocking(False)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6 and not is_alone:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # Accepted sockets inherit it.
            with suppress(AttributeError, OSError):
                lowat = socket.TCP_NOTSENT_LOWAT
                listening.setsockopt(socket.IPPROTO_TCP, lowat, SYSTEM_UNSENT_BYTES)
            listening.bind((host, port))
        except (OSError, OverflowError, UnicodeError) as exc:
            listening.close()
            raise CannotListenError(host, port, exc) from exc
        return listening


class UNIXSocket(_Socket):
    """A socket at a path, or with an abstract name, which begins with a zero byte.

    A socket file that no process listens on is replaced. With `lockfile` it takes Twisted's lock
    file too, which tells Twisted's ports that the socket is in use.
    """

    accepts_per_turn = ACCEPTS_PER_TURN

    def __init__(self, path: str, mode: int, backlog: int, *, lockfile: bool = False) -> None:
        self.backlog = backlog
        self._path = path
        self._mode = mode
        self._is_file = not path.startswith("\0")
        self._lock = FilesystemLock(f"{path}.lock") if lockfile and self._is_file else None
        self._inode: int | None = None

    @property
    def path(self) -> str:
        """The path, or the abstract name."""
        return self._path

    def bind_all(self) -> list[socket.socket]:
        """Return the listening socket; raise CannotListenError.

        It listens: other servers take the file of a socket that does not for a stale one.
        """
        return self.open_all()

    def listen(self, bound: list[socket.socket]) -> list[socket.socket]:
        """Do nothing: the socket listens."""
        return bound

    def open(self) -> socket.socket:
        """Return the listening socket; raise CannotListenError."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.setblocking(False)
            if self._is_file:
                self.remove_stale_files()
            if self._lock is not None and not self._lock.lock():
                raise OSError(errno.EADDRINUSE, f"{self._lock.name} is the lock of another server")
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
        """Remove the socket file, unless another server has replaced it, and release the lock."""
        if self._inode is not None:
            with suppress(OSError):
                if Path(self._path).stat().st_ino == self._inode:
                    Path(self._path).unlink()
            self._inode = None
        if self._lock is not None and self._lock.locked:
            with suppress(OSError, ValueError):  # it has been removed, or taken by another one
                self._lock.unlock()

    def remove_stale_files(self) -> None:
        """Remove the socket file and the lock of a server that was killed.

        Raises OSError if a server listens on the socket. The process number in the lock does not
        count: by now it may be that of another process, in a container even of this one.
        """
        path = Path(self._path)
        try:
            if not stat.S_ISSOCK(path.stat().st_mode):
                return
            if _is_listening(self._path):
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
            path.unlink(missing_ok=True)
        except FileNotFoundError:
            pass
        if self._lock is not None:
            Path(self._lock.name).unlink(missing_ok=True)


def _is_listening(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.setblocking(False)
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except BlockingIOError:
            pass  # its backlog is full
    return True


def _close(sockets: list[socket.socket]) -> None:
    for one in sockets:
        one.close()


OwnSocket = TCPSocket | UNIXSocket


class InheritedSocket(_Socket):
    """Sockets that other processes listen on too.

    `open_all()` takes the ownership of the descriptors. A process that stops leaves the clients in
    the backlog to the others, unless `is_last()`.
    """

    # One that accepts a whole burst would leave nothing to the others.
    accepts_per_turn = 1

    def __init__(
        self, descriptor: int, backlog: int, is_last: Callable[[], bool], *others: int
    ) -> None:
        self._descriptors = (descriptor, *others)
        self._backlog = backlog
        self._is_last = is_last

    @property
    def backlog(self) -> int:
        """How many waiting clients this process has to accept when it stops."""
        return self._backlog if self._is_last() else 0

    def open(self) -> socket.socket:
        """Return the first listening socket."""
        return socket.socket(fileno=self._descriptors[0])

    def open_all(self) -> list[socket.socket]:
        """Return the listening sockets."""
        return [socket.socket(fileno=one) for one in self._descriptors]


class ReservedSocket(_Socket):
    """Sockets whose addresses are taken when this is made, and that listen when it is opened.

    Raises CannotListenError.
    """

    def __init__(self, where: OwnSocket) -> None:
        self.backlog = where.backlog
        self.accepts_per_turn = where.accepts_per_turn
        self._where = where
        self._bound = where.bind_all()

    def open_all(self) -> list[socket.socket]:
        """Return the listening sockets; raise CannotListenError."""
        bound, self._bound = self._bound, []
        return self._where.listen(bound)

    def close(self) -> None:
        """Remove the socket file."""
        self._where.close()

    def release(self) -> None:
        """Close the sockets, unless they were opened."""
        if self._bound:
            _close(self._bound)
            self._bound = []
            self._where.close()


ListeningSocket = OwnSocket | InheritedSocket | ReservedSocket
