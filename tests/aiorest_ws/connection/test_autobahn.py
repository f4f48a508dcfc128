"""Connections that forget: what can still be read of them is what Autobahn would have kept."""

import gc
from functools import partial

import pytest
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from aiorest_ws.request import RequestHandlerFactory, RequestHandlerProtocol
from aiorest_ws.utils.websocket import deflate_offer_accept

HEAD = (
    "GET {uri} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: {version}\r\n{more}\r\n"
)

HANDSHAKE_ATTRIBUTES = (
    *("http_request_data", "http_status_line", "http_headers", "http_request_uri"),
    *("http_request_path", "http_request_params", "http_request_host", "websocket_version"),
    *("websocket_protocols", "websocket_origin", "websocket_extensions", "_wskey"),
    *("websocket_protocol_in_use", "websocket_extensions_in_use", "peer", "state"),
)

# The factory's own defaults; events are none until somebody listens.
DIFFERENT_ON_PURPOSE = (
    *("failByDrop", "webStatus", "closeHandshakeTimeout", "allowNullOrigin", "_valid_events"),
    *("maxMessagePayloadSize", "autoPingInterval", "autoPingTimeout", "autoPingPendingCall"),
)


class Transport(StringTransport):
    def setTcpNoDelay(self, enabled):
        self.is_without_delay = enabled

    def abortConnection(self):
        self.loseConnection()

    def unregisterProducer(self):
        pass


def head(uri="/", host="localhost", version=13, more=""):
    return HEAD.format(uri=uri, host=host, version=version, more=more).encode()


def opened(
    protocol=RequestHandlerProtocol, factory=RequestHandlerFactory, request=None, **options
):
    factory = factory("ws://localhost", reactor=Clock())
    factory.protocol = protocol
    if options:
        factory.setProtocolOptions(**options)
    connection = factory.buildProtocol(None)
    connection.makeConnection(Transport())
    connection.dataReceived(request or head())
    assert connection.state == connection.STATE_OPEN
    return connection


@pytest.mark.parametrize(
    "request_head",
    [
        head(),
        head("/a/b?x=1&x=2&y=%20z", "example.com:8080"),
        head("/?", "[::1]:80"),
        head(more="Sec-WebSocket-Protocol: a, b,c\r\nOrigin: http://example.com:81\r\n"),
        head(more="Sec-WebSocket-Origin: http://localhost\r\n"),
        head(more="Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-y\r\n"),
        head(more="X-Twice: 1\r\nX-Twice: 2\r\nCookie: a=b\r\n"),
        head(more="X-Forwarded-For: 10.0.0.1, 10.0.0.2\r\n"),
    ],
)
@pytest.mark.parametrize(
    "options",
    [{}, {"perMessageCompressionAccept": deflate_offer_accept}],
    ids=["plain", "deflate"],
)
def test_the_opening_handshake_can_be_read_as_in_autobahn(request_head, options):
    options = {"allowedOrigins": ["*"], "allowNullOrigin": True, **options}
    ours = opened(request=request_head, **options)
    theirs = opened(
        WebSocketServerProtocol, WebSocketServerFactory, request=request_head, **options
    )
    for name in HANDSHAKE_ATTRIBUTES:
        mine, autobahns = getattr(ours, name), getattr(theirs, name)
        if name == "websocket_extensions_in_use":
            mine, autobahns = ([str(e) for e in found] for found in (mine, autobahns))
        assert mine == autobahns, name
    details = ours.transport_details.marshal()
    assert details == theirs.transport_details.marshal()


def test_attributes_that_autobahn_sets_at_the_beginning_are_there():
    theirs = opened(WebSocketServerProtocol, WebSocketServerFactory)
    ours = opened()
    for name, value in vars(theirs).items():
        if name == "http_response_data":
            assert not hasattr(ours, name)
        elif value is None or isinstance(value, (bool, int, str, bytes, list)):
            if name in DIFFERENT_ON_PURPOSE:
                continue
            assert getattr(ours, name) == value, name
        else:
            assert hasattr(ours, name), name


def test_an_open_connection_keeps_little():
    connection = opened()
    assert len(vars(connection)) <= 12
    for forgotten in ("http_headers", "peer", "send_queue", "utf8validator", "is_closed"):
        assert forgotten not in vars(connection)


def test_is_open_and_is_closed_fire_for_those_who_wait_and_those_who_come_late():
    seen = []

    class Waiting(RequestHandlerProtocol):
        def onConnect(self, request):
            self.is_open.addCallback(lambda _: seen.append("opened"))
            self.is_closed.addCallback(lambda _: seen.append("closed"))

    connection = opened(Waiting)
    assert seen == ["opened"]
    assert isinstance(connection.is_open, Deferred)
    assert connection.is_open.called
    connection.dropConnection()
    assert seen == ["opened", "closed"]


def test_options_of_a_factory_hold_for_connections_that_come_after():
    factory = RequestHandlerFactory(reactor=Clock())
    before = factory.buildProtocol(None)
    factory.setProtocolOptions(maxMessagePayloadSize=7, perMessageCompressionAccept=len)
    factory.logFrames = True
    after = factory.buildProtocol(None)
    assert (before.maxMessagePayloadSize, before.logFrames) == (2**20, False)
    assert (after.maxMessagePayloadSize, after.logFrames) == (7, True)
    assert after.perMessageCompressionAccept([1, 2]) == 2
    assert type(before).__name__ == type(after).__name__ == "RequestHandlerProtocol"
    assert type(factory.buildProtocol(None)) is type(after)


def test_options_of_a_protocol_class_win_over_those_of_its_factory():
    class Limited(RequestHandlerProtocol):
        maxMessagePayloadSize = 3
        autoPingInterval = 9

    connection = opened(Limited, maxMessagePayloadSize=7, autoPingInterval=5)
    assert (connection.maxMessagePayloadSize, connection.autoPingInterval) == (3, 9)


def test_a_protocol_that_is_not_ours_or_no_class_is_built_as_autobahn_does():
    factory = RequestHandlerFactory(reactor=Clock())
    factory.protocol = WebSocketServerProtocol
    assert type(factory.buildProtocol(None)) is WebSocketServerProtocol
    factory.protocol = partial(RequestHandlerProtocol)
    connection = factory.buildProtocol(None)
    assert connection.factory is factory
    connection.makeConnection(Transport())
    connection.dataReceived(head())
    assert connection.state == connection.STATE_OPEN


@pytest.mark.parametrize("tcp_no_delay", [True, False])
def test_the_option_tcp_no_delay_reaches_the_transport(tcp_no_delay):
    connection = opened(tcpNoDelay=tcp_no_delay)
    assert connection.transport.is_without_delay is tcp_no_delay


def test_a_listener_hears_messages_and_only_those_of_its_connection():
    first, second = opened(), opened()
    heard = []
    first.on("message", lambda payload, is_binary: heard.append((payload, is_binary)))
    frame = b"\x82\x81\0\0\0\0x"
    first.dataReceived(frame)
    second.dataReceived(frame)
    assert heard == [(b"x", True)]
    with pytest.raises(RuntimeError):
        first.on("closed", print)


def test_connections_that_are_gone_leave_nothing_behind():
    factory = RequestHandlerFactory(reactor=Clock())
    for _ in range(20):
        connection = factory.buildProtocol(None)
        connection.makeConnection(Transport())
        connection.dataReceived(head())
        connection.dropConnection()
        connection.connectionLost(Failure(ConnectionDone()))
    del connection
    gc.collect()
    left = [o for o in gc.get_objects() if isinstance(o, RequestHandlerProtocol)]
    assert not [connection for connection in left if connection.factory is factory]
