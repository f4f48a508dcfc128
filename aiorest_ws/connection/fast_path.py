"""The fast path: ordinary messages bypass Autobahn's state machine.

It may be taken while the connection is open, between two messages, with nothing buffered, by
messages that `framing` takes. A byte of anything else goes to Autobahn as it came. Whether it may
be taken is decided when something changes, so a message has one number to look at.
"""

import time
from contextlib import AbstractContextManager
from inspect import getattr_static
from typing import TYPE_CHECKING, Any, ClassVar, Self

from twisted.logger import Logger

from aiorest_ws.connection import options
from aiorest_ws.connection.autobahn import RECEIVING
from aiorest_ws.connection.cork import NOTHING, Cork
from aiorest_ws.connection.flow_state import (
    DRAINING,
    FINISHING,
    NOT_RECEIVING,
    WRITE_PAUSED,
    YIELDING,
    FlowState,
)
from aiorest_ws.connection.handshake import GuardedProtocol
from aiorest_ws.connection.options import CLOSED
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

# A larger reply is written at once.
CORKED_BYTES = 64 * 1024

# The most pushes in one write.
CORKED_FRAMES = 64


class FastPathProtocol(GuardedProtocol):
    """Autobahn's protocol; ordinary messages reach `onMessage`, and are sent, without it.

    A client that pipelines gets a bounded part of each turn of the loop. What is sent while the
    messages of one read are handled leaves in one write.
    """

    __slots__ = (
        "_corked",
        "_flow",
        "_messages_left",
        "_receive_limit",
        "_reply_limit",
        "_send_limit",
        "_transport",
        "_turn_ends",
    )

    if TYPE_CHECKING:
        _corked: list[bytes] | None
        _flow: int
        _transport: Any

        # Given by the classes that derive from this one.
        def _go_on(self) -> None: ...
        def _reads(self) -> bool: ...

    _receives_in_parts: ClassVar[bool] = False
    _sends_in_parts: ClassVar[bool] = False
    _has_own_replies: ClassVar[bool] = False

    # The limits by the options of the class, once they have been read; a connection that has set
    # an option for itself has its own.
    _fast_path_limits: ClassVar[tuple[int, int] | None] = None

    def __new__(cls, *arguments: Any, **keywords: Any) -> Self:
        """Make a protocol that is not connected."""
        self = super().__new__(cls, *arguments, **keywords)
        # The largest payload that may take the fast path, in bytes.
        self._receive_limit = self._send_limit = self._reply_limit = CLOSED
        self._corked = None
        self._flow = 0
        self._transport = None
        # What is left of this turn of the loop: messages, and the time at which it is over.
        self._messages_left = 0
        self._turn_ends = 0.0
        return self

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._fast_path_limits = None
        for name in options.WATCHED:
            option = getattr_static(cls, name, None)
            if option is not None and not isinstance(option, options.WatchedOption):
                setattr(cls, name, options.WatchedOption(name, option))
        cls._receives_in_parts = options.is_changed(cls, RECEIVING)
        cls._sends_in_parts = options.is_changed(cls, options.SENDING)
        cls._has_own_replies = options.is_changed(cls, options.REPLYING)

    @classmethod
    def class_option(cls, name: str, value: Any) -> Any:
        """Return what stands in a class for an option that Autobahn would set on an instance."""
        if name in options.WATCHED:
            return options.WatchedOption(name, value)
        return super().class_option(name, value)

    @property
    def transport(self) -> Any:
        """The transport; delayed writes are written first."""
        if self._corked:
            self.write_corked()
        return self._transport

    @transport.setter
    def transport(self, transport: Any) -> None:
        self._transport = transport

    # Receiving

    def dataReceived(self, data: bytes) -> None:
        """Handle one read from the transport."""
        limit = self._receive_limit
        if limit == CLOSED:
            self._begin_turn()
            super().dataReceived(data)
            return
        stats = self.trafficStats
        stats.incomingOctetsWireLevel += len(data)
        payload = only_message(data, limit)
        if payload is None:
            self._begin_turn()
            taken = self._take_messages(data)
            # Unless there is more, a message has closed the path, or this turn is over.
            if (
                taken < len(data)
                or self._receive_limit == CLOSED
                or self._messages_left <= 0
                or time.monotonic() >= self._turn_ends
            ):
                self._leave_unread(data[taken:])
                self.consumeData()
            return
        # As in _take_messages; most reads are of one message.
        stats.ordinary_octets_in += len(payload)
        stats.ordinary_in += 1
        if self.autoPingTimeoutCall and self.autoPingRestartOnAnyTraffic:
            self._restart_ping()
        self.onMessage(payload, data[0] == BINARY)

    def consumeData(self) -> None:
        """Handle what has been received, as far as this turn goes."""
        if self._flow & YIELDING:
            return
        if self.data:
            data = self.data
            self._leave_unread(b"")
            self._choose_path()
            taken = self._take_messages(data) if self._receive_limit != CLOSED else 0
            self._leave_unread(data[taken:])
        if not self._flow & YIELDING:
            super().consumeData()
        self._choose_path()

    def processData(self) -> bool:
        """Parse a part of a frame, unless this turn of the loop is over."""
        if self._flow & YIELDING or self._yields():
            return False
        return bool(super().processData())

    def _take_messages(self, data: bytes) -> int:
        """Handle the ordinary messages at the head of `data`; return how many bytes they are."""
        taken = handled = 0
        limit = self._receive_limit
        stats = self.trafficStats
        with self.corked():
            try:
                for payload, is_binary, end in messages(data, limit, self._messages_left):
                    # One is taken, however slow the machine. A message may close the path.
                    if handled and (
                        time.monotonic() >= self._turn_ends or self._receive_limit != limit
                    ):
                        break
                    handled += 1
                    taken = end
                    stats.ordinary_octets_in += len(payload)
                    stats.ordinary_in += 1
                    if self.autoPingTimeoutCall and self.autoPingRestartOnAnyTraffic:
                        self._restart_ping()
                    self.onMessage(payload, is_binary)
            finally:
                self._messages_left -= handled
        return taken

    def onFrameEnd(self) -> Any:
        """Handle a frame; it counts as a message, be it a ping or a fragment."""
        self._count_message()
        return super().onFrameEnd()

    # Turns

    def _begin_turn(self) -> None:
        self._messages_left = MESSAGES_PER_TURN
        self._turn_ends = time.monotonic() + SECONDS_PER_TURN

    def _count_message(self) -> None:
        self._messages_left -= 1

    def _yields(self) -> bool:
        """Yield until the next turn if this one is over; tell whether it is."""
        left = self._messages_left
        # One is taken, however slow the machine.
        if left == MESSAGES_PER_TURN or (left > 0 and time.monotonic() < self._turn_ends):
            return False
        if self._flow & FINISHING:
            return False
        self.transport.pauseProducing()
        self._go_on_soon()
        return True

    def _go_on_soon(self) -> None:
        """Continue in the next turn of the loop with what has been received."""
        if not self._flow & YIELDING:
            self._change_flow(add=YIELDING)
            self.factory.reactor.callLater(0, self._go_on_next_turn)

    def _go_on_next_turn(self) -> None:
        self._flow &= ~YIELDING  # the path is chosen below
        if self.state == self.STATE_CLOSED:
            return
        self._begin_turn()
        try:
            self._go_on()
        except BaseException:  # noqa: BLE001  as a transport does, in whose call this mostly is
            _log.failure("a message could not be handled")
            self.transport.abortConnection()
        self._resume_reading()

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
        """Send a message that is not above the limit for the fast path."""
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
                self.write_corked()

    def push_frame(self, frame: bytes, size: int) -> bool:
        """Send a frame that was made for many connections, if it fits this one.

        `size` is that of its payload. Tells whether it was sent.
        """
        if size > self._reply_limit:
            return False
        stats = self.trafficStats
        stats.outgoingOctetsWireLevel += len(frame)
        stats.ordinary_octets_out += size
        stats.ordinary_out += 1
        if self._corked is None:
            self._transport.write(frame)
        else:
            self._corked.append(frame)
            # A view may publish any number; the transport must be able to pause them.
            if size > CORKED_BYTES or len(self._corked) >= CORKED_FRAMES:
                self.write_corked()
        return True

    # Writing at once

    def corked(self) -> AbstractContextManager[None]:
        """Delay what is sent in the block, and write it at once at its end."""
        return NOTHING if self._corked is not None else Cork(self)

    def cork(self) -> None:
        """Delay writes until `uncork`, and discard those that are delayed; use `corked`."""
        self._corked = []

    def uncork(self) -> None:
        """Write what was delayed, and write at once from now on."""
        if self._corked:
            self.write_corked()
        self._corked = None

    def write_corked(self) -> None:
        """Write what was delayed so far."""
        if self._corked:
            frames, self._corked = self._corked, []
            self._transport.write(frames[0] if len(frames) == 1 else b"".join(frames))

    # Which path

    @property
    def flow_state(self) -> FlowState:
        """Whether the connection reads, handles messages and writes."""
        return FlowState(self._flow)

    def _change_flow(self, *, add: int = 0, remove: int = 0) -> None:
        self._flow = (self._flow | add) & ~remove
        self._choose_path()

    def _state_changed(self) -> None:
        if self._state != self.STATE_OPEN:
            self._receive_limit = self._send_limit = self._reply_limit = CLOSED
            if self._state == self.STATE_CLOSING:
                # A view would run for nothing: no reply follows a close frame.
                self._flow |= DRAINING

    def _choose_path(self) -> None:
        """Decide which messages may take the fast path from here on."""
        self._receive_limit = self._send_limit = self._reply_limit = CLOSED
        if self._state != self.STATE_OPEN or self.trackedTimings is not None:
            return
        receive_limit, send_limit = self._fast_path_limits or self._read_options()
        flow = self._flow
        if self._sends_as_given() and not flow & WRITE_PAUSED:
            self._send_limit = send_limit
            if not self._has_own_replies:
                self._reply_limit = send_limit
        if self._is_between_messages() and not flow & NOT_RECEIVING:
            self._receive_limit = receive_limit

    def forget_options(self) -> None:
        """Read the options again: this connection has set one for itself."""
        vars(self)["_fast_path_limits"] = None
        self._choose_path()

    def _read_options(self) -> tuple[int, int]:
        """Return the limits for incoming and outgoing messages by the options; remember them."""
        limits = options.limits_of_options(
            self, receives=not self._receives_in_parts, sends=not self._sends_in_parts
        )
        if "_fast_path_limits" in vars(self):
            vars(self)["_fast_path_limits"] = limits
        else:
            type(self)._fast_path_limits = limits
        return limits

    def succeedHandshake(self, res: Any) -> None:
        """Answer the opening handshake, and open the fast path."""
        super().succeedHandshake(res)
        self._choose_path()

    def on(self, event: str, handler: Any) -> None:
        """Call `handler` for each event of that name; there is `message`."""
        super().on(event, handler)
        self._choose_path()

    def setTrackTimings(self, enable: bool) -> None:
        """Let Autobahn record when a message passes the stations of Autobahn's way, or stop it."""
        super().setTrackTimings(enable)
        self._choose_path()
