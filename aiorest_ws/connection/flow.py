"""Flow control: when a client stops reading, the server stops reading from it.

Ordinary messages never get here. A write-paused or queueing connection does not use the fast path.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import connectionDone
from zope.interface import implementer

from aiorest_ws.connection.calls import STOPPING, Calls
from aiorest_ws.connection.closing import close_reason_bytes
from aiorest_ws.connection.fast_path import FastPathProtocol
from aiorest_ws.connection.flow_state import (
    BACKLOG,
    COUNTING,
    DRAINING,
    FINISHING,
    QUEUEING,
    WRITE_PAUSED,
    YIELDING,
)
from aiorest_ws.connection.message_queue import MessageQueue, MessageRate
from aiorest_ws.connection.slow_client import SlowClientWatch
from aiorest_ws.connection.writers import Writers
from aiorest_ws.interfaces import Connection
from aiorest_ws.status import WS_MESSAGE_VIOLATE_POLICY
from aiorest_ws.transports.unsent import set_high_water, unsent_bytes
from aiorest_ws.wrappers import Request

__all__ = ("FlowProtocol",)

# A timer that is so late shows that the loop was blocked, by a view for example.
STALL_SECONDS = 1


@implementer(IPushProducer)
class FlowProtocol(FastPathProtocol):
    """A connection that reads no more than it can answer, and answers no faster than it is read.

    It is the producer of its transport. A producer of the application's own takes its place.
    """

    __slots__ = ("_calls",)

    # Why it was aborted, for `close_reason`: a slow client never reads a close frame.
    _abort_reason: str | None = None

    # Each is made when it is needed.
    _slow_client: SlowClientWatch | None = None
    _queued_messages: MessageQueue | None = None
    _message_rate: MessageRate | None = None
    _writers: Writers | None = None

    if TYPE_CHECKING:
        _calls: Calls | None

        # Given by RequestHandlerProtocol
        def _is_urgent(self, payload: bytes, is_binary: bool) -> bool: ...
        def _refuse_rate(self, payload: bytes, is_binary: bool) -> None: ...

    def __new__(cls, *arguments: Any, **keywords: Any) -> Self:
        """Make a protocol that is not connected."""
        self = super().__new__(cls, *arguments, **keywords)
        self._calls = None
        return self

    def connectionMade(self) -> None:
        """Begin the opening handshake, as the producer of the transport."""
        limits = self.factory.limits
        set_high_water(self._transport, limits.unsent_pause_bytes)
        if limits.messages_per_second is not None:
            self._change_flow(add=COUNTING)
        self._transport.registerProducer(self, True)
        super().connectionMade()

    def connectionLost(self, reason: Any = connectionDone) -> None:
        """End the connection, and discard what is queued."""
        self.factory.unsent.forget(self)
        self._queued_messages = None
        self._stop_watching()
        if self._writers is not None:
            self._writers.stop()
            self._writers.wake()
        try:
            super().connectionLost(reason)
        finally:
            # The garbage collector may free the connection late; free its buffers now.
            for name in ("data", "message_data", "frame_data"):
                vars(self).pop(name, None)

    def dropConnection(self, abort: bool = False) -> None:
        """Close the connection; what the client does not read in `closing_seconds` is lost."""
        was_closed = self._state == self.STATE_CLOSED
        if self._writers is not None:
            self._writers.stop()  # Autobahn would only forget it
        if abort and self.wasClean and self.unsent_bytes:
            abort = False  # the client still gets its last replies and the close frame
        if self._transport is not None:
            self._transport.unregisterProducer()
        super().dropConnection(abort)
        if not abort and not was_closed and self.unsent_bytes:
            seconds = self.factory.limits.closing_seconds
            self.factory.timer_wheel.call_later(seconds, self._transport.abortConnection)

    def abort_connection(self) -> None:
        """Close the connection at once; what is not sent is lost."""
        self._transport.abortConnection()

    # As the producer of the transport

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Take what `producer` writes at the pace of the connection."""
        writers = self._all_writers()
        writers.register(producer, streaming, self)
        if self.is_write_paused:
            writers.pause()

    def unregisterProducer(self) -> None:
        """Forget the producer, if there is one."""
        if self._writers is not None:
            self._writers.unregister()

    def _all_writers(self) -> Writers:
        if self._writers is None:
            self._writers = Writers()
        return self._writers

    @property
    def is_write_paused(self) -> bool:
        """Whether the client has not read what it was sent."""
        return bool(self._flow & WRITE_PAUSED)

    def pauseProducing(self) -> None:
        """Stop reading: the client does not read what it is sent."""
        if self.is_write_paused:
            return
        self._change_flow(add=WRITE_PAUSED)
        if self._state == self.STATE_OPEN:
            self._pause_reading()
        self._slow_client = SlowClientWatch(cast("Connection", self))
        self._check_unsent()
        if self._writers is not None:
            self._writers.pause()

    def resumeProducing(self) -> None:
        """Continue: the client has read what it was sent."""
        if not self.is_write_paused:
            return
        self._stop_watching()
        self.factory.unsent.forget(self)
        self._change_flow(remove=WRITE_PAUSED)
        if self._state != self.STATE_CLOSED:
            self._go_on_soon()
        if self._writers is not None:
            self._writers.resume()

    def writable(self) -> Deferred[None]:
        """Return a Deferred that fires when the client has read what it was sent, or is gone."""
        if not self.is_write_paused or self._state != self.STATE_OPEN:
            return succeed(None)
        return self._all_writers().wait()

    def stopProducing(self) -> None:
        """Do nothing: `connectionLost` follows."""

    # What a client does not read

    @property
    def unsent_bytes(self) -> int:
        """The bytes that have been sent, and that the system has not taken."""
        return unsent_bytes(self._transport)

    @property
    def sent_bytes(self) -> int:
        """The bytes that the system has taken."""
        return int(self.trafficStats.outgoingOctetsWireLevel) - self.unsent_bytes

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Write bytes; abort the connection of a client that is too far behind."""
        super().sendData(data, sync, chopsize)
        if self.is_write_paused:
            self._check_unsent()

    def _check_unsent(self) -> None:
        unsent = self.unsent_bytes
        if unsent > self.factory.limits.unsent_bytes:
            self.abort_slow_client("unsent_bytes", f"aborted, {unsent} bytes not read")
        elif self._state != self.STATE_CLOSED:
            self.factory.unsent.note(self, unsent)

    def _stop_watching(self) -> None:
        slow_client, self._slow_client = self._slow_client, None
        if slow_client is not None:
            slow_client.stop()

    def abort_slow_client(self, limit: str, words: str) -> None:
        """Abort a connection that is over a limit; `close_reason` has 1008."""
        self._stop_watching()
        if self._state == self.STATE_CLOSED:
            return
        self.factory.limit_hits.note(limit, self.peer, words)
        self._abort_reason = f"{limit}: {words}"
        self._note_unclean_end(self._abort_reason)
        self.factory.unsent.forget(self)
        if self._corked:
            self.cork()  # discards it: to write it would ask for this again
        self.dropConnection(abort=True)

    # What cannot be answered yet

    def _take_message(self, payload: bytes, is_binary: bool) -> None:
        if self._state != self.STATE_OPEN:
            self.onMessage(payload, is_binary)  # as Autobahn does
        elif self._flow & COUNTING and not self._is_within_rate():
            self._refuse_rate(payload, is_binary)
        elif self._flow & _WAITING and not self._is_urgent(payload, is_binary):
            self._queue_message(payload, is_binary)
        else:
            self.onMessage(payload, is_binary)

    def _queue_message(self, payload: bytes, is_binary: bool) -> None:
        if self._queued_messages is None:
            self._queued_messages = MessageQueue()
            self._change_flow(add=BACKLOG)
        self._queued_messages.put(payload, is_binary)
        if not self._reads():
            self._pause_reading()

    def start_queueing(self) -> None:
        """Queue new messages."""
        self._change_flow(add=QUEUEING)

    def stop_queueing(self) -> None:
        """Handle queued messages in the next turn of the loop."""
        if self._flow & QUEUEING:
            self._change_flow(remove=QUEUEING)
            self._go_on_soon()

    def _go_on(self) -> None:
        self._take_queued()
        self.consumeData()

    def _take_queued(self) -> None:
        queue = self._queued_messages
        while queue and self._may_take() and not self._yields():
            payload, is_binary = queue.take()
            self._count_message()
            self.onMessage(payload, is_binary)
        if queue:
            self._choose_path()
        else:
            self._queued_messages = None
            self._change_flow(remove=BACKLOG)

    def _may_take(self) -> bool:
        is_free = self._flow & FINISHING or not self._flow & _HELD_UP
        return self._state == self.STATE_OPEN and bool(is_free)

    def processData(self) -> bool:
        """Parse a part of a frame, if there is room for it."""
        if self._flow & _BEHIND and self._state == self.STATE_OPEN:
            most = self.factory.limits.waiting_bytes
            is_held_up = self.is_write_paused or self.queued_bytes > most
            if is_held_up and not self._flow & FINISHING:
                return False
        return super().processData()

    def _reads(self) -> bool:
        """Tell whether more may be read from the client."""
        if self._flow & YIELDING:
            return False
        if self._state != self.STATE_OPEN:
            return True
        waiting = self.queued_bytes + len(self.data)
        return not self.is_write_paused and bool(waiting <= self.factory.limits.waiting_bytes)

    def _pause_reading(self) -> None:
        self._transport.pauseProducing()
        self.factory.paused_clients.watch(self)

    @property
    def is_read_paused(self) -> bool:
        """Whether the server does not read from the client, for as long as it takes."""
        return not self._reads() and not self._flow & YIELDING

    @property
    def queued_bytes(self) -> int:
        """The memory that messages take which have been read and not handled."""
        return 0 if self._queued_messages is None else self._queued_messages.size

    def finish(self, code: int, reason: bytes | None = None) -> None:
        """Answer all that has been read, and send the close frame."""
        if self._state == self.STATE_OPEN:
            self._change_flow(add=FINISHING, remove=YIELDING | QUEUEING)
            self._begin_turn()
            self._go_on()
            self.sendCloseFrame(code, reason, isReply=False)
            self._change_flow(remove=FINISHING)
            self._resume_reading()

    def _is_within_rate(self) -> bool:
        per_second = self.factory.limits.messages_per_second
        rate = self._message_rate = self._message_rate or MessageRate(self.factory.reactor.seconds)
        return per_second is None or rate.admits_one_more(per_second)

    def _close_over_rate(self) -> None:
        self.factory.limit_hits.note("messages_per_second", self.peer, "429, closed with 1008")
        self.sendCloseFrame(WS_MESSAGE_VIOLATE_POLICY, b"too many messages", isReply=False)
        self.failedByMe = True  # Autobahn ignores what is received from now on

    # Calls that take their time

    def _all_calls(self) -> Calls:
        if self._calls is None:
            self._calls = Calls(cast("Connection", self))
        return self._calls

    def forget_calls(self) -> None:
        """Free the memory of calls: none is running."""
        self._calls = None

    @property
    def running(self) -> list[Request | None]:
        """The requests that are still to be answered; None for an `onMessage` that waits."""
        return [] if self._calls is None else self._calls.unanswered

    def note_handling(self, pending: Deferred[Any]) -> None:
        """Count an `onMessage` of the application that waits until it ends."""
        self._all_calls().handle(pending)

    @property
    def calls_in_flight(self) -> int:
        """The number of running calls, including those that were answered and have not ended."""
        return 0 if self._calls is None else len(self._calls)

    @property
    def has_only_streams(self) -> bool:
        """Whether all that is to be answered are streams, which may have no end."""
        return self._calls is not None and self._calls.has_only_streams

    @property
    def unanswered(self) -> int:
        """The number of messages that have been read and not answered."""
        return len(self.running) + len(self._queued_messages or ())

    @property
    def accepts_calls(self) -> bool:
        """Whether calls are answered: it is open, and the server does not stop."""
        return self._state == self.STATE_OPEN and not self._flow & DRAINING

    def sendClose(self, code: int | None = None, reason: str | None = None) -> None:
        """Start the closing handshake; raise ValueError for a code that must not be sent."""
        self.sendCloseFrame(code, close_reason_bytes(code, reason), isReply=False)

    def drain(self) -> None:
        """Answer new calls with 503."""
        self._change_flow(add=DRAINING)

    def cut_calls(
        self,
        requests: Sequence[Request | None] | None = None,
        detail: str = STOPPING,
        *,
        are_streams: bool = False,
    ) -> int:
        """Answer calls that run with 503, and cancel them; return how many they were.

        `requests` are theirs, by default all; with `are_streams` those of streams only.
        """
        if self._calls is None:
            return 0
        return self._calls.cut(requests, detail, are_streams=are_streams)

    # A client that is not read from cannot answer a ping

    def onAutoPingTimeout(self) -> None:
        """Drop a client that has not answered a ping, unless its answer may be unread."""
        timers = self.factory.timer_wheel
        if not self._reads():
            # If the client is gone, writing to it ends the connection.
            self._ping()
        elif timers.lateness > STALL_SECONDS:
            # The pong may have arrived while the loop was blocked.
            self.autoPingTimeoutCall = timers.call_later(STALL_SECONDS, self.onAutoPingTimeout)
        else:
            super().onAutoPingTimeout()


_WAITING = QUEUEING | BACKLOG
_HELD_UP = QUEUEING | WRITE_PAUSED
_BEHIND = BACKLOG | WRITE_PAUSED
