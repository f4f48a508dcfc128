"""Find out that a client has left while the server does not read from it."""

import select
from typing import Any

from aiorest_ws.interfaces import Connection

__all__ = ("PausedClients",)

LOOK_SECONDS = 1

# Linux only. Elsewhere a client that has left is found by what is written to it.
_HUNG_UP = getattr(select, "POLLRDHUP", 0)


class PausedClients:
    """The connections that have stopped reading; once a second those of gone clients are aborted.

    A client's FIN arrives only if there is room for it in the receive window. So each is sent a
    ping, too: the system of a client that has gone resets the connection. No pong is awaited.
    """

    def __init__(self, timer_wheel: Any) -> None:
        self._timer_wheel = timer_wheel
        self._connections: set[Connection] = set()

    def watch(self, connection: Connection) -> None:
        """Watch a connection until it reads again."""
        if not self._connections:
            self._timer_wheel.call_later(LOOK_SECONDS, self._look)
        self._connections.add(connection)

    def _look(self) -> None:
        poll = select.poll()
        by_descriptor: dict[int, Connection] = {}
        for connection in list(self._connections):
            if not connection.is_read_paused:
                self._connections.discard(connection)
                continue
            # A transport in memory has none.
            fileno = getattr(connection.transport, "fileno", None)
            descriptor: int = -1 if fileno is None else fileno()
            if descriptor >= 0:
                by_descriptor[descriptor] = connection
                poll.register(descriptor, _HUNG_UP)
        for descriptor, _ in poll.poll(0):
            gone = by_descriptor[descriptor]
            self._connections.discard(gone)
            gone.abort_connection()
        for connection in list(self._connections):
            if not connection.unsent_bytes:
                connection.sendPing()
        if self._connections:
            self._timer_wheel.call_later(LOOK_SECONDS, self._look)
