"""What a child that a view forks must not share with its server: connections and signals."""

import os
import signal
import socket
import stat
import sys
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IListeningPort

__all__ = ("ForkGuard", "fork_guard", "guard_port")

# Those whose handlers belong to the server, not to the application.
_OWNERS = ("aiorest_ws", "asyncio", "twisted", "uvloop")


@cache
def fork_guard() -> "ForkGuard":
    """Return the guard of this process."""
    guard = ForkGuard()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=guard.hold_signals,
            after_in_parent=guard.release_signals,
            after_in_child=guard.leave_server,
        )
    return guard


def guard_port(port: IListeningPort) -> None:
    """Separate forked children from the connections of a port, which may be Twisted's."""
    address: Any = port.getHost()
    number = getattr(address, "port", None)
    fork_guard().add((address.name or b"") if number is None else (address.host, number))


class ForkGuard:
    """Separates a forked child from the server that listens in its parent.

    A connection is closed for its client when no process has it open any more, and a signal to the
    child would be written to a pipe that the parent reads.
    """

    def __init__(self) -> None:
        self._names: set[Any] = set()
        self._held = threading.local()

    def add(self, name: Any) -> None:
        """Note that the server listens at an address of the socket module."""
        self._names.add(_key_of(name))

    def hold_signals(self) -> None:
        """Hold what is sent to a child before the handlers of its parent are reset there."""
        self._held.before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    def release_signals(self) -> None:
        """Deliver the signals that were held."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self._held.before)

    def leave_server(self) -> None:
        """Release the server's sockets and signals, if its reactor runs."""
        try:
            reactor: Any = sys.modules.get("twisted.internet.reactor")
            if self._names and reactor is not None and reactor.running:
                _reset_signals()
                self._release_sockets()
        finally:
            self.release_signals()

    def _release_sockets(self) -> None:
        nothing = os.open(os.devnull, os.O_RDWR)
        try:
            for descriptor in _descriptors():
                if self._is_ours(descriptor):
                    # Not closed: an object that closes it later would close another one's file.
                    os.dup2(nothing, descriptor, inheritable=False)
        finally:
            os.close(nothing)

    def _is_ours(self, descriptor: int) -> bool:
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                view = socket.socket(fileno=descriptor)
                try:
                    name = view.getsockname()
                    return isinstance(name, tuple | str | bytes) and _key_of(name) in self._names
                finally:
                    view.detach()
        return False


def _key_of(name: Any) -> Any:
    """Return what a listening socket and the connections that it accepts have in common."""
    return name[1] if isinstance(name, tuple) else os.fsencode(name)


def _descriptors() -> list[int]:
    for folder in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            return [int(path.name) for path in Path(folder).iterdir()]
    return []


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        owner = str(getattr(handler, "__module__", "")).partition(".")[0]
        if callable(handler) and owner in _OWNERS:
            # SIGINT too: a KeyboardInterrupt would be the end of the view, not of the child.
            signal.signal(number, signal.SIG_DFL)
