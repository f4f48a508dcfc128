"""Flow control: when a client stops reading, the server stops reading from it.

Ordinary messages pass nothing of this. A connection that is write-paused or queueing leaves the
fast path until it is not.
"""

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import connectionDone
from zope.interface import implementer

from aiorest_ws.connection.fast_path import FastPathProtocol
from aiorest_ws.connection.flow_state import FlowState
from aiorest_ws.connection.message_queue import MessageQueue, MessageRate
from aiorest_ws.connection.slow_client import SlowClientWatch
from aiorest_ws.log import logger
from aiorest_ws.status import WS_MESSAGE_VIOLATE_POLICY
from aiorest_ws.transports.twisted_internals import PullToPush
from aiorest_ws.transports.unsent import set_high_water, unsent_bytes

__all__ = ("FlowProtocol",)

# A timer that is so late shows that the loop was blocked, by a view for example.
STALL_SECONDS = 1

# Pieces of a message that are kept apart; a million of them would take 40 times their bytes.
MAX_PIECES = 256


@implementer(IPushProducer)
class FlowProtocol(FastPathProtocol):
    """A connection that reads no more than it can answer, and answers no faster than it is read.

    It is the producer of its transport. A producer of the application's own takes its place.
    """

    # Why it was aborted, for `close_reason`: a slow client never reads a close frame.
    _abort_reason: str | None = None

    # All of them are made when they are needed.
    _slow_client: SlowClientWatch | None = None
    _queue: MessageQueue | None = None
    _rate: MessageRate | None = None
    _producer: Any = None
    _waiting_to_write: list[Deferred[None]] | None = None

    if TYPE_CHECKING:  # given by RequestHandlerProtocol

        def _is_urgent(self, payload: bytes, is_binary: bool) -> bool: ...
        def _refuse_rate(self, payload: bytes, is_binary: bool) -> None: ...

    def connectionMade(self) -> None:
        """Begin the opening handshake, as the producer of the transport."""
        limits = self.factory.limits
        set_high_water(self._transport, limits.unsent_pause_bytes)
        if limits.messages_per_second is not None:
            self._change_flow(add=FlowState.COUNTING)
        self._transport.registerProducer(self, True)
        super().connectionMade()

    def connectionLost(self, reason: Any = connectionDone) -> None:
        """End, and let go of what waits."""
        self.factory.unsent.forget(self)
        self._queue = None
        self._stop_watching()
        self._stop_producer()
        self._tell_writable()
        try:
            super().connectionLost(reason)
        finally:
            # It is part of a cycle, and may wait for the collector: what it has read need not.
            for name in ("data", "message_data", "frame_data"):
                vars(self).pop(name, None)

    def dropConnection(self, abort: bool = False) -> None:
        """Close the connection; what a client has not read soon is lost with it."""
        was_closed = self._state == self.STATE_CLOSED
        self._stop_producer()  # Autobahn would only forget it
        if abort and self.wasClean and self.unsent_bytes:
            abort = False  # what the client is owed, be it the frame that says what is wrong
        if self._transport is not None:
            self._transport.unregisterProducer()
        super().dropConnection(abort)
        if not abort and not was_closed and self.unsent_bytes:
            seconds = self.factory.limits.closing_seconds
            self.factory.timers.call_later(seconds, self._transport.abortConnection)

    def abort_connection(self) -> None:
        """Close the connection at once; what is not sent is lost."""
        self._transport.abortConnection()

    # As the producer of the transport

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Take what `producer` writes at the pace of the connection."""
        if self._producer is not None:
            raise RuntimeError(f"{self._producer!r} was never unregistered.")
        if not streaming:
            # As Twisted's TLS and HTTP do it.
            producer = PullToPush(producer, self)
            producer.startStreaming()
        self._producer = producer
        if self.is_write_paused:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """Forget the producer, if there is one."""
        producer, self._producer = self._producer, None
        if isinstance(producer, PullToPush):
            producer.stopStreaming()

    def _stop_producer(self) -> None:
        producer, self._producer = self._producer, None
        try:
            if producer is not None:
                producer.stopProducing()
        except Exception as exc:  # noqa: BLE001  it is the application's
            logger.error("a producer could not stop", exc_info=exc)

    @property
    def is_write_paused(self) -> bool:
        """Whether the client has not read what it was sent."""
        return FlowState.WRITE_PAUSED in self._flow

    def pauseProducing(self) -> None:
        """Read nothing more: the client does not keep up."""
        if self.is_write_paused:
            return
        self._change_flow(add=FlowState.WRITE_PAUSED)
        if self._state == self.STATE_OPEN:
            self._transport.pauseProducing()
        self._slow_client = SlowClientWatch(self)
        self._check_unsent()
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on: the client has read what it was sent."""
        if not self.is_write_paused:
            return
        self._stop_watching()
        self.factory.unsent.forget(self)
        self._change_flow(remove=FlowState.WRITE_PAUSED)
        if self._state != self.STATE_CLOSED:
            self._go_on_soon()
        if self._producer is not None:
            self._producer.resumeProducing()
        self._tell_writable()

    def writable(self) -> Deferred[None]:
        """Return a Deferred that fires when the client keeps up, or is gone."""
        if not self.is_write_paused or self._state != self.STATE_OPEN:
            return succeed(None)
        if self._waiting_to_write is None:
            self._waiting_to_write = []
        waiting: Deferred[None] = Deferred(self._waiting_to_write.remove)
        self._waiting_to_write.append(waiting)
        return waiting

    def _tell_writable(self) -> None:
        waiting, self._waiting_to_write = self._waiting_to_write, None
        for one in waiting or ():
            one.callback(None)

    def stopProducing(self) -> None:
        """Note that the connection is gone; `connectionLost` says so, too, and is what counts."""

    # What a client does not read

    @property
    def unsent_bytes(self) -> int:
        """The bytes that have been sent, and that the system has not taken."""
        return unsent_bytes(self._transport)

    @property
    def sent_bytes(self) -> int:
        """The bytes that the system has taken."""
        sent: int = self.trafficStats.outgoingOctetsWireLevel
        return sent - self.unsent_bytes

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Write bytes; a connection that is too far behind is aborted."""
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
        self._discard_corked()  # to write it would ask for this again
        self.dropConnection(abort=True)

    # What cannot be answered yet

    def _take_message(self, payload: bytes, is_binary: bool) -> None:
        if self._state != self.STATE_OPEN:
            self.onMessage(payload, is_binary)  # Autobahn's way with what follows a close frame
        elif FlowState.COUNTING in self._flow and not self._is_within_rate():
            self._refuse_rate(payload, is_binary)
        elif self._flow & _WAITING and not self._is_urgent(payload, is_binary):
            self._queue_message(payload, is_binary)
        else:
            self.onMessage(payload, is_binary)

    def _queue_message(self, payload: bytes, is_binary: bool) -> None:
        if self._queue is None:
            self._queue = MessageQueue()
            self._change_flow(add=FlowState.BACKLOG)
        self._queue.put(payload, is_binary)
        if not self._reads():
            self._transport.pauseProducing()

    def start_queueing(self) -> None:
        """Let new messages wait."""
        self._change_flow(add=FlowState.QUEUEING)

    def stop_queueing(self) -> None:
        """Handle what waits, in the next turn of the loop."""
        if FlowState.QUEUEING in self._flow:
            self._change_flow(remove=FlowState.QUEUEING)
            self._go_on_soon()

    def _go_on(self) -> None:
        self._take_queued()
        self.consumeData()

    def _take_queued(self) -> None:
        queue = self._queue
        while queue and self._may_take() and not self._yields():
            payload, is_binary = queue.take()
            self._count_message()
            self.onMessage(payload, is_binary)
        if queue:
            self._choose_path()
        else:
            self._queue = None
            self._change_flow(remove=FlowState.BACKLOG)

    def _may_take(self) -> bool:
        if self._state != self.STATE_OPEN:
            return False
        return FlowState.FINISHING in self._flow or not self._flow & _HELD_UP

    def processData(self) -> bool:
        """Take a part of a frame out of what has been received, if there is room for it."""
        if self._flow & _BEHIND and self._state == self.STATE_OPEN:
            is_held_up = self.is_write_paused or self._waiting_bytes() > self._max_waiting_bytes()
            if is_held_up and FlowState.FINISHING not in self._flow:
                return False
        return super().processData()

    def _reads(self) -> bool:
        """Tell whether more may be read from the client."""
        if FlowState.YIELDING in self._flow:
            return False
        if self._state != self.STATE_OPEN:
            return True
        waiting = self._waiting_bytes() + len(self.data)
        return not self.is_write_paused and waiting <= self._max_waiting_bytes()

    def _waiting_bytes(self) -> int:
        return 0 if self._queue is None else self._queue.size

    def _max_waiting_bytes(self) -> int:
        limit: int = self.factory.limits.waiting_bytes
        return limit

    def finish(self, code: int) -> None:
        """Answer all that has been read, and send the close frame."""
        if self._state == self.STATE_OPEN:
            self._change_flow(
                add=FlowState.FINISHING, remove=FlowState.YIELDING | FlowState.QUEUEING
            )
            self._begin_turn()
            self._go_on()
            # sendClose() refuses most codes that a server has.
            self.sendCloseFrame(code, None, isReply=False)
            self._change_flow(remove=FlowState.FINISHING)
            self._resume_reading()

    def onMessageFrameData(self, payload: bytes) -> None:
        """Keep a piece of a message; an empty one would only take room."""
        if payload:
            super().onMessageFrameData(payload)

    def onMessageFrame(self, payload: Any) -> None:
        """Keep a frame of a message."""
        super().onMessageFrame(payload)
        if not self.failedByMe and len(self.message_data) > MAX_PIECES:
            self.message_data = [b"".join(self.message_data)]

    def _is_within_rate(self) -> bool:
        if self._rate is None:
            factory = self.factory
            self._rate = MessageRate(factory.limits.messages_per_second, factory.reactor.seconds)
        return self._rate.admits_one_more()

    def _close_over_rate(self) -> None:
        self.factory.limit_hits.note("messages_per_second", self.peer, "429, closed with 1008")
        self.sendCloseFrame(WS_MESSAGE_VIOLATE_POLICY, b"too many messages", isReply=False)
        self.failedByMe = True  # what comes now is not for anybody

    # A client that is not read from cannot answer a ping

    def onAutoPingTimeout(self) -> None:
        """Drop a client that has not answered a ping, unless its answer may be unread."""
        timers = self.factory.timers
        if not self._reads():
            # Nor is the end of a client read that is gone, but to write to it ends the connection.
            self._ping()
        elif timers.lateness > STALL_SECONDS:
            # The answer may be there, and the loop has been kept from reading it.
            self.autoPingTimeoutCall = timers.call_later(STALL_SECONDS, self.onAutoPingTimeout)
        else:
            super().onAutoPingTimeout()


_WAITING = FlowState.QUEUEING | FlowState.BACKLOG
_HELD_UP = FlowState.QUEUEING | FlowState.WRITE_PAUSED
_BEHIND = FlowState.BACKLOG | FlowState.WRITE_PAUSED
