"""Connections taken out of the queue of a listening socket."""

import asyncio
import errno
import os
import select
import socket
from collections.abc import Callable
from typing import Any

from aiorest_ws.log import logger

__all__ = ("AT_ONCE", "Acceptor")

# Connections that are taken in one turn of the loop; those that are open have their turn, too.
AT_ONCE = 32

# A shortage of descriptors: the pause until the next attempt, and the time without a further
# shortage after which it is over.
RETRY_SECONDS = 1.0
QUIET_SECONDS = 5.0

# The fault of one client or of its network, which accept(2) passes on, or of a firewall's rule.
_OF_ONE_CLIENT = {
    errno.ECONNABORTED,
    errno.EINTR,
    errno.EPERM,
    *(errno.ENETDOWN, errno.EPROTO, errno.ENOPROTOOPT, errno.EHOSTDOWN),
    *(errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH),
    getattr(errno, "ENONET", errno.EPROTO),  # not on all systems
}


class Acceptor:
    """Accepts connections, and pauses while the system has no descriptor for another one.

    The loops' own listeners do not: uvloop's accepts such a connection to drop it, and asyncio's
    tries, and logs, as often as its backlog is long. Here those clients wait in the queue.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listening: socket.socket,
        name: Any,
        take: Callable[[socket.socket], None],
        at_once: int = AT_ONCE,
    ) -> None:
        self._loop = loop
        self._listening = listening
        self._name = name
        self._take = take
        self._at_once = at_once
        self._timer: asyncio.TimerHandle | None = None
        self._short_since = 0.0
        self._last_short = 0.0
        self.is_paused = False

    def begin(self) -> None:
        """Accept what comes as soon as the loop runs."""
        self._loop.add_reader(self._listening, self._accept_some)

    def end(self, at_most: int) -> None:
        """Accept what has come so far, and close the socket.

        Unless other processes listen on it, too, that resets what comes later.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _ in range(at_most):
            if not self._accept_one():
                break
        if not self.is_paused:
            self._loop.remove_reader(self._listening)
        self.is_paused = False
        self._listening.close()

    def try_soon(self) -> None:
        """End a pause: a descriptor is about to be free."""
        if self.is_paused:
            self._loop.call_soon(self._resume)

    def _accept_some(self) -> None:
        for _ in range(self._at_once):
            if not self._accept_one():
                return

    def _accept_one(self) -> bool:
        """Accept a connection; tell whether there may be another one."""
        try:
            accepted, _ = self._listening.accept()
        except BlockingIOError:
            return False
        except OSError as exc:
            if exc.errno in _OF_ONE_CLIENT:
                return True
            self._pause(exc)
            return False
        self._take(accepted)
        return True

    def _pause(self, exc: OSError) -> None:
        # Linux looks for a descriptor before it looks into the queue.
        if self.is_paused or not self._is_anybody_waiting():
            return
        self.is_paused = True
        self._loop.remove_reader(self._listening)
        self._last_short = self._loop.time()
        if self._timer is None:
            self._short_since = self._last_short
            self._timer = self._loop.call_later(RETRY_SECONDS, self._look_again)
            logger.warning(
                "%s: no connection can be accepted for now (%s); clients wait until another one "
                "ends. Let the server open more files, or set Limits.connections",
                self._name,
                os.strerror(exc.errno or 0).lower(),
            )

    def _is_anybody_waiting(self) -> bool:
        queue = select.poll()
        queue.register(self._listening, select.POLLIN)
        return bool(queue.poll(0))

    def _look_again(self) -> None:
        now = self._loop.time()
        if self.is_paused or now - self._last_short < QUIET_SECONDS:
            self._timer = self._loop.call_later(RETRY_SECONDS, self._look_again)
            self._resume()
            return
        self._timer = None
        seconds = self._last_short - self._short_since
        logger.warning("%s: connections are accepted again, after %.1f s", self._name, seconds)

    def _resume(self) -> None:
        if self.is_paused:
            self.is_paused = False
            self._loop.add_reader(self._listening, self._accept_some)
