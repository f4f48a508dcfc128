"""At the pace of the client: what it does not read bounds what is read from it.

Nothing here is on the way of an ordinary message. A connection that is held up leaves the short
way until it is not.
"""

from collections import deque
from math import ceil
from typing import Any

from twisted.internet._producer_helpers import _PullToPush
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import connectionDone
from zope.interface import implementer

from aiorest_ws.connection.fast_path import FastPathProtocol
from aiorest_ws.log import logger
from aiorest_ws.status import WS_MESSAGE_VIOLATE_POLICY
from aiorest_ws.transports.unsent import set_high_water, unsent_bytes

__all__ = ("FlowProtocol", "UnsentBudget")

# What a message that waits takes besides its bytes.
MESSAGE_OVERHEAD = 128

# How often a client that does not read is looked at while its time runs.
CHECKS = 4

# A timer so late tells of a loop that was kept from its work, by a view say.
STALL_SECONDS = 1

# Pieces of a message that are kept apart; a million of them would be 40 times their bytes.
PIECES = 256


class UnsentBudget:
    """What all clients together have not read, as far as it is much. The one with most is aborted.

    `note` is told of each client that does not keep up. Those that have just something left, below
    the mark, are looked at by `audit`.
    """

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._of: dict[FlowProtocol, int] = {}
        self._total = 0

    def note(self, connection: "FlowProtocol", unsent: int) -> None:
        """Note that a client has not read so many bytes."""
        self._total += unsent - self._of.get(connection, 0)
        self._of[connection] = unsent
        if self._total > self._at_most:
            self._relieve(self._of)

    def forget(self, connection: "FlowProtocol") -> None:
        """Note that a client keeps up, or is gone."""
        self._total -= self._of.pop(connection, 0)

    def audit(self, connections: "set[Any]") -> None:
        """Look at all connections; those who let little wait may be many."""
        self._relieve(dict.fromkeys(connections, 0))

    def _relieve(self, connections: "dict[FlowProtocol, int]") -> None:
        waiting = sorted(
            ((unsent_bytes(one._transport), one) for one in connections), key=lambda pair: pair[0]
        )
        total = sum(unsent for unsent, _ in waiting)
        while total > self._at_most:
            unsent, largest = waiting.pop()
            total -= unsent
            largest.give_up("unsent_bytes_in_all", f"aborted, {unsent} bytes not read")
        self._of.update((one, unsent) for unsent, one in waiting if one in self._of)
        self._total = sum(self._of.values())


@implementer(IPushProducer)
class FlowProtocol(FastPathProtocol):
    """A connection that reads no more than it can answer, and answers no faster than it is read.

    It is the producer of its transport. A producer of the application's own takes its place.
    """

    # Why it was aborted, for `close_reason`: such a client never reads a close frame.
    _abort_reason: str | None = None

    # Above the mark of its transport: nothing is read or parsed.
    _is_clogged = False
    _check: Any = None
    _sent_before = 0
    _idle_checks = 0

    # Messages wait for a call to end, or for the connection to be greeted.
    _is_holding = False

    # All that has been read is answered now, whatever waits.
    _is_finishing = False
    _held: deque[tuple[bytes, bool]] | None = None
    _held_bytes = 0

    _producer: Any = None

    # What goes on when the client has read what it was sent.
    _waiting_to_write: list[Deferred[None]] | None = None

    # What is left of the messages of this second.
    _allowance = 0.0
    _allowed_at: float | None = None

    def connectionMade(self) -> None:
        """Begin the opening handshake, as the producer of the transport."""
        set_high_water(self._transport, self.factory.limits.unsent_pause_bytes)
        self._transport.registerProducer(self, True)
        super().connectionMade()

    def _connectionLost(self, reason: Any = connectionDone) -> None:
        self.factory.unsent.forget(self)
        self._held = None
        self._stop_checking()
        self._stop_producer()
        self._tell_writable()
        try:
            super()._connectionLost(reason)
        finally:
            # It is part of a cycle, and may wait for the collector: what it has read need not.
            for name in ("data", "message_data", "frame_data"):
                vars(self).pop(name, None)

    def dropConnection(self, abort: bool = False) -> None:
        """Close the connection; what a client has not read soon is lost with it."""
        was_closed = self._state == self.STATE_CLOSED
        self._stop_producer()  # Autobahn would only forget it
        if abort and self.wasClean and unsent_bytes(self._transport):
            abort = False  # what the client is owed, be it the frame that says what is wrong
        if self._transport is not None:
            self._transport.unregisterProducer()
        super().dropConnection(abort)
        if not abort and not was_closed and unsent_bytes(self._transport):
            seconds = self.factory.limits.closing_seconds
            self.factory._batched_timer.call_later(seconds, self._transport.abortConnection)

    # As the producer of the transport

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Take what `producer` writes at the pace of the connection."""
        if self._producer is not None:
            raise RuntimeError(f"{self._producer!r} was never unregistered.")
        if not streaming:
            # As Twisted's TLS and HTTP do it.
            producer = _PullToPush(producer, self)
            producer.startStreaming()
        self._producer = producer
        if self._is_clogged:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """Forget the producer, if there is one."""
        producer, self._producer = self._producer, None
        if isinstance(producer, _PullToPush):
            producer.stopStreaming()

    def _stop_producer(self) -> None:
        producer, self._producer = self._producer, None
        try:
            if producer is not None:
                producer.stopProducing()
        except Exception as exc:  # noqa: BLE001  it is the application's
            logger.error("a producer could not stop", exc_info=exc)

    def pauseProducing(self) -> None:
        """Read nothing more: the client does not keep up."""
        if self._is_clogged:
            return
        self._is_clogged = True
        self._choose_ways()
        if self._state == self.STATE_OPEN:
            self._transport.pauseProducing()
        self._sent_before = self._sent()
        self._idle_checks = 0
        self._check_later()
        self._check_unsent()
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on: the client has read what it was sent."""
        if not self._is_clogged:
            return
        self._is_clogged = False
        self._stop_checking()
        self.factory.unsent.forget(self)
        self._choose_ways()
        if self._state != self.STATE_CLOSED:
            self._go_on_soon()
        if self._producer is not None:
            self._producer.resumeProducing()
        self._tell_writable()

    def writable(self) -> Deferred[None]:
        """Return a Deferred that fires when the client keeps up, or is gone."""
        if not self._is_clogged or self._state != self.STATE_OPEN:
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

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Write bytes; a connection that is too far behind is aborted."""
        super().sendData(data, sync, chopsize)
        if self._is_clogged:
            self._check_unsent()

    def _check_unsent(self) -> None:
        unsent = unsent_bytes(self._transport)
        if unsent > self.factory.limits.unsent_bytes:
            self.give_up("unsent_bytes", f"aborted, {unsent} bytes not read")
        elif self._state != self.STATE_CLOSED:
            self.factory.unsent.note(self, unsent)

    def _check_later(self) -> None:
        seconds = self.factory.limits.unsent_seconds / CHECKS
        self._check = self.factory._batched_timer.call_later(seconds, self._check_progress)

    def _stop_checking(self) -> None:
        check, self._check = self._check, None
        if check is not None:
            check.cancel()

    def _check_progress(self) -> None:
        if not self._is_clogged or self._state == self.STATE_CLOSED:
            return
        sent = self._sent()
        if sent > self._sent_before:
            self._sent_before, self._idle_checks = sent, 0
        else:
            self._idle_checks += 1
        if self._idle_checks >= CHECKS:
            self.give_up("unsent_seconds", "aborted, it reads nothing")
        else:
            self._check_later()

    def _sent(self) -> int:
        return self.trafficStats.outgoingOctetsWireLevel - unsent_bytes(self._transport)

    def give_up(self, limit: str, words: str) -> None:
        """Abort a connection that is over a limit; `close_reason` has 1008."""
        if self._state == self.STATE_CLOSED:
            return
        self.factory.limit_hits.note(limit, self.peer, words)
        self._abort_reason = f"{limit}: {words}"
        self.wasNotCleanReason = self._abort_reason
        self.factory.unsent.forget(self)
        # Not the corked frames: to write them would ask for this again.
        self._corked = [] if self._corked is not None else None
        self.dropConnection(abort=True)

    # What cannot be answered yet

    def _onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self._state != self.STATE_OPEN:
            self.onMessage(payload, isBinary)  # Autobahn's way with what follows a close frame
        elif self.factory.limits.messages_per_second is not None and not self._is_within_rate():
            self._refuse_rate(payload, isBinary)
        elif (self._is_holding or self._held) and not self._is_urgent(payload, isBinary):
            self._hold(payload, isBinary)
        else:
            self.onMessage(payload, isBinary)

    def _is_urgent(self, payload: bytes, isBinary: bool) -> bool:  # noqa: ARG002
        """Tell whether a message is not to wait."""
        return False

    def _hold(self, payload: bytes, isBinary: bool) -> None:
        if self._held is None:
            self._held = deque()
        self._held.append((payload, isBinary))
        self._held_bytes += len(payload) + MESSAGE_OVERHEAD
        if not self._reads():
            self._transport.pauseProducing()

    def _begin_holding(self) -> None:
        """Let messages wait."""
        self._is_holding = True
        self._choose_ways()

    def _end_holding(self) -> None:
        """Let what waits go on, in the next turn."""
        if self._is_holding:
            self._is_holding = False
            self._go_on_soon()

    def _go_on(self) -> None:
        self._take_held()
        super()._go_on()

    def _take_held(self) -> None:
        while self._held and self._may_take() and not self._rests():
            payload, is_binary = self._held.popleft()
            self._held_bytes -= len(payload) + MESSAGE_OVERHEAD
            self._messages_left -= 1
            self.onMessage(payload, is_binary)
        if not self._held:
            self._held = None
        self._choose_ways()

    def _may_take(self) -> bool:
        if self._state != self.STATE_OPEN:
            return False
        return self._is_finishing or not (self._is_holding or self._is_clogged)

    def _rests(self) -> bool:
        return not self._is_finishing and super()._rests()

    def processData(self) -> bool:
        """Take a part of a frame out of what has been received, if there is room for it."""
        if self._is_clogged or self._held:
            is_full = self._held_bytes > self.factory.limits.waiting_bytes
            is_held_up = self._is_clogged or is_full
            if is_held_up and self._state == self.STATE_OPEN and not self._is_finishing:
                return False
        return super().processData()

    def _reads(self) -> bool:
        if self._is_resting:
            return False
        if self._state != self.STATE_OPEN:
            return True
        waiting = self._held_bytes + len(self.data)
        return not self._is_clogged and waiting <= self.factory.limits.waiting_bytes

    def _may_receive(self) -> bool:
        return (
            not (self._is_clogged or self._is_holding or self._held)
            and self.factory.limits.messages_per_second is None
            and super()._may_receive()
        )

    def _may_send(self) -> bool:
        return not self._is_clogged and super()._may_send()

    def onMessageFrameData(self, payload: bytes) -> None:
        """Keep a piece of a message; an empty one would only take room."""
        if payload:
            super().onMessageFrameData(payload)

    def onMessageFrame(self, payload: Any) -> None:
        """Keep a frame of a message."""
        super().onMessageFrame(payload)
        if not self.failedByMe and len(self.message_data) > PIECES:
            self.message_data = [b"".join(self.message_data)]

    # Rates

    def _is_within_rate(self) -> bool:
        per_second: float = self.factory.limits.messages_per_second
        most = max(1, ceil(per_second))
        now = self.factory.reactor.seconds()
        since = 0.0 if self._allowed_at is None else now - self._allowed_at
        allowance = most if self._allowed_at is None else self._allowance + since * per_second
        self._allowed_at = now
        self._allowance = min(allowance, most) - 1
        return self._allowance >= 0

    def _refuse_rate(self, payload: bytes, isBinary: bool) -> None:  # noqa: ARG002
        self.factory.limit_hits.note("messages_per_second", self.peer, "429, closed with 1008")
        self.sendCloseFrame(WS_MESSAGE_VIOLATE_POLICY, b"too many messages", isReply=False)
        self.failedByMe = True  # what comes now is not for anybody

    # A client that is not read from cannot answer a ping

    def onAutoPingTimeout(self) -> None:
        """Drop a client that has not answered a ping, unless its answer may be unread."""
        timer = self.factory._batched_timer
        if not self._reads():
            # Nor is the end of a client read that is gone, but to write to it ends the connection.
            self._sendAutoPing()
        elif timer.lateness > STALL_SECONDS:
            # The answer may be there, and the loop has been kept from reading it.
            self.autoPingTimeoutCall = timer.call_later(STALL_SECONDS, self.onAutoPingTimeout)
        else:
            super().onAutoPingTimeout()
