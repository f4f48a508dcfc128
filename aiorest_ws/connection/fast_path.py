"""Ordinary messages on a short way, past Autobahn's state machine.

The way is open while the connection is, between two messages, with nothing buffered, for messages
that `framing` takes. A byte of anything else goes to Autobahn as it came. Which way is open is
decided when something changes, so that a message has one number to look at.
"""

import sys
import time
from inspect import getattr_static
from typing import TYPE_CHECKING, Any, ClassVar, Self

from twisted.logger import Logger

from aiorest_ws.connection.handshake import GuardedProtocol
from aiorest_ws.framing import (
    BINARY,
    SHORT_TEXT_HEADERS,
    header_of,
    messages,
    only_message,
)

__all__ = ("FastPathProtocol",)

_log = Logger("aiorest-ws")

MESSAGES_PER_TURN = 64
SECONDS_PER_TURN = 0.001

# A reply above this is not kept back to leave with others.
CORKED_BYTES = 64 * 1024

_CLOSED = -1

# Where Autobahn hands over parts of messages; a subclass that looks there sees all of them.
_RECEIVING = (
    *("_dataReceived", "consumeData", "processData", "fire"),
    *("onFrameBegin", "onFrameData", "onFrameEnd"),
    *("onMessageBegin", "onMessageFrameBegin", "onMessageFrameData", "onMessageFrameEnd"),
    *("onMessageFrame", "onMessageEnd", "_onMessageBegin", "_onMessageFrameBegin"),
    *("_onMessageFrameData", "_onMessageFrameEnd", "_onMessageFrame", "_onMessageEnd"),
    "_onMessage",
)
_SENDING = ("sendFrame", "sendData")

# What a reply passes, unless nobody has changed it.
_REPLYING = ("sendMessage", "_encode_message")

# Options that open the short way or close it.
_WATCHED_OPTIONS = frozenset(
    {
        "applyMask",
        "autoFragmentSize",
        "logFrames",
        "logOctets",
        "maskServerFrames",
        "maxFramePayloadSize",
        "maxMessagePayloadSize",
        "utf8validateIncoming",
    }
)


class _WatchedOption:
    """An option of Autobahn's that a connection may set for itself at any time."""

    def __init__(self, name: str, value: Any) -> None:
        self._name = name
        self._value = value

    def __get__(self, connection: "FastPathProtocol | None", owner: type) -> Any:
        return self._value if connection is None else vars(connection).get(self._name, self._value)

    def __set__(self, connection: "FastPathProtocol", value: Any) -> None:
        vars(connection)[self._name] = value
        vars(connection)["_short_way_limits"] = None  # it has its own from now on
        connection._choose_ways()


class FastPathProtocol(GuardedProtocol):
    """Autobahn's protocol; ordinary messages come to `onMessage`, and leave, without it.

    A client that pipelines gets a bounded part of each turn of the loop. What is sent while the
    messages of one read are handled leaves in one write.
    """

    __slots__ = (
        "_corked",
        "_messages_left",
        "_receive_limit",
        "_reply_limit",
        "_send_limit",
        "_transport",
        "_turn_ends",
    )

    if TYPE_CHECKING:
        _corked: list[bytes] | None
        _transport: Any

    _is_resting = False

    _receives_in_parts: ClassVar[bool] = False
    _sends_in_parts: ClassVar[bool] = False
    _has_own_replies: ClassVar[bool] = False

    # What the options of the class say, once they have been asked; a connection that has changed
    # one for itself has its own.
    _short_way_limits: ClassVar[tuple[int, int] | None] = None

    def __new__(cls, *arguments: Any, **keywords: Any) -> Self:
        """Make a protocol that is not connected."""
        self = super().__new__(cls, *arguments, **keywords)
        # The largest payload that may take the short way, in bytes.
        self._receive_limit = self._send_limit = self._reply_limit = _CLOSED
        self._corked = None
        self._transport = None
        # What is left of this turn of the loop: messages, and the time at which it is over.
        self._messages_left = 0
        self._turn_ends = 0.0
        return self

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._short_way_limits = None
        for name in _WATCHED_OPTIONS:
            option = getattr_static(cls, name, None)
            if option is not None and not isinstance(option, _WatchedOption):
                setattr(cls, name, _WatchedOption(name, option))
        cls._receives_in_parts = any(_is_overridden(cls, name) for name in _RECEIVING)
        cls._sends_in_parts = any(_is_overridden(cls, name) for name in _SENDING)
        cls._has_own_replies = any(_is_overridden(cls, name) for name in _REPLYING)

    @classmethod
    def class_option(cls, name: str, value: Any) -> Any:
        """Return what stands in a class for an option that Autobahn would set on an instance."""
        if name in _WATCHED_OPTIONS:
            return _WatchedOption(name, value)
        return super().class_option(name, value)

    @property
    def transport(self) -> Any:
        """The transport, with nothing of this connection kept back from it."""
        if self._corked:
            self._write_corked()
        return self._transport

    @transport.setter
    def transport(self, transport: Any) -> None:
        self._transport = transport

    # Receiving

    def dataReceived(self, data: bytes) -> None:
        """Take bytes from the transport; one chunk comes in one turn of the loop."""
        limit = self._receive_limit
        if limit == _CLOSED:
            self._begin_turn()
            self._dataReceived(data)
            return
        stats = self.trafficStats
        stats.incomingOctetsWireLevel += len(data)
        payload = only_message(data, limit)
        if payload is None:
            self._begin_turn()
            taken = self._take_messages(data)
            # Unless there is more, a message has closed the way, or this turn is over.
            if (
                taken < len(data)
                or self._receive_limit == _CLOSED
                or self._messages_left <= 0
                or time.monotonic() >= self._turn_ends
            ):
                self.data = data[taken:]
                self.consumeData()
            return
        # As in _take_messages; most reads are of one message.
        stats.ordinary_octets_in += len(payload)
        stats.ordinary_in += 1
        if self.autoPingTimeoutCall and self.autoPingRestartOnAnyTraffic:
            self._cancelAutoPingTimeoutCall()  # type: ignore[no-untyped-call]
        self.onMessage(payload, data[0] == BINARY)

    def consumeData(self) -> None:
        """Handle what has been received, as far as this turn goes."""
        if self._is_resting:
            return
        if self.data:
            data, self.data = self.data, b""
            self._choose_ways()
            taken = self._take_messages(data) if self._receive_limit != _CLOSED else 0
            self.data = data[taken:]
        if not self._is_resting:
            super().consumeData()
        self._choose_ways()

    def processData(self) -> bool:
        """Take a part of a frame out of what has been received, unless others are due first."""
        if self._is_resting or self._rests():
            return False
        return bool(super().processData())

    def _take_messages(self, data: bytes) -> int:
        """Handle the ordinary messages at the head of `data`; return how many bytes they are."""
        taken = handled = 0
        limit = self._receive_limit
        stats = self.trafficStats
        self._corked = []
        try:
            for payload, is_binary, end in messages(data, limit, self._messages_left):
                # One is taken, however slow the machine. A message may close the way behind it.
                if handled and (
                    time.monotonic() >= self._turn_ends or self._receive_limit != limit
                ):
                    break
                handled += 1
                taken = end
                stats.ordinary_octets_in += len(payload)
                stats.ordinary_in += 1
                if self.autoPingTimeoutCall and self.autoPingRestartOnAnyTraffic:
                    self._cancelAutoPingTimeoutCall()  # type: ignore[no-untyped-call]
                self.onMessage(payload, is_binary)
        finally:
            self._messages_left -= handled
            if self._corked:
                self._write_corked()
            self._corked = None
        return taken

    def onFrameEnd(self) -> Any:
        """Handle a frame, which counts as a message: one may be a ping, or a part of a message."""
        self._messages_left -= 1
        return super().onFrameEnd()

    # Turns

    def _begin_turn(self) -> None:
        self._messages_left = MESSAGES_PER_TURN
        self._turn_ends = time.monotonic() + SECONDS_PER_TURN

    def _rests(self) -> bool:
        """Stop until the next turn if this one is over; tell whether it is."""
        left = self._messages_left
        # One is taken, however slow the machine.
        if left == MESSAGES_PER_TURN or (left > 0 and time.monotonic() < self._turn_ends):
            return False
        self.transport.pauseProducing()
        self._go_on_soon()
        return True

    def _go_on_soon(self) -> None:
        """Go on in the next turn with what has been received."""
        if not self._is_resting:
            self._is_resting = True
            self._choose_ways()
            self.factory.reactor.callLater(0, self._go_on_next_turn)

    def _go_on_next_turn(self) -> None:
        self._is_resting = False
        if self.state == self.STATE_CLOSED:
            return
        self._begin_turn()
        try:
            self._go_on()
        except Exception:  # noqa: BLE001  as a transport does, in whose call this mostly is
            _log.failure("a message could not be handled")
            self.transport.abortConnection()
        self._resume_reading()

    def _go_on(self) -> None:
        self.consumeData()

    def _reads(self) -> bool:
        """Tell whether more may be read from the client."""
        return not self._is_resting

    def _resume_reading(self) -> None:
        if self._reads():
            self.transport.resumeProducing()

    # Sending

    def sendMessage(
        self,
        payload: bytes,
        isBinary: bool = False,
        fragmentSize: int | None = None,
        sync: bool = False,
        doNotCompress: bool = False,
    ) -> None:
        """Send a message; raise Disconnected when the connection is not open."""
        if (
            type(payload) is not bytes
            or len(payload) > self._send_limit
            or (isBinary is not False and isBinary is not True)
            or fragmentSize is not None
            or sync is not False
            or doNotCompress is not False
        ):
            super().sendMessage(payload, isBinary, fragmentSize, sync, doNotCompress)  # type: ignore[no-untyped-call]
        else:
            self._send_ordinary(payload, isBinary)

    def _send_ordinary(self, payload: bytes, isBinary: bool) -> None:
        """Send a message that is not above the limit for the short way."""
        size = len(payload)
        if size < 126 and not isBinary:  # most of them
            frame = SHORT_TEXT_HEADERS[size] + payload
        else:
            frame = header_of(size, isBinary) + payload
        stats = self.trafficStats
        stats.outgoingOctetsWireLevel += len(frame)
        stats.ordinary_octets_out += size
        stats.ordinary_out += 1
        if self._corked is None:
            # A method call would be slower: it is in a slot.
            write = self._transport.write
            write(frame)
        else:
            self._corked.append(frame)
            if size > CORKED_BYTES:
                self._write_corked()

    # Autobahn keeps what is written in pieces in a queue; while there is one, all goes there.

    def _trigger(self) -> None:
        self._send_limit = self._reply_limit = _CLOSED
        super()._trigger()

    def _send(self) -> None:
        super()._send()
        if not self.triggered:
            self._choose_ways()

    def _write_corked(self) -> None:
        frames, self._corked = self._corked or [], []
        self._transport.write(frames[0] if len(frames) == 1 else b"".join(frames))

    # Which way

    def _state_changed(self) -> None:
        if self._state != self.STATE_OPEN:
            self._receive_limit = self._send_limit = self._reply_limit = _CLOSED

    def _choose_ways(self) -> None:
        """Decide which messages may take the short way from here on."""
        self._receive_limit = self._send_limit = self._reply_limit = _CLOSED
        if self._state != self.STATE_OPEN or self.trackedTimings is not None:
            return
        receive_limit, send_limit = self._short_way_limits or self._read_options()
        if self._may_send():
            self._send_limit = send_limit
            if not self._has_own_replies:
                self._reply_limit = send_limit
        if self._may_receive():
            self._receive_limit = receive_limit

    def _may_send(self) -> bool:
        return self._perMessageCompress is None and not self.triggered

    def _may_receive(self) -> bool:
        return not (
            self._is_resting
            or self.data
            or self.current_frame is not None
            or self.inside_message
            or self._listeners
        )

    def _read_options(self) -> tuple[int, int]:
        """Return the limits that the options leave to messages, in and out; remember them."""
        limits = self._limits_of_options()
        if "_short_way_limits" in vars(self):
            vars(self)["_short_way_limits"] = limits
        else:
            type(self)._short_way_limits = limits
        return limits

    def _limits_of_options(self) -> tuple[int, int]:
        if self.logOctets or self.logFrames:
            return _CLOSED, _CLOSED
        message, frame = (
            limit if limit > 0 else sys.maxsize
            for limit in (self.maxMessagePayloadSize, self.maxFramePayloadSize)
        )
        receives = not self._receives_in_parts and self.applyMask and self.utf8validateIncoming
        sends = not (self._sends_in_parts or self.maskServerFrames or self.autoFragmentSize > 0)
        return min(message, frame) if receives else _CLOSED, message if sends else _CLOSED

    def succeedHandshake(self, res: Any) -> None:
        """Answer the opening handshake, and open the short way."""
        super().succeedHandshake(res)
        self._choose_ways()

    def on(self, event: str, handler: Any) -> None:
        """Call `handler` for each event of that name; there is `message`."""
        super().on(event, handler)
        self._choose_ways()

    def setTrackTimings(self, enable: bool) -> None:
        """Note when a message passes the stations of Autobahn's way, or stop it."""
        super().setTrackTimings(enable)
        self._choose_ways()


def _is_overridden(kind: type, name: str) -> bool:
    owner = next((ancestor for ancestor in kind.__mro__ if name in vars(ancestor)), kind)
    return owner.__module__.partition(".")[0] not in {"aiorest_ws", "autobahn"}
