"""Send a stream: from its first item until it is closed."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from aiorest_ws.awaiting import Outcome, drive, stepped
from aiorest_ws.connection.fast_path import CORKED_BYTES
from aiorest_ws.dispatch.streams import CANCELLED, Stream
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
            self.pending.errback(exc)
            return
        if isinstance(outcome, Deferred):
            self._outcome = outcome
            outcome.addBoth(self.pending.callback)
        else:
            self.pending.callback(None)

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
            with suppress(*CANCELLED):
                await self._send_all()
        except GeneratorExit:
            self._is_closing = True
            raise
        finally:
            if not self._is_closing:
                self._is_closing = True
                with suppress(*CANCELLED):
                    await self._stream.aclose()

    async def _send_all(self) -> None:
        connection, size = self._connection, 0
        while not self._is_cancelled and connection.state == connection.STATE_OPEN:
            if connection.is_write_paused:
                await connection.writable()
                await self._calls.stream_turn()  # all others are writable, too
                continue
            if self._items_left <= 0 or time.monotonic() >= self._turn_ends:
                await self._calls.stream_turn()
                continue
            self._items_left -= 1
            reply = await self._next_reply()
            if reply is None:
                return
            if self._stream.is_over:
                self._calls.stream_over(self.pending)
            sent = connection.send_call_reply(self._request, reply, self._is_binary)
            if sent is None:
                return
            size += len(sent)
            if self._stream.is_over or sent is not reply:
                self._calls.stream_over(self.pending)
                connection.log_call_reply(self._request, size)
                return
            self._unwritten += len(sent)
            if self._unwritten >= CORKED_BYTES:
                self._unwritten = 0
                connection.write_corked()

    async def _next_reply(self) -> bytes | None:
        """Return the next item, or None: the stream has been cancelled."""
        try:
            reply: bytes = await self._stream.__anext__()
        except CANCELLED as exc:
            if self._is_cancelled:
                return None
            reply = self._stream.failure(exc)
        return None if self._is_cancelled else reply

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
