"""The running calls of a connection: their number, their deadlines, and how they end."""

import binascii
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from aiorest_ws.awaiting import start
from aiorest_ws.connection.stream_sender import StreamSender
from aiorest_ws.contract.depends import close_all
from aiorest_ws.dispatch.failures import internal_error_reply, render_failure
from aiorest_ws.dispatch.streams import Stream, discard
from aiorest_ws.exceptions import (
    BaseAPIException,
    CallCancelled,
    DeadlineExceeded,
    MalformedMessage,
    ServiceUnavailable,
    TooManyStreams,
)
from aiorest_ws.interfaces import Connection
from aiorest_ws.log import logger
from aiorest_ws.topics.subscriptions import Subscriptions
from aiorest_ws.wrappers import CANCEL, PING, UNSUBSCRIBE, Request, normalize_method

__all__ = ("STOPPING", "Calls", "close_dependencies", "is_urgent")

# An `id` has at most 128 bytes, a topic 200; larger messages are queued like all others.
MAX_ENDING_BYTES = 1024

STOPPING = "The server is shutting down."


def is_urgent(
    decode: Callable[[bytes, bool], Request],
    subscriptions: Subscriptions | None,
    payload: bytes,
    is_binary: bool,
) -> bool:
    """Tell whether a message does not wait for calls: a CANCEL, a PING, or an UNSUBSCRIBE."""
    if not _may_be_urgent(payload, is_binary):
        return False
    try:
        request = decode(payload, is_binary)
    except Exception:  # noqa: BLE001  it is refused when its turn comes
        return False
    word = normalize_method(request.method)
    if request.url is None:
        return word in (CANCEL, PING)
    if subscriptions is None or word != UNSUBSCRIBE:
        return False
    return subscriptions.is_urgent(request.url)


def _may_be_urgent(payload: bytes, is_binary: bool) -> bool:
    if len(payload) > MAX_ENDING_BYTES:
        return False
    if is_binary:
        try:
            payload = binascii.a2b_base64(payload)
        except binascii.Error:
            return False
    lowered = payload.lower()
    return any(word in lowered for word in (b"cancel", b"unsubscribe", b"ping"))


class _Call:
    __slots__ = ("is_answered", "is_binary", "is_stream", "request", "timer")

    def __init__(self, request: Request | None, is_binary: bool, is_stream: bool = False) -> None:
        self.request = request
        self.is_binary = is_binary
        self.is_answered = False
        self.is_stream = is_stream
        self.timer: IDelayedCall | None = None


class Calls:
    """The calls of one connection that have not been answered at once.

    A call that is answered early, because its deadline has passed or its client cancelled it,
    keeps its place until what it awaited has really ended. So does a stream, among the streams.
    """

    __slots__ = (
        *("_connection", "_handlers", "_is_closed", "_running", "_streams", "_turns", "by_id"),
    )

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._running: dict[Deferred[Any], _Call] = {}
        # The calls that are to be answered, by the `id` of their requests.
        self.by_id: dict[str | int, Deferred[Any]] | None = None
        # What a coroutine `onMessage` of the application waits in.
        self._handlers: set[Deferred[Any]] | None = None
        # The number of streams among the calls, and those that wait for their turn.
        self._streams = 0
        self._turns: deque[Deferred[None]] | None = None
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._running)

    @property
    def unanswered(self) -> list[Request | None]:
        """The requests that are still to be answered; None for an `onMessage` that waits."""
        unanswered = [one.request for one in list(self._running.values()) if not one.is_answered]
        return unanswered + [None] * len(self._handlers) if self._handlers else unanswered

    @property
    def has_only_streams(self) -> bool:
        """Whether all that is to be answered are streams, which may have no end."""
        unanswered = [call for call in list(self._running.values()) if not call.is_answered]
        return bool(unanswered) and all(call.is_stream for call in unanswered)

    def check_id(self, request: Request) -> None:
        """Raise MalformedMessage for the `id` of a call that runs."""
        if request.id is not None and self.by_id and request.id in self.by_id:
            raise MalformedMessage("`id` belongs to a call that is still running.")

    def cancel(self, request_id: str | int) -> None:
        """End a call; a call that is not running has been answered."""
        pending = (self.by_id or {}).get(request_id)
        if pending is not None:
            self._end(pending, CallCancelled())

    def cut(
        self, requests: Sequence[Request | None] | None, detail: str, *, are_streams: bool
    ) -> int:
        """Answer calls that run with 503, and cancel them; return how many they were.

        `requests` are theirs, None for all; with `are_streams` those of streams only.
        """
        cut = [
            pending
            for pending, call in self._running.items()
            if not call.is_answered
            and (requests is None or call.request in requests)
            and (call.is_stream or not are_streams)
        ]
        for pending in cut:
            self._end(pending, ServiceUnavailable(detail))
        return len(cut)

    def close(self) -> None:
        """Cancel all calls: nobody waits for them."""
        self._is_closed = True
        running, self._running, self.by_id, self._streams = self._running, {}, None, 0
        for pending, call in running.items():
            _stop_timer(call)
            if not call.is_answered:
                _cancel(pending)

    def wait_for(
        self, request: Request | None, pending: Deferred[Any], is_binary: bool
    ) -> Deferred[Any]:
        """Answer a request with what `pending` fires with; return `pending`."""
        call = _Call(request, is_binary)
        self._start(pending, call, self._seconds_for(request))
        if not self._has_room:
            self._connection.start_queueing()
        return pending.addBoth(self._answered, pending, call)

    @property
    def _has_room(self) -> bool:
        running = max(len(self._running) - self._streams, len(self._handlers or ()))
        return bool(running < self._connection.factory.limits.calls_in_flight)

    def handle(self, pending: Deferred[Any]) -> None:
        """Count an `onMessage` of the application, which may call ours later, until it ends."""
        if pending in self._running:
            return  # it has returned what ours has
        if self._handlers is None:
            self._handlers = set()
        self._handlers.add(pending)
        if not self._has_room:
            self._connection.start_queueing()
        pending.addBoth(self._handled, pending, self._handlers)

    def _handled(self, result: Any, pending: Deferred[Any], handlers: set[Deferred[Any]]) -> Any:
        handlers.discard(pending)
        if not self._is_closed:
            self._forget_if_idle()
            self._resume()
        return result

    def _resume(self) -> None:
        if self._has_room:
            self._connection.resume_calls()

    def send_stream(
        self, request: Request | None, stream: Stream, is_binary: bool, seconds_left: float | None
    ) -> None:
        """Send a stream, which has `seconds_left` of the time of its call; refuse too many."""
        connection = self._connection
        if self._streams >= connection.factory.limits.streams:
            connection.factory.limit_hits.note("streams", connection.peer, "429")
            discard(stream)
            refusal = render_failure(request, TooManyStreams())
            connection.answer_call(request, refusal, is_binary, None)
            return
        self._streams += 1
        sender = StreamSender(connection, self, request, stream, is_binary)
        call = _Call(request, is_binary, is_stream=True)
        seconds = self._seconds_for(request) if seconds_left is None else max(0, seconds_left)
        self._start(sender.pending, call, seconds)
        sender.pending.addBoth(self._stream_ended, sender.pending, call)
        sender.start()

    def stream_turn(self) -> Deferred[None]:
        """Return a Deferred that fires in a turn of the loop that no other stream here has."""
        if self._turns is None:
            self._turns = deque()
            self._connection.factory.reactor.callLater(0, self._give_turn)
        turn: Deferred[None] = Deferred()
        self._turns.append(turn)
        return turn

    def stream_over(self, pending: Deferred[Any]) -> None:
        """Note that the last reply of a stream is being sent, which has yet to be closed."""
        call = self._running.get(pending)
        if call is not None:
            self._note_answered(pending, call)

    def _give_turn(self) -> None:
        turns = self._turns or deque()
        while turns and turns[0].called:
            turns.popleft()  # cancelled
        turn = turns.popleft() if turns else None
        if turns:
            self._connection.factory.reactor.callLater(0, self._give_turn)
        else:
            self._turns = None
        if turn is not None:
            turn.callback(None)

    def _start(self, pending: Deferred[Any], call: _Call, seconds: float | None) -> None:
        self._running[pending] = call
        if call.request is not None and call.request.id is not None:
            if self.by_id is None:
                self.by_id = {}
            self.by_id[call.request.id] = pending
        if seconds is not None:
            reactor = self._connection.factory.reactor
            call.timer = reactor.callLater(seconds, self._end, pending, DeadlineExceeded())

    def _seconds_for(self, request: Request | None) -> float | None:
        """Return how long a call may take: its own timeout only shortens what the server gives."""
        if request is None:
            return None
        ours: float | None = getattr(request, "_call_seconds", None)
        if ours is None:
            ours = self._connection.factory.limits.call_seconds
        theirs = request.timeout
        if ours is None or theirs is None:
            return ours if theirs is None else theirs
        return min(ours, theirs)

    def _answered(self, reply: Any, pending: Deferred[Any], call: _Call) -> None:
        connection = self._connection
        if self._is_closed:
            close_dependencies(connection, call.request)
            if isinstance(reply, Stream):
                discard(reply)
            return
        del self._running[pending]
        # An override may raise while it sends; queued messages are handled all the same.
        try:
            if not call.is_answered:
                ends_at = call.timer.getTime() if call.timer is not None else None
                self._note_answered(pending, call)
                if isinstance(reply, Failure):
                    reply = internal_error_reply(call.request, reply.value)
                left = None if ends_at is None else ends_at - connection.factory.reactor.seconds()
                connection.answer_call(call.request, reply, call.is_binary, left)
            elif isinstance(reply, Stream):
                discard(reply)
        finally:
            if call.request is not None:
                connection.call_ended(call.request)
            self._forget_if_idle()
            self._resume()

    def _stream_ended(self, failure: Any, pending: Deferred[Any], call: _Call) -> None:
        if isinstance(failure, Failure):
            # An override raised while it sent an item.
            logger.error("a stream could not be sent", exc_info=failure.value)
        if self._is_closed:
            return
        if not call.is_answered:
            self._note_answered(pending, call)
        self._streams -= 1
        del self._running[pending]
        self._forget_if_idle()

    def _forget_if_idle(self) -> None:
        if not (self._running or self._handlers or self._is_closed):
            self._connection.forget_calls()

    def _end(self, pending: Deferred[Any], exc: BaseAPIException) -> None:
        """Answer a call that has not ended with a failure, and cancel what it awaits."""
        call = self._running.get(pending)
        if call is None or call.is_answered:
            return
        self._note_answered(pending, call)
        connection = self._connection
        if call.request is not None:
            connection.call_ended(call.request)
        if isinstance(exc, DeadlineExceeded):
            words = f"408: {call.request!r}"
            connection.factory.limit_hits.note("call_seconds", connection.peer, words)
        connection.answer_call(
            call.request, render_failure(call.request, exc), call.is_binary, None
        )
        _cancel(pending)

    def _note_answered(self, pending: Deferred[Any], call: _Call) -> None:
        call.is_answered = True
        _stop_timer(call)
        request = call.request
        if request is None or request.id is None or self.by_id is None:
            return
        if self.by_id.get(request.id) is pending:
            del self.by_id[request.id]


def close_dependencies(connection: Connection, request: Any) -> None:
    """Close what a call depended on; until then it counts as one that runs."""
    opened = getattr(request, "_opened", None)
    if not opened:
        return
    request._opened = None
    pending = start(close_all(opened))
    if not pending.called:
        connection.note_handling(pending)


def _stop_timer(call: _Call) -> None:
    if call.timer is not None and call.timer.active():
        call.timer.cancel()


def _cancel(pending: Deferred[Any]) -> None:
    try:
        pending.cancel()
    except BaseException as exc:  # noqa: BLE001  a canceller of the application's
        logger.error("a call could not be cancelled", exc_info=exc)
