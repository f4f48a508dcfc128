"""A real factory, router and protocol over a transport in memory, with a clock of the test."""

import base64
import json
import logging
import weakref
from typing import Any, Self

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from txaio import tx

from aiorest_ws.exceptions import BaseAPIException
from aiorest_ws.limits import Limits
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.utils.websocket import deflate_offer_accept
from aiorest_ws.views import MethodBasedView

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, 1.3
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: " + KEY + b"\r\nSec-WebSocket-Version: 13\r\n%b\r\n"
)
OFFER = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"

# What a server may close with (RFC 6455, 7.4.1, and IANA's register), and what it may say in HTTP.
CLOSE_CODES = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013}
HTTP_STATUSES = {200, 400, 403, 404, 405, 408, 426, 431, 501, 503, 505}
FAILURES = {400, 401, 403, 404, 405, 408, 413, 422, 429, 499, 500, 503}

# Longer than any call, any timer of a connection and its ping.
A_LONG_TIME = 90


_server_log = logging.getLogger("aiorest-ws")


class Planted(Exception):
    """What a view raises on purpose; the log may say so."""


class Watch(logging.Handler):
    """Note what is said at the level of an error, in either log, and is not planted."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.faults: list[str] = []

    def __enter__(self) -> Self:
        # As a filter, it is before pytest's handlers: they keep all records and tracebacks.
        _server_log.addFilter(self._take)
        logging.getLogger().addHandler(self)
        globalLogPublisher.addObserver(self.observe)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self)
        _server_log.removeFilter(self._take)
        globalLogPublisher.removeObserver(self.observe)

    def _take(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            self.emit(record)
        return False

    def emit(self, record: logging.LogRecord) -> None:
        if not record.exc_info or not isinstance(record.exc_info[1], Planted):
            self.faults.append(self.format(record))

    def observe(self, event: dict[str, Any]) -> None:
        level = event.get("log_level")
        # The standard logging's lines come here, too, when something sends them there.
        if event.get("isError") or (level is not None and level >= LogLevel.error):
            failure = event.get("log_failure")
            self.faults.append(f"{event.get('log_format')} {failure}")

    def check(self) -> None:
        """Raise AssertionError with what was said."""
        faults, self.faults = self.faults, []
        assert not faults, faults[0]


class Echo(MethodBasedView):
    def get(self, request, value=None):
        return value

    def post(self, request):
        return request.data


class Item(MethodBasedView):
    def get(self, request, name, detail=None):
        return {"name": name, "detail": detail}

    put = delete = get


class Views:
    """A router with views that answer at once, later, never and badly."""

    def __init__(self, clock: Clock) -> None:
        self.pending = pending = weakref.WeakSet[Deferred[Any]]()

        def later(seconds: float) -> Deferred[Any]:
            waiting = deferLater(clock, seconds, lambda: seconds)
            pending.add(waiting)
            return waiting

        class Slow(MethodBasedView):
            def get(self, request, seconds=0.5):
                if not isinstance(seconds, (int, float)) or not 0 <= seconds <= 1000:
                    raise BaseAPIException("`seconds` must be from 0 to 1000.")
                return later(seconds)

            async def post(self, request, times=2):
                for _ in range(times if isinstance(times, int) and 0 <= times < 20 else 1):
                    await later(0.1)
                return "done"

        class Never(MethodBasedView):
            timeout = 7

            def get(self, request):
                waiting = Deferred[Any]()
                pending.add(waiting)
                return waiting

        class Boom(MethodBasedView):
            def get(self, request):
                raise Planted

            async def post(self, request):
                await later(0.1)
                raise Planted

        class Queue(Slow):
            ordered = True

        self.router = SimpleRouter()
        for path, view in (
            ("/echo", Echo),
            ("/slow", Slow),
            ("/never", Never),
            ("/boom", Boom),
            ("/queue", Queue),
            ("/items/{name}", Item),
            ("/items/{name}/v{detail}.json", Item),
        ):
            self.router.register(
                path, view, ["GET", "POST", "PUT", "DELETE"][: 4 if view is Item else 2]
            )


class Wire(StringTransport):
    """A TCP connection whose client reads, or does not."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(
            IPv4Address("TCP", "127.0.0.1", 9000), IPv4Address("TCP", "127.0.0.1", 50000)
        )
        self.clock = clock
        self.connected = True
        self.sent = bytearray()
        # As Twisted's transports name them.
        self.dataBuffer = b""
        self.bufferSize = 65536
        self.ended = ""
        self.is_half_closed = False
        self.is_clogged = False
        self.is_paused = False
        self.protocol: Any = None

    def write(self, data: bytes) -> None:
        assert type(data) is bytes, type(data)
        if self.ended or self.is_half_closed:
            return
        if not self.is_clogged:
            self.sent += data
            return
        self.dataBuffer += data
        if len(self.dataBuffer) > self.bufferSize and self.producer and not self.is_paused:
            self.is_paused = True
            self.producer.pauseProducing()

    def unclog(self) -> None:
        """Let the client read all that waits."""
        self.is_clogged = False
        self.sent += self.dataBuffer
        self.dataBuffer = b""
        if self.is_paused and not self.ended:
            self.is_paused = False
            if self.producer:
                self.producer.resumeProducing()

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self._end("lose", ConnectionDone)

    def abortConnection(self) -> None:
        self._end("abort", ConnectionAborted)

    def loseWriteConnection(self) -> None:
        self.is_half_closed = True

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def _end(self, how: str, kind: type[Exception]) -> None:
        if not self.ended:
            self.ended = how
            self.clock.callLater(0, self.lose, Failure(kind()))

    def lose(self, reason: Failure) -> None:
        """Tell the protocol, once, that the connection is gone."""
        if self.connected:
            self.connected = False
            self.ended = self.ended or "lost"
            self.protocol.connectionLost(reason)


class Server:
    """A factory, and the clock under it."""

    def __init__(self, *, deflate: bool = False, **limits: Any) -> None:
        self.clock = Clock()
        self.views = Views(self.clock)
        self._loop = tx.config.loop
        tx.config.loop = self.clock
        self.factory = RequestHandlerFactory(
            "ws://localhost:9000",
            reactor=self.clock,
            router=self.views.router,
            limits=Limits(**limits),
        )
        if deflate:
            self.factory.setProtocolOptions(perMessageCompressionAccept=deflate_offer_accept)

    def close(self) -> None:
        """Give Autobahn the reactor back that it had."""
        tx.config.loop = self._loop

    def connect(self) -> "Session":
        """Return a connection that has not said anything."""
        return Session(self)

    def check_rest(self) -> None:
        """Raise AssertionError if connections, timers or calls are left."""
        assert not self.factory.connections, "connections are left"
        assert self.factory.countConnections == 0, self.factory.countConnections
        assert not self.clock.getDelayedCalls(), [
            str(call) for call in self.clock.getDelayedCalls()
        ]
        left = [waiting for waiting in self.views.pending if not waiting.called]
        assert not left, f"calls are left: {left}"


class Session:
    """One connection to a server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.clock = server.clock
        self.wire = Wire(self.clock)
        self.protocol = self.wire.protocol = server.factory.buildProtocol(self.wire.getPeer())
        self.protocol.makeConnection(self.wire)

    def feed(self, data: bytes) -> bool:
        """Let the server read `data` as soon as it wants to, if ever; tell whether it has."""
        for _ in range(200):
            if self.wire.ended or self.wire.producerState == "producing":
                break
            self.clock.advance(
                0.25 if self.wire.is_clogged or self.protocol.queued_bytes else 0.001
            )
        if self.wire.ended or self.wire.producerState != "producing":
            return False
        self.protocol.dataReceived(data)
        self.clock.advance(0)
        return True

    def wait(self, seconds: float) -> None:
        """Let time pass in small steps; a leap would be a stall of the loop."""
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            due = min((c.getTime() for c in self.clock.getDelayedCalls()), default=end)
            self.clock.advance(
                max(0.0001, min(due - self.clock.seconds(), end - self.clock.seconds(), 0.5))
            )

    def drop(self) -> None:
        """Let the client be gone, and all that hangs on it."""
        self.wire.lose(Failure(ConnectionLost()))
        self.wait(A_LONG_TIME)


def good_call(frame: Any) -> bytes:
    """Return a message that every connection must answer."""
    return frame(
        1, b'{"method": "GET", "url": "/echo", "args": {"value": 7}, "event_name": "probe"}'
    )


GOOD_REPLY = {"data": 7, "event_name": "probe"}


def check_reply(payload: bytes, is_binary: bool) -> dict[str, Any]:
    """Return a reply; raise AssertionError unless it is one of the wire protocol's."""
    if is_binary:
        payload = base64.b64decode(payload, validate=True)
    pairs = json.loads(payload.decode(), object_pairs_hook=list)
    assert type(pairs) is list
    names = [name for name, _ in pairs]
    reply = json.loads(payload)
    assert len(names) == len(set(names)), names
    order = ["data"] if "data" in reply else ["detail", "status"]
    order += ["event_name"] + (["id"] if "id" in reply else [])
    assert names == order, names
    if "detail" in reply:
        assert type(reply["detail"]) is str, reply["detail"]
        assert reply["detail"].strip(), reply["detail"]
        assert reply["status"] in FAILURES, reply["status"]
    assert "id" not in reply or type(reply["id"]) in (str, int), reply["id"]
    return reply
