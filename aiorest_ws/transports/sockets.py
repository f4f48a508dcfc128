"""Listening sockets: of TCP, at a path, or inherited from a supervisor."""

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

Address = IPv4Address | IPv6Address | UNIXAddress


def address_of(name: Any) -> Address:
    """Return Twisted's address for one of the socket module."""
    if isinstance(name, tuple):
        return IPv4Address("TCP", *name) if len(name) == 2 else IPv6Address("TCP", *name)
    return UNIXAddress(name or None)


class TCPSocket:
    """A socket on an address of this machine, of IPv4 or IPv6."""

    accepts_per_turn = ACCEPTS_PER_TURN

    def __init__(self, host: str, port: int, backlog: int) -> None:
        self.backlog = backlog
        self._host = host
        self._port = port

    def open(self) -> socket.socket:
        """Return the listening socket; raise CannotListenError."""
        bound = self.bind()
        self.listen(bound)
        return bound

    def listen(self, bound: socket.socket) -> None:
        """Let clients connect to a bound socket; raise CannotListenError."""
        try:
            bound.listen(self.backlog)
        except OSError as exc:
            bound.close()
            raise CannotListenError(self._host, self._port, exc) from exc

    def bind(self) -> socket.socket:
        """Return a socket that has the address and does not listen; raise CannotListenError."""
        # As with Twisted's ports, "::" also accepts IPv4 clients where the system does so.
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            # asyncio sets TCP_NODELAY only if the protocol number is given.
            listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        except OSError as exc:
            raise CannotListenError(self._host, self._port, exc) from exc
        try:
            listening.setblocking(False)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Accepted sockets inherit it.
            with suppress(AttributeError, OSError):
                lowat = socket.TCP_NOTSENT_LOWAT
                listening.setsockopt(socket.IPPROTO_TCP, lowat, SYSTEM_UNSENT_BYTES)
            listening.bind((self._host, self._port))
        except (OSError, OverflowError, UnicodeError) as exc:
            listening.close()
            raise CannotListenError(self._host, self._port, exc) from exc
        return listening

    def close(self) -> None:
        """Do nothing: there is no file to remove."""


class UNIXSocket:
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

    def bind(self) -> socket.socket:
        """Return the listening socket; raise CannotListenError.

        It listens: other servers take the file of a socket that does not for a stale one.
        """
        return self.open()

    def listen(self, bound: socket.socket) -> None:
        """Do nothing: the socket listens."""

    def open(self) -> socket.socket:
        """Return the listening socket; raise CannotListenError."""
        if self._lock is not None and not self._lock.lock():
            raise CannotListenError(None, self._path, OSError("Cannot acquire lock"))
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.setblocking(False)
            if self._is_file:
                self._remove_stale_file()
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
        if self._lock is not None:
            self._lock.unlock()

    def _remove_stale_file(self) -> None:
        """Remove the socket file of a server that was killed; keep that of a running one."""
        path = Path(self._path)
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.stat().st_mode):
                return
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                try:
                    probe.setblocking(False)  # the backlog of a running server may be full
                    probe.connect(self._path)
                except ConnectionRefusedError:
                    path.unlink()
                except BlockingIOError:
                    return


OwnSocket = TCPSocket | UNIXSocket


class InheritedSocket:
    """A socket that other processes listen on too.

    `open()` takes the ownership of the descriptor. A process that stops leaves the clients in
    the backlog to the others, unless `is_last()`.
    """

    # One that accepts a whole burst would leave nothing to the others.
    accepts_per_turn = 1

    def __init__(self, descriptor: int, backlog: int, is_last: Callable[[], bool]) -> None:
        self._descriptor = descriptor
        self._backlog = backlog
        self._is_last = is_last

    @property
    def backlog(self) -> int:
        """How many waiting clients this process has to accept when it stops."""
        return self._backlog if self._is_last() else 0

    def open(self) -> socket.socket:
        """Return the listening socket."""
        return socket.socket(fileno=self._descriptor)

    def close(self) -> None:
        """Do nothing: the file belongs to the process that has made the socket."""


class ReservedSocket:
    """A socket whose address is taken when it is made, and that listens when it is opened.

    Raises CannotListenError.
    """

    def __init__(self, where: OwnSocket) -> None:
        self.backlog = where.backlog
        self.accepts_per_turn = where.accepts_per_turn
        self._where = where
        self._bound: socket.socket | None = where.bind()

    def open(self) -> socket.socket:
        """Return the listening socket; raise CannotListenError."""
        assert self._bound is not None  # noqa: S101  it is opened once
        bound, self._bound = self._bound, None
        self._where.listen(bound)
        return bound

    def close(self) -> None:
        """Remove the socket file."""
        self._where.close()

    def release(self) -> None:
        """Close the socket, unless it was opened."""
        if self._bound is not None:
            self._bound.close()
            self._bound = None
            self._where.close()


ListeningSocket = OwnSocket | InheritedSocket | ReservedSocket
