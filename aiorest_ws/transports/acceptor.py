"""Accepting connections, with a pause while the system has no file descriptor for another one."""

import asyncio
import errno
import os
import select
import socket
from collections.abc import Callable
from typing import Any

from aiorest_ws.log import logger

__all__ = ("ACCEPTS_PER_TURN", "Acceptor")

# The connections accepted in one turn of the loop, so that open connections have their turn too.
ACCEPTS_PER_TURN = 32

# The pause after a shortage of descriptors, and the time without another one that ends it.
RETRY_SECONDS = 1.0
RECOVERY_SECONDS = 5.0

# Errors of the network or of a firewall that accept(2) passes on; the next client may be fine.
_ERRORS_OF_ONE_CLIENT = {
    errno.ECONNABORTED,
    errno.EINTR,
    errno.EPERM,
    *(errno.ENETDOWN, errno.EPROTO, errno.ENOPROTOOPT, errno.EHOSTDOWN),
    *(errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH),
    getattr(errno, "ENONET", errno.EPROTO),  # not on all systems
}


class Acceptor:
    """Accepts the connections of a listening socket, and passes them to `accepted`.

    The loops' own listeners cannot cope with a shortage of descriptors: uvloop accepts such a
    connection and drops it, asyncio tries, and logs, as often as its backlog is long. Here the
    clients stay in the backlog.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listening: socket.socket,
        name: Any,
        accepted: Callable[[socket.socket], None],
        accepts_per_turn: int = ACCEPTS_PER_TURN,
    ) -> None:
        self._loop = loop
        self._listening = listening
        self._name = name
        self._accepted = accepted
        self._accepts_per_turn = accepts_per_turn
        self._timer: asyncio.TimerHandle | None = None
        self._short_since = 0.0
        self._last_short = 0.0
        self.is_paused = False

    def start(self) -> None:
        """Accept connections as soon as the loop runs."""
        self._loop.add_reader(self._listening, self._accept_some)

    def stop(self, waiting: int) -> None:
        """Accept up to `waiting` connections from the backlog, and close the socket.

        The system resets those that are left, unless other processes listen on the socket too.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _ in range(waiting):
            if not self._accept_one():
                break
        if not self.is_paused:
            self._loop.remove_reader(self._listening)
        self.is_paused = False
        self._listening.close()

    def retry_soon(self) -> None:
        """End a pause in the next turn of the loop: a descriptor is about to be free."""
        if self.is_paused:
            self._loop.call_soon(self._resume)

    def _accept_some(self) -> None:
        for _ in range(self._accepts_per_turn):
            if not self._accept_one():
                return

    def _accept_one(self) -> bool:
        """Accept a connection; tell whether there may be another one."""
        try:
            accepted, _ = self._listening.accept()
        except BlockingIOError:
            return False
        except OSError as exc:
            if exc.errno in _ERRORS_OF_ONE_CLIENT:
                return True
            self._pause(exc)
            return False
        self._accepted(accepted)
        return True

    def _pause(self, exc: OSError) -> None:
        # Linux looks for a descriptor before it looks at the backlog.
        if self.is_paused or not self._is_client_waiting():
            return
        self.is_paused = True
        self._loop.remove_reader(self._listening)
        self._last_short = self._loop.time()
        if self._timer is None:
            self._short_since = self._last_short
            self._timer = self._loop.call_later(RETRY_SECONDS, self._check_shortage)
            logger.warning(
                "%s: cannot accept connections now (%s); clients wait until another connection "
                "ends. Raise the limit of open files, or set Limits.connections",
                self._name,
                os.strerror(exc.errno or 0).lower(),
            )

    def _is_client_waiting(self) -> bool:
        poll = select.poll()
        poll.register(self._listening, select.POLLIN)
        return bool(poll.poll(0))

    def _check_shortage(self) -> None:
        now = self._loop.time()
        if self.is_paused or now - self._last_short < RECOVERY_SECONDS:
            self._timer = self._loop.call_later(RETRY_SECONDS, self._check_shortage)
            self._resume()
            return
        self._timer = None
        seconds = self._last_short - self._short_since
        logger.warning("%s: accepts connections again, after %.1f s", self._name, seconds)

    def _resume(self) -> None:
        if self.is_paused:
            self.is_paused = False
            self._loop.add_reader(self._listening, self._accept_some)
