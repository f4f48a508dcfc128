"""Autobahn's server protocol and factory, at 3 of their 8 KB for each connection.

All names of Autobahn's that are not public are used here and nowhere else. Its private callbacks
become methods of ours: `_opened`, `_closed`, `_take_early`, `_take_message`, `_close_transport`.

Autobahn copies each option of the factory to each protocol, and keeps what it has parsed of the
opening handshake. Here the options are attributes of a class made once per factory, what was
parsed is parsed again on demand, and what is seldom used is made on first use.
"""

import inspect
from collections import deque
from contextlib import suppress
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Self

from autobahn.twisted.util import peer2str
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.wamp.types import TransportDetails
from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone

from aiorest_ws.connection import opening
from aiorest_ws.connection.http_head import for_autobahn
from aiorest_ws.connection.on_demand import on_demand
from aiorest_ws.connection.state import ConnectionState
from aiorest_ws.connection.timer_wheel import TimerWheel
from aiorest_ws.connection.traffic import CompactTrafficStats
from aiorest_ws.connection.transport_details import transport_details
from aiorest_ws.connection.utf8 import FastUtf8Validator

__all__ = ("INITIAL", "NOT_KEPT", "RECEIVING", "CompactFactory", "CompactProtocol")


# Where Autobahn hands over parts of messages; a subclass that looks there sees all of them.
RECEIVING = (
    *("_dataReceived", "consumeData", "processData", "fire"),
    *("onFrameBegin", "onFrameData", "onFrameEnd"),
    *("onMessageBegin", "onMessageFrameBegin", "onMessageFrameData", "onMessageFrameEnd"),
    *("onMessageFrame", "onMessageEnd", "_onMessageBegin", "_onMessageFrameBegin"),
    *("_onMessageFrameData", "_onMessageFrameEnd", "_onMessageFrame", "_onMessageEnd"),
    "_onMessage",
)

# What Autobahn sets on each instance as it begins, as attributes of the class.
INITIAL: dict[str, Any] = {
    **dict.fromkeys(
        (
            *("_perMessageCompress", "autoPingPending", "autoPingPendingCall"),
            *("autoPingPendingSent", "closeHandshakeTimeoutCall", "current_frame"),
            *("localCloseCode", "localCloseReason", "openHandshakeTimeoutCall"),
            *("remoteCloseCode", "remoteCloseReason", "trackedTimings"),
            *("wasNotCleanReason", "websocket_protocol_in_use"),
        )
    ),
    **dict.fromkeys(
        (
            *("closedByMe", "droppedByMe", "failedByMe", "inside_message", "triggered"),
            *("wasClean", "wasCloseHandshakeTimeout", "wasMaxFramePayloadSizeExceeded"),
            *("wasMaxMessagePayloadSizeExceeded", "wasOpenHandshakeTimeout"),
            *("wasServerConnectionDropTimeout", "wasServingFlashSocketPolicyFile"),
        ),
        False,
    ),
    "autoPingPendingSeq": 0,
    "data": b"",
    "send_state": 0,
    "websocket_version": 13,
}

# What the opening handshake leaves behind and a property below can make again, and what
# Autobahn keeps for its own test suite.
NOT_KEPT = (
    "_transport_details",
    "_wskey",
    "http_headers",
    "http_request_host",
    "http_request_params",
    "http_request_path",
    "http_request_uri",
    "http_response_data",
    "http_status_line",
    "is_open",
    "send_queue",
    "utf8validator",
    "websocket_extensions",
    "websocket_origin",
    "websocket_protocols",
)


_CONNECTING = ConnectionState(WebSocketServerProtocol.STATE_CONNECTING)


class CompactProtocol(WebSocketServerProtocol):
    """Autobahn's protocol, without the attributes that all connections share.

    What each message needs is in slots, here and in derived classes: a slot takes less memory
    than a key of `__dict__`, and is read faster than a class attribute.
    """

    __slots__ = ("_state", "autoPingTimeoutCall", "factory", "trafficStats")

    # `peer` is what a proxy has told.
    _is_forwarded = False

    if TYPE_CHECKING:  # Autobahn sets most of them from a list of names
        _state: ConnectionState
        applyMask: bool
        autoFragmentSize: int
        autoPingRestartOnAnyTraffic: bool
        autoPingTimeoutCall: Any
        factory: Any
        logFrames: bool
        logOctets: bool
        maskServerFrames: bool
        maxFramePayloadSize: int
        maxMessagePayloadSize: int
        tcpNoDelay: bool
        trafficStats: CompactTrafficStats
        transport: Any
        trustXForwardedFor: int
        utf8validateIncoming: bool

        # Given by the classes that derive from this one.
        def _take_early(self, data: bytes) -> None: ...
        def _state_changed(self) -> None: ...
        def _choose_path(self) -> None: ...

    # The slots are filled here: a subclass may have an `__init__` that does not call this one's.
    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Make a protocol that is not connected."""
        self = super().__new__(cls)
        self.autoPingTimeoutCall = None
        self.factory = None
        self._state = _CONNECTING
        return self

    def __init__(self) -> None:
        super().__init__()
        # Futures and event lists, which most connections never use.
        vars(self).clear()

    @property
    def state(self) -> ConnectionState:
        """The state of the connection, and what the application keeps for this client."""
        return self._state

    @state.setter
    def state(self, value: int) -> None:
        changed = ConnectionState(value)
        if vars(self._state):
            changed.__dict__ = vars(self._state)
        self._state = changed
        self._state_changed()

    @classmethod
    def class_option(cls, name: str, value: Any) -> Any:  # noqa: ARG003
        """Return what stands in a class for an option that Autobahn would set on an instance."""
        # A function in a class would become a method.
        return staticmethod(value) if callable(value) else value

    # The next four are Autobahn's own without what they format for a log that is mostly off, a
    # fifth of a handshake. Its `connectionMade` would also ask for the transport's details, and
    # demands Twisted's own TLS of a secure one.

    def connectionMade(self) -> None:
        """Begin the opening handshake."""
        with suppress(AttributeError, OSError):  # a Unix socket has no such option
            self.transport.setTcpNoDelay(self.tcpNoDelay)
        WebSocketProtocol._connectionMade(self)
        self.factory.countConnections += 1
        self.trafficStats = CompactTrafficStats()  # type: ignore[no-untyped-call]
        del self.utf8validator  # the one below is made when there is something to look at

    def connectionLost(self, reason: Any = connectionDone) -> None:
        """End the connection, and call `onClose`, which may raise."""
        try:
            WebSocketProtocol._connectionLost(self, reason)
        finally:
            self.factory.countConnections -= 1

    def dataReceived(self, data: bytes) -> None:
        """Handle one read from the transport."""
        self._dataReceived(data)

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Write bytes; in pieces of `chopsize`, each in a turn of its own, if that is given."""
        if sync or chopsize or self.triggered or self.logOctets:
            super().sendData(data, sync, chopsize)
            return
        self.transport.write(data)
        if self._state == self.STATE_OPEN:
            self.trafficStats.outgoingOctetsWireLevel += len(data)
        elif self._state == self.STATE_CONNECTING:
            self.trafficStats.preopenOutgoingOctetsWireLevel += len(data)

    def succeedHandshake(self, res: Any) -> None:
        """Answer the opening handshake, and forget what can be parsed again."""
        vars(self).setdefault("is_open", Deferred())  # made before it is due to fire
        super().succeedHandshake(res)
        # Unless data that came with it has started something already.
        if not (self.inside_message or self.triggered or self.state == self.STATE_CLOSED):
            self._forget_handshake()

    def _forget_handshake(self) -> None:
        members = vars(self)
        for name in NOT_KEPT:
            members.pop(name, None)
        if not (self.trustXForwardedFor or self._is_forwarded):
            members.pop("peer", None)
        if not members.get("websocket_extensions_in_use"):
            members.pop("websocket_extensions_in_use", None)
        # A new dict: a dict never shrinks.
        self.__dict__ = {
            name: value
            for name, value in members.items()
            if name not in INITIAL or INITIAL[name] is not value
        }

    def on(self, event: str, handler: Any) -> None:
        """Call `handler` for each event of that name. The only one is `message`."""
        if self._valid_events is None:
            self.set_valid_events(["message"])  # type: ignore[no-untyped-call]
        super().on(event, handler)  # type: ignore[no-untyped-call]

    # Autobahn's private callbacks

    def _onOpen(self) -> None:
        self._opened()

    def _opened(self) -> None:
        self.onOpen()

    def _onMessage(self, payload: bytes, isBinary: bool) -> None:
        self._take_message(payload, isBinary)

    def _take_message(self, payload: bytes, is_binary: bool) -> None:
        self.onMessage(payload, is_binary)

    def _onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self._closed(wasClean, code, reason)

    def _closed(self, was_clean: bool, code: int | None, reason: str | None) -> None:
        super()._onClose(was_clean, code, reason)

    def _dataReceived(self, data: bytes) -> None:
        if self._state == self.STATE_CONNECTING:
            self._take_early(data)
        elif self._state != self.STATE_CLOSED:
            super()._dataReceived(data)

    def _closeConnection(self, abort: bool = False) -> None:
        self._close_transport(abort)

    def _close_transport(self, abort: bool) -> None:
        super()._closeConnection(abort)

    def _fail_connection(self, code: int = 1001, reason: str = "going away") -> None:
        if self._state == self.STATE_OPEN:
            fields = {"event": "protocol", "peer": self.peer, "code": code}
            line = f"{self.peer}: closed with {code}: {reason}"
            self.factory.capped_log.info("protocol", line, fields)
        super()._fail_connection(code, reason)

    def _max_message_size_exceeded(self, msg_size: int, max_msg_size: int, reason: str) -> None:
        self.factory.limit_hits.note("message_bytes", self.peer, f"1009: {msg_size} bytes")
        super()._max_message_size_exceeded(msg_size, max_msg_size, reason)

    def _send(self) -> None:
        super()._send()
        self._choose_path()  # while pieces wait to be written, all that is sent waits behind them

    # Autobahn's private state

    def _is_between_messages(self) -> bool:
        """Tell whether Autobahn has nothing buffered, and nobody listens to its events."""
        return not (
            self.data or self.current_frame is not None or self.inside_message or self._listeners
        )

    def _sends_as_given(self) -> bool:
        """Tell whether a message is written as it is, neither compressed nor queued."""
        return self._perMessageCompress is None and not self.triggered

    def _leave_unread(self, data: bytes) -> None:
        """Leave `data` to Autobahn, as received and not parsed."""
        self.data = data

    def _restart_ping(self) -> None:
        """Treat what was received as the pong that Autobahn waits for."""
        self._cancelAutoPingTimeoutCall()  # type: ignore[no-untyped-call]

    def _ping(self) -> None:
        self._sendAutoPing()

    def _note_unclean_end(self, reason: str) -> None:
        self.wasNotCleanReason = reason

    @on_demand
    def is_open(self) -> Deferred[Any]:
        """A Deferred that fires when the opening handshake is done."""
        opened: Deferred[Any] = Deferred()
        if self.state in (self.STATE_OPEN, self.STATE_CLOSING):
            opened.callback(None)
        return opened

    @on_demand
    def is_closed(self) -> Deferred[Any]:
        """A Deferred that fires when the connection is."""
        return Deferred()

    @on_demand
    def send_queue(self) -> deque[Any]:
        return deque()

    @on_demand
    def utf8validator(self) -> Any:
        return FastUtf8Validator()

    @on_demand
    def peer(self) -> str:
        """The address of the client, such as `tcp4:127.0.0.1:52914`."""
        return peer2str(self.transport)

    @on_demand
    def _transport_details(self) -> TransportDetails:
        return transport_details(self.transport)

    # The opening handshake, from the head of its request. It was valid.

    http_status_line = on_demand(opening.http_status_line)
    http_headers = on_demand(opening.http_headers)
    http_request_uri = on_demand(opening.http_request_uri)
    http_request_path = on_demand(opening.http_request_path)
    http_request_params = on_demand(opening.http_request_params)
    http_request_host = on_demand(opening.http_request_host)
    websocket_protocols = on_demand(opening.websocket_protocols)
    websocket_origin = on_demand(opening.websocket_origin)

    @on_demand
    def websocket_extensions(self) -> list[Any]:
        offered = self.http_headers.get("sec-websocket-extensions")
        if offered is None:
            return []
        offered = for_autobahn(offered.encode("latin-1")).decode("latin-1")
        return list(self._parseExtensionsHeader(offered))  # type: ignore[no-untyped-call]

    @on_demand
    def websocket_extensions_in_use(self) -> list[Any]:
        return []

    @on_demand
    def _wskey(self) -> str:
        return self.http_headers["sec-websocket-key"]


for _name, _value in INITIAL.items():
    setattr(CompactProtocol, _name, _value)


class CompactFactory(WebSocketServerFactory):
    """Autobahn's factory; its protocols have their options from a class made for it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self._batched_timer = self.timer_wheel = TimerWheel(self.reactor)
        self._configured: tuple[type, tuple[Any, ...], type] | None = None

    def buildProtocol(self, addr: Any) -> Any:
        """Return a protocol for a new connection."""
        kind: Any = self.protocol
        if not inspect.isclass(kind) or not issubclass(kind, CompactProtocol):
            return super().buildProtocol(addr)
        options = _options(self)
        configured = self._configured
        if configured is None or configured[0] is not kind or configured[1] != options:
            configured = self._configured = (kind, options, self._configure(kind, options))
        made: Any = configured[2]
        protocol = made.__new__(made)
        protocol.factory = self  # which its `__init__` may ask for
        protocol.__init__()
        return protocol

    def _configure(self, kind: type[CompactProtocol], options: tuple[Any, ...]) -> type:
        members: dict[str, Any] = {
            "__doc__": kind.__doc__,
            "__module__": kind.__module__,
            "__qualname__": kind.__qualname__,
            "CONFIG_ATTRS": (),
        }
        for name, value in zip(kind.CONFIG_ATTRS, options, strict=True):
            if not hasattr(kind, name):
                members[name] = kind.class_option(name, value)
        return type(kind.__name__, (kind,), members)


_options = attrgetter(*WebSocketServerProtocol.CONFIG_ATTRS)
