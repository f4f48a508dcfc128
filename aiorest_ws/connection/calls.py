"""The calls of a connection that run: how many, until when, and how they are ended."""

import binascii
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from aiorest_ws.awaiting import drive
from aiorest_ws.connection.flow import FlowProtocol
from aiorest_ws.connection.stream_sender import StreamRun
from aiorest_ws.dispatch.streams import Stream, discard
from aiorest_ws.exceptions import (
    BaseAPIException,
    CallCancelled,
    DeadlineExceeded,
    MalformedMessage,
    ServiceUnavailable,
    TooManyStreams,
)
from aiorest_ws.log import logger
from aiorest_ws.wrappers import Request

__all__ = ("CallingProtocol", "is_cancel", "may_end_something")

CANCEL = "CANCEL"

# An `id` has 128 bytes at most, a topic 200; what is larger than this waits like other messages.
ENDING_BYTES = 1024

STOPPING = "The server is shutting down."


def is_cancel(request: Request) -> bool:
    """Tell whether a request without a URL asks for the end of another one."""
    method = request.method
    return isinstance(method, str) and method.strip().upper() == CANCEL


def may_end_something(payload: bytes, is_binary: bool) -> bool:
    """Tell whether a message may be a CANCEL or an UNSUBSCRIBE, without decoding those that are
    none.
    """
    if len(payload) > ENDING_BYTES:
        return False
    if is_binary:
        try:
            payload = binascii.a2b_base64(payload)
        except binascii.Error:
            return False
    lowered = payload.lower()
    return b"cancel" in lowered or b"unsubscribe" in lowered


class _Call:
    __slots__ = ("is_answered", "is_binary", "is_stream", "request", "timer")

    def __init__(self, request: Request | None, is_binary: bool) -> None:
        self.request = request
        self.is_binary = is_binary
        self.is_answered = False
        self.is_stream = False
        self.timer: IDelayedCall | None = None


class CallingProtocol(FlowProtocol):
    """A connection with calls that take their time.

    A call that has been answered early, because its time was up or its client did not want it any
    more, keeps its place until what it awaited has really ended. So does a stream, among those of
    its own kind.
    """

    __slots__ = ("_calls", "_takes_no_calls")

    # By their `id`. A connection that idles has no dicts.
    _running: dict[str | int, Deferred[Any]] | None = None

    # How many of the calls are streams, and those that have something to do.
    _streams = 0
    _turns: deque[Deferred[None]] | None = None

    if TYPE_CHECKING:
        # None: no call is running.
        _calls: dict[Deferred[Any], _Call] | None

    def __new__(cls, *arguments: Any, **keywords: Any) -> Self:
        """Make a protocol that is not connected."""
        self = super().__new__(cls, *arguments, **keywords)
        self._calls = None
        # It is being closed, or the server stops.
        self._takes_no_calls = False
        return self

    @property
    def unanswered(self) -> int:
        """How many messages have been read and not answered."""
        return len(self.running) + len(self._held or ())

    @property
    def running(self) -> list[Request | None]:
        """The requests whose calls run and are to be answered."""
        calls = list((self._calls or {}).values())
        return [call.request for call in calls if not call.is_answered]

    @property
    def has_only_streams(self) -> bool:
        """Whether all that is to be answered are streams, which may have no end."""
        calls = list((self._calls or {}).values())
        unanswered = [call for call in calls if not call.is_answered]
        return bool(unanswered) and all(call.is_stream for call in unanswered)

    def _state_changed(self) -> None:
        super()._state_changed()
        if self._state == self.STATE_CLOSING:
            # A view would run for nothing: no reply follows a close frame.
            self._takes_no_calls = True

    def cancel_call(self, request: Request) -> None:
        """End the call that a CANCEL names; one that is not running has been answered."""
        if request.id is None:
            raise MalformedMessage("`id` is missing: CANCEL ends the call that has it.")
        pending = (self._running or {}).get(request.id)
        if pending is not None:
            self._end_call(pending, CallCancelled())

    def drain(self) -> None:
        """Answer what comes from now on with 503."""
        self._takes_no_calls = True

    def finish(self, code: int) -> None:
        """Answer all that has been read, and send the close frame."""
        if self._state == self.STATE_OPEN:
            self._is_finishing = True
            self._is_resting = self._is_holding = False
            self._begin_turn()
            self._go_on()
            # sendClose() refuses most codes that a server has.
            self.sendCloseFrame(code, None, isReply=False)
            self._is_finishing = False
            self._resume_reading()

    def cut_calls(self) -> int:
        """Answer the calls that run with 503, and cancel them; return how many they were."""
        running = [
            pending for pending, call in (self._calls or {}).items() if not call.is_answered
        ]
        for pending in running:
            self._end_call(pending, ServiceUnavailable(STOPPING))
        return len(running)

    def _check_room_for(self, request: Request) -> None:
        if self._takes_no_calls:
            raise ServiceUnavailable(STOPPING)
        if request.id is not None and self._running and request.id in self._running:
            raise MalformedMessage("`id` belongs to a call that is still running.")

    def _reply_later(self, request: Request | None, answer: Any, isBinary: bool) -> None:
        try:
            pending = answer if isinstance(answer, Deferred) else drive(_awaited(answer))
        except Exception as exc:  # noqa: BLE001  a router of somebody else's may raise anything
            pending = self._internal_error(request, exc)
        if not isinstance(pending, Deferred):
            self._answer(request, pending, isBinary)
            return
        call = _Call(request, isBinary)
        self._begin_call(pending, call)
        if request is not None:
            seconds = self._seconds_for(request)
            if seconds is not None:
                self._limit_call(pending, call, seconds)
        if self._is_full():
            self._begin_holding()
        pending.addBoth(self._answered, pending, call)

    def _begin_call(self, pending: Deferred[Any], call: _Call) -> None:
        if self._calls is None:
            self._calls = {}
        self._calls[pending] = call
        if call.request is not None and call.request.id is not None:
            if self._running is None:
                self._running = {}
            self._running[call.request.id] = pending

    def _limit_call(self, pending: Deferred[Any], call: _Call, seconds: float) -> None:
        reactor = self.factory.reactor
        call.timer = reactor.callLater(seconds, self._end_call, pending, DeadlineExceeded())

    def _is_full(self) -> bool:
        at_most: int = self.factory.limits.calls_in_flight
        return len(self._calls or ()) - self._streams >= at_most

    def _answer(
        self,
        request: Request | None,
        reply: Any,
        isBinary: bool,
        seconds_left: float | None = None,
    ) -> None:
        """Send a reply, or begin a stream, which has `seconds_left` of the time of its call."""
        if not isinstance(reply, Stream):
            self._reply(request, reply, isBinary)
        elif self._state != self.STATE_OPEN:
            discard(reply)
        elif self._streams >= self.factory.limits.streams:
            self.factory.limit_hits.note("streams", self.peer, "429")
            discard(reply)
            self._reply(request, self._failure(request, TooManyStreams()), isBinary)
        else:
            call = _Call(request, isBinary)
            call.is_stream = True
            self._streams += 1
            run = StreamRun(self, request, reply, isBinary)
            self._begin_call(run.pending, call)
            if seconds_left is None and request is not None:
                seconds_left = self._seconds_for(request)
            if seconds_left is not None:
                self._limit_call(run.pending, call, max(0, seconds_left))
            run.pending.addBoth(self._stream_ended, run.pending, call)
            run.begin()

    def stream_turn(self) -> Deferred[None]:
        """Return a Deferred that fires in a turn of the loop that no other stream here has."""
        if self._turns is None:
            self._turns = deque()
            self.factory.reactor.callLater(0, self._give_turn)
        turn: Deferred[None] = Deferred()
        self._turns.append(turn)
        return turn

    def _give_turn(self) -> None:
        turns = self._turns or deque()
        while turns and turns[0].called:
            turns.popleft()  # cancelled
        turn = turns.popleft() if turns else None
        if turns:
            self.factory.reactor.callLater(0, self._give_turn)
        else:
            self._turns = None
        if turn is not None:
            turn.callback(None)

    def stream_over(self, pending: Deferred[Any]) -> None:
        """Note that the last reply of a stream is being sent, which has yet to be closed."""
        call = (self._calls or {}).get(pending)
        if call is not None:
            self._note_answered(pending, call)

    def _stream_ended(self, failure: Any, pending: Deferred[Any], call: _Call) -> None:
        if isinstance(failure, Failure):
            # An override has raised as it sent an item.
            logger.error("a stream could not be sent", exc_info=failure.value)
        if self._calls is None:
            return  # nobody is there any more
        if not call.is_answered:
            self._note_answered(pending, call)
        self._streams -= 1
        del self._calls[pending]
        if not self._calls:
            self._calls = None

    def _seconds_for(self, request: Request) -> float | None:
        """Return how long a call may take: its own timeout only shortens what the server gives."""
        ours: float | None = getattr(request, "_call_seconds", None)
        if ours is None:
            ours = self.factory.limits.call_seconds
        theirs = request.timeout
        if ours is None or theirs is None:
            return ours if theirs is None else theirs
        return min(ours, theirs)

    def _answered(self, reply: Any, pending: Deferred[Any], call: _Call) -> None:
        if self._calls is None:  # nobody is there any more
            if isinstance(reply, Stream):
                discard(reply)
            return
        del self._calls[pending]
        # An override may raise as it sends; the calls that wait for this one go on.
        try:
            if not call.is_answered:
                ends_at = call.timer.getTime() if call.timer is not None else None
                self._note_answered(pending, call)
                if isinstance(reply, Failure):
                    reply = self._internal_error(call.request, reply.value)
                left = None if ends_at is None else ends_at - self.factory.reactor.seconds()
                self._answer(call.request, reply, call.is_binary, left)
            elif isinstance(reply, Stream):
                discard(reply)
        finally:
            if not self._calls:
                self._calls = None
            if self._is_holding and self._greeting is None:
                self._end_holding()

    def _end_call(self, pending: Deferred[Any], exc: BaseAPIException) -> None:
        """Answer a call that has not ended with a failure, and cancel what it awaits."""
        call = (self._calls or {}).get(pending)
        if call is None or call.is_answered:
            return
        self._note_answered(pending, call)
        if isinstance(exc, DeadlineExceeded):
            self.factory.limit_hits.note("call_seconds", self.peer, f"408: {call.request!r}")
        self._reply(call.request, self._failure(call.request, exc), call.is_binary)
        _cancel(pending)

    def _note_answered(self, pending: Deferred[Any], call: _Call) -> None:
        call.is_answered = True
        if call.timer is not None and call.timer.active():
            call.timer.cancel()
        request_id = call.request.id if call.request is not None else None
        if self._running and self._running.get(request_id) is pending:  # type: ignore[arg-type]
            del self._running[request_id]  # type: ignore[arg-type]

    def _end_calls(self) -> None:
        """Cancel all calls: nobody waits for them."""
        calls, self._calls, self._running, self._streams = self._calls, None, None, 0
        for pending, call in (calls or {}).items():
            if call.timer is not None and call.timer.active():
                call.timer.cancel()
            if not call.is_answered:
                _cancel(pending)

    # Given by RequestHandlerProtocol

    _greeting: Deferred[Any] | None = None

    def _reply(self, request: Request | None, reply: Any, isBinary: bool) -> Any:
        raise NotImplementedError

    def _send_reply(self, request: Request | None, reply: Any, isBinary: bool) -> Any:
        raise NotImplementedError

    def _note_sent(self, request: Request | None, last: bytes, size: int) -> None:
        """Note that so many bytes have answered a request."""

    def _failure(self, request: Request | None, exc: BaseAPIException) -> bytes:
        raise NotImplementedError

    def _internal_error(self, request: Request | None, exc: BaseException | None = None) -> bytes:
        raise NotImplementedError


def _cancel(pending: Deferred[Any]) -> None:
    try:
        pending.cancel()
    except Exception as exc:  # noqa: BLE001  a canceller of the application's
        logger.error("a call could not be cancelled", exc_info=exc)


async def _awaited(answer: Any) -> Any:
    return await answer
