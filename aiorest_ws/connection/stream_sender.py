"""Send a stream: from its first item until it is closed."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from aiorest_ws.awaiting import CANCELLED, Outcome, drive, stepped
from aiorest_ws.connection.fast_path import CORKED_BYTES
from aiorest_ws.dispatch.streams import Stream
from aiorest_ws.interfaces import Connection
from aiorest_ws.wrappers import Request

__all__ = ("StreamSender",)

ITEMS_PER_TURN = 64
SECONDS_PER_TURN = 0.001


class StreamCalls(Protocol):
    """What a stream needs of the calls that it is one of."""

    def stream_turn(self) -> Deferred[None]:
        """Return a Deferred that fires in a turn of the loop that no other stream here has."""

    def stream_over(self, pending: Deferred[Any]) -> None:
        """Note that the last reply of a stream is being sent."""


class StreamSender:
    """Send the items of a stream at the pace of the client.

    `pending` fires when the stream is closed. Cancelling it ends the stream.
    """

    def __init__(
        self,
        connection: Connection,
        calls: StreamCalls,
        request: Request | None,
        stream: Stream,
        is_binary: bool,
    ) -> None:
        self.pending: Deferred[Any] = Outcome(self._cancel)
        self._connection = connection
        self._calls = calls
        self._request = request
        self._stream = stream
        self._is_binary = is_binary
        self._outcome: Any = None
        self._is_cancelled = False
        self._is_closing = False
        self._size = 0
        # What is left of this turn of the loop.
        self._is_stepping = False
        self._items_left = 0
        self._turn_ends = 0.0
        self._unwritten = 0

    def start(self) -> None:
        """Take the first turn."""
        try:
            outcome = drive(stepped(self._run(), self._step))
        except BaseException as exc:  # noqa: BLE001  an override of the application's
            self._end(Failure(exc))
            return
        if isinstance(outcome, Deferred):
            self._outcome = outcome
            outcome.addBoth(self._end)
        else:
            self._end(None)

    def _end(self, result: Failure | None) -> None:
        # A generator may have cancelled its task and ended: its client knows by now.
        was_cancelled = result is not None and result.check(*CANCELLED)
        self.pending.callback(None if was_cancelled else result)

    def _cancel(self, _: Deferred[Any]) -> None:
        self._is_cancelled = True
        if self._is_stepping:
            # Called from the generator itself: it can be interrupted only when it waits.
            self._connection.factory.reactor.callLater(0, self._interrupt)
        else:
            self._interrupt()

    def _interrupt(self) -> None:
        # What `finally` awaits is not to be cancelled.
        outcome, self._outcome = self._outcome, None
        if outcome is not None and not self._is_closing:
            outcome.cancel()

    async def _run(self) -> None:
        try:
            await self._send_all()
        except CANCELLED as exc:
            if not self._is_cancelled:
                self._pass_on(self._stream.failure(exc))
        except GeneratorExit:
            self._is_closing = True
            raise
        finally:
            if not self._is_closing:
                self._is_closing = True
                with suppress(*CANCELLED):
                    await self._stream.aclose()

    async def _send_all(self) -> None:
        connection = self._connection
        while not self._is_cancelled and connection.state == connection.STATE_OPEN:
            if connection.is_write_paused:
                await connection.writable()
                await self._calls.stream_turn()  # all others are writable, too
                continue
            if self._items_left <= 0 or time.monotonic() >= self._turn_ends:
                await self._calls.stream_turn()
                continue
            self._items_left -= 1
            reply = await self._stream.__anext__()
            if self._is_cancelled or not self._pass_on(reply):
                return
            if self._unwritten >= CORKED_BYTES:
                self._unwritten = 0
                connection.write_corked()

    def _pass_on(self, reply: bytes) -> bool:
        """Send a reply; tell whether another one may follow."""
        connection = self._connection
        if self._stream.is_over:
            self._calls.stream_over(self.pending)
        sent = connection.send_call_reply(self._request, reply, self._is_binary)
        if sent is None:
            return False
        self._size += len(sent)
        self._unwritten += len(sent)
        if self._stream.is_over or sent is not reply:
            self._calls.stream_over(self.pending)
            connection.log_call_reply(self._request, self._size)
            return False
        return True

    def _step(self, step: Callable[[Any], Any], value: Any) -> Any:
        """Make a step; what is sent in it leaves in one write."""
        self._is_stepping = True
        self._items_left = ITEMS_PER_TURN
        self._turn_ends = time.monotonic() + SECONDS_PER_TURN
        self._unwritten = 0
        try:
            with self._connection.corked():
                return step(value)
        finally:
            self._is_stepping = False
