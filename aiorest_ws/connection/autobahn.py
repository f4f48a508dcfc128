"""Autobahn's server protocol and factory, without what an idle connection need not hold.

Autobahn copies each option of the factory to each of its protocols, and keeps all that it has read
in the opening handshake. Here options are attributes of a class that is made once per factory, and
what was read is the head of the request, parsed again for those who ask. Together with what can be
made on its first use that is 5 of 8 KB of a connection.
"""

import inspect
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import parse_qs, urlparse

from autobahn.twisted.util import (
    create_transport_details,
    extract_peer_certificate,
    peer2str,
)
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.wamp.types import TransportDetails
from autobahn.websocket.protocol import WebSocketProtocol, parseHttpHeader
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from aiorest_ws.connection.timer_wheel import TimerWheel
from aiorest_ws.connection.traffic import CompactTrafficStats
from aiorest_ws.connection.utf8 import FastUtf8Validator

__all__ = ("CompactFactory", "CompactProtocol", "ConnectionState")


Value = TypeVar("Value")


class _OnDemand:
    """A `functools.cached_property` without its lock: a connection belongs to one thread."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make
        self._name = make.__name__
        self.__doc__ = make.__doc__

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        value = vars(instance)[self._name] = self._make(instance)
        return value


if TYPE_CHECKING:
    # For a type checker it is the attribute that it makes: Autobahn assigns to all of them.
    def on_demand(make: Callable[[Any], Value]) -> Value: ...
else:
    on_demand = _OnDemand


# What Autobahn sets on each instance as it begins, as attributes of the class.
_INITIAL: dict[str, Any] = {
    "_perMessageCompress": None,
    "autoPingPending": None,
    "autoPingPendingCall": None,
    "autoPingPendingSent": None,
    "autoPingPendingSeq": 0,
    "closeHandshakeTimeoutCall": None,
    "closedByMe": False,
    "current_frame": None,
    "data": b"",
    "droppedByMe": False,
    "failedByMe": False,
    "inside_message": False,
    "localCloseCode": None,
    "localCloseReason": None,
    "openHandshakeTimeoutCall": None,
    "remoteCloseCode": None,
    "remoteCloseReason": None,
    "send_state": 0,
    "trackedTimings": None,
    "triggered": False,
    "wasClean": False,
    "wasCloseHandshakeTimeout": False,
    "wasMaxFramePayloadSizeExceeded": False,
    "wasMaxMessagePayloadSizeExceeded": False,
    "wasNotCleanReason": None,
    "wasOpenHandshakeTimeout": False,
    "wasServerConnectionDropTimeout": False,
    "wasServingFlashSocketPolicyFile": False,
    "websocket_protocol_in_use": None,
    "websocket_version": 13,
}

# What the opening handshake leaves behind, and a property below finds again; with what
# Autobahn keeps for its own test suite.
_NOT_KEPT = (
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


class ConnectionState(int):
    """Autobahn's number of a connection's state, and a namespace for what belongs to one client.

    Autobahn owns `protocol.state`, and it is where an application looks for its own: so the
    number carries attributes (`connection.state.user_id = 7`), which outlive its changes.
    """

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...


_CONNECTING = ConnectionState(WebSocketServerProtocol.STATE_CONNECTING)


class CompactProtocol(WebSocketServerProtocol):
    """Autobahn's protocol, holding no more than this connection's own.

    What each message asks for is in slots, here and in what derives from this: a slot takes less
    room than a key, and is found faster than what stands in the class for those who have none.
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
        # Futures for those who wait, events for those who listen: most have neither.
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

    def _state_changed(self) -> None:
        """Do what a change of the state asks for."""

    @classmethod
    def class_option(cls, name: str, value: Any) -> Any:  # noqa: ARG003
        """Return what stands in a class for an option that Autobahn would set on an instance."""
        # A function in a class would become a method.
        return staticmethod(value) if callable(value) else value

    # The next four are Autobahn's own without what they format for a log that is mostly off, which
    # is a fifth of a handshake. Its `connectionMade` would also ask for the details of the
    # transport, which few applications do, and demands Twisted's own TLS of a secure one.

    def connectionMade(self) -> None:
        """Begin the opening handshake."""
        with suppress(AttributeError, OSError):  # a Unix socket has no such option
            self.transport.setTcpNoDelay(self.tcpNoDelay)
        WebSocketProtocol._connectionMade(self)
        self.factory.countConnections += 1
        self.trafficStats = CompactTrafficStats()  # type: ignore[no-untyped-call]
        del self.utf8validator  # the one below is made when there is something to look at

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End, with `onClose`."""
        self._connectionLost(reason)

    def _connectionLost(self, reason: Any) -> None:
        # `onClose` of an application may raise.
        try:
            WebSocketProtocol._connectionLost(self, reason)
        finally:
            self.factory.countConnections -= 1

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
        """Answer the opening handshake, and forget what can be found again."""
        vars(self).setdefault("is_open", Deferred())  # made now, it has not fired yet
        super().succeedHandshake(res)
        # Unless what came with it has begun something already.
        if not (self.inside_message or self.triggered or self.state == self.STATE_CLOSED):
            self._forget_handshake()

    def _forget_handshake(self) -> None:
        members = vars(self)
        for name in _NOT_KEPT:
            members.pop(name, None)
        if not (self.trustXForwardedFor or self._is_forwarded):
            members.pop("peer", None)
        if not members.get("websocket_extensions_in_use"):
            members.pop("websocket_extensions_in_use", None)
        # A new dict: one that has been large stays so.
        self.__dict__ = {
            name: value
            for name, value in members.items()
            if name not in _INITIAL or _INITIAL[name] is not value
        }

    def on(self, event: str, handler: Any) -> None:
        """Call `handler` for each event of that name; there is `message`."""
        if self._valid_events is None:
            self.set_valid_events(["message"])  # type: ignore[no-untyped-call]
        super().on(event, handler)  # type: ignore[no-untyped-call]

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
        """The address of the client, `tcp4:127.0.0.1:52914` say."""
        return peer2str(self.transport)

    @on_demand
    def _transport_details(self) -> TransportDetails:
        transport = self.transport
        if not ISSLTransport.providedBy(transport) or isinstance(transport, TLSMemoryBIOProtocol):
            details = create_transport_details(transport, True)
        else:
            details = TransportDetails(
                channel_type=TransportDetails.CHANNEL_TYPE_TLS,
                peer=peer2str(transport),
                is_server=True,
                own_pid=os.getpid(),
                own_tid=threading.get_native_id(),
                own_fd=-1,
                is_secure=True,
                channel_id={},
                peer_cert=extract_peer_certificate(transport),
            )
        details.channel_framing = TransportDetails.CHANNEL_FRAMING_WEBSOCKET
        return details

    # The opening handshake, from the head of its request. It was valid.

    @on_demand
    def http_status_line(self) -> str:
        return parseHttpHeader(self.http_request_data)[0]

    @on_demand
    def http_headers(self) -> dict[str, str]:
        """The headers of the opening handshake, their names in lower case."""
        return parseHttpHeader(self.http_request_data)[1]

    @on_demand
    def http_request_uri(self) -> str:
        return self.http_status_line.split()[1]

    @on_demand
    def http_request_path(self) -> str:
        """The path that the client has connected to."""
        return urlparse(self.http_request_uri).path

    @on_demand
    def http_request_params(self) -> dict[str, list[str]]:
        """The query of the URL that the client has connected to."""
        return parse_qs(urlparse(self.http_request_uri).query)

    @on_demand
    def http_request_host(self) -> str:
        """The host that the client has asked for, without its port."""
        host = self.http_headers["host"].strip()
        has_port = ":" in host and not host.endswith("]")
        return host.rpartition(":")[0] if has_port else host

    @on_demand
    def websocket_protocols(self) -> list[str]:
        """The subprotocols that the client has offered."""
        offered = self.http_headers.get("sec-websocket-protocol")
        return [] if offered is None else [protocol.strip() for protocol in offered.split(",")]

    @on_demand
    def websocket_origin(self) -> str:
        """The origin of the page that has connected; empty for a client that is no browser."""
        name = "sec-websocket-origin" if self.websocket_version < 13 else "origin"
        return self.http_headers.get(name, "").strip()

    @on_demand
    def websocket_extensions(self) -> list[Any]:
        offered = self.http_headers.get("sec-websocket-extensions")
        return [] if offered is None else list(self._parseExtensionsHeader(offered))  # type: ignore[no-untyped-call]

    @on_demand
    def websocket_extensions_in_use(self) -> list[Any]:
        return []

    @on_demand
    def _wskey(self) -> str:
        return self.http_headers["sec-websocket-key"].strip()


for _name, _value in _INITIAL.items():
    setattr(CompactProtocol, _name, _value)


class CompactFactory(WebSocketServerFactory):
    """Autobahn's factory; its protocols have their options from a class made for it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self._batched_timer = TimerWheel(self.reactor)
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
