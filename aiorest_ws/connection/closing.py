"""Close a connection when its calls have been answered."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from aiorest_ws.awaiting import start
from aiorest_ws.connection.callbacks import IS_ACCEPTED
from aiorest_ws.connection.calls import STOPPING
from aiorest_ws.dispatch.call import CALLER
from aiorest_ws.exceptions import ServiceUnavailable
from aiorest_ws.interfaces import Connection
from aiorest_ws.log import logger
from aiorest_ws.wrappers import Request

__all__ = ("CLOSING", "Closing", "check_accepted", "close_reason_bytes")

CLOSING = "The connection is being closed."

# The pause before the calls that run are looked at again.
PAUSE_SECONDS = 0.02

# Those that an endpoint may send (RFC 6455, section 7.4; IANA's registry).
_CODES = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})

# A control frame has at most 125 bytes, the code is two of them.
MAX_REASON_BYTES = 123


def close_reason_bytes(code: int | None, reason: str | None) -> bytes | None:
    """Return the reason as it is sent, cut to 123 bytes; raise ValueError for an invalid code."""
    if code is not None and (isinstance(code, bool) or code not in _CODES):
        raise ValueError(
            f"a close code must be 1000 to 1003, 1007 to 1014 or 3000 to 4999, not {code!r}"
        )
    if reason is None:
        return None
    if code is None:
        raise ValueError("a close frame with a reason needs a code")
    cut = reason.encode(errors="replace")[:MAX_REASON_BYTES]
    return cut.decode(errors="ignore").encode()


class Closing:
    """A connection that is being closed: new calls are refused, and those that run are answered.

    A call of the connection that asks for this is waited for by the close frame only. Raises
    ValueError for a code that must not be sent, RuntimeError before the opening handshake is done.
    """

    def __init__(self, connection: Connection, code: int, reason: str | None) -> None:
        self._connection = connection
        reason_bytes = close_reason_bytes(code, reason)
        if connection.state == connection.STATE_CONNECTING:
            raise RuntimeError("the opening handshake is not done yet")
        # One that is not among these has not been suspended yet: it asks for this.
        self._before: Sequence[Request] = self._running()
        self._callers: list[Request] = []
        connection.drain()
        connection.factory.keep(start(self._close(code, reason_bytes)))

    def done(self) -> Deferred[None]:
        """Return a Deferred that fires when the close frame is written.

        For a call of this connection it fires when the other calls have been answered.
        """
        caller = CALLER.get()
        if caller is None or caller not in self._running():
            caller = None
        else:
            self._callers.append(caller)
        return start(self._done(is_own=caller is not None))

    async def _done(self, *, is_own: bool) -> None:
        connection, pause = self._connection, 0.0
        while connection.state == connection.STATE_OPEN:
            await deferLater(connection.factory.reactor, pause)
            is_own = is_own or any(one not in self._before for one in self._running())
            if is_own and not self._others():
                return
            pause = PAUSE_SECONDS

    def _running(self) -> list[Request]:
        # A coroutine `onMessage` may itself wait for this, or for a call that does.
        return [one for one in self._connection.running if one is not None]

    def _others(self) -> list[Request]:
        return [one for one in self._running() if one in self._before and one not in self._callers]

    async def _close(self, code: int, reason: bytes | None) -> None:
        connection = self._connection
        reactor, limits = connection.factory.reactor, connection.factory.limits
        calls_end = reactor.seconds() + limits.drain_seconds
        streams_end = reactor.seconds() + min(limits.closing_seconds, limits.drain_seconds)
        pause = 0.0
        while connection.state == connection.STATE_OPEN:
            await deferLater(reactor, pause)
            now, pause = reactor.seconds(), PAUSE_SECONDS
            if now >= streams_end:
                connection.cut_calls(self._others(), CLOSING, are_streams=now < calls_end)
            if not self._running():
                break
        try:
            connection.finish(code, reason)
        except BaseException as exc:  # noqa: BLE001  an application's `onMessage`
            logger.error("%s could not be closed", connection.peer, exc_info=exc)
            connection.abort_connection()


def check_accepted(closing: Closing | None) -> None:
    """Raise ServiceUnavailable if the connection takes no new calls; `closing` is its own.

    A call of an `onMessage` that began before the server stopped is not a new one.
    """
    if closing is not None:
        raise ServiceUnavailable(CLOSING)
    if not IS_ACCEPTED.get():
        raise ServiceUnavailable(STOPPING)
