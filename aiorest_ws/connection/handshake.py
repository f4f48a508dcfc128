"""The opening handshake: what is refused before Autobahn sees it, and how it is refused."""

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from autobahn.twisted.websocket import WebSocketServerProtocol
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import connectionDone

from aiorest_ws.connection.autobahn import CompactProtocol
from aiorest_ws.connection.http_head import (
    HeadOfRequest,
    canonical_address,
    early_fault,
    fits_host,
    fits_origin,
    for_autobahn,
    forwarded_address,
    is_in,
    is_same_origin,
    name_in_host,
)
from aiorest_ws.connection.on_demand import on_demand
from aiorest_ws.connection.opening import READ_FROM_HEAD
from aiorest_ws.log import ConnectionLog, logger
from aiorest_ws.status import WS_UNEXPECTED_CONDITION
from aiorest_ws.utils.websocket import is_offer

__all__ = ("GuardedProtocol",)

HEALTH_PATH = "/healthz"

# The only one with `Origin`, of RFC 6455; Autobahn also speaks the draft with the number 8.
VERSION = "13"

_END_OF_HEAD = b"\r\n\r\n"

# How long a refused client may still send. Closing a socket with unread data resets the
# connection, and the client may not get the answer.
LINGER_SECONDS = 1

# Connections over the limit that get an answer; further ones are closed at once.
REFUSED_AT_ONCE = 50


# Pieces of a message that are kept apart; a million of them would take 40 times their bytes.
MAX_PIECES = 256


class GuardedProtocol(CompactProtocol):
    """Autobahn's protocol, accepting only handshakes that are strictly HTTP."""

    if TYPE_CHECKING:
        factory: Any  # a ConnectionFactory, or what a subclass needs of its own

    log = ConnectionLog(WebSocketServerProtocol.log)

    _is_deciding = False
    _is_lingering = False
    _is_counted = False
    _answers_head = False
    _linger: Any = None
    _head: HeadOfRequest | None = None
    _decision: Deferred[Any] | None = None

    @on_demand
    def address(self) -> str:
        """The address of the client, without a port; empty for a Unix socket.

        Behind a trusted proxy it is what that one has forwarded.
        """
        return self._address_of(HeadOfRequest(self.http_request_data))

    def connectionMade(self) -> None:
        """Begin the opening handshake, if another connection is allowed."""
        super().connectionMade()
        factory = self.factory
        if factory.countConnections > factory.connections_at_most + REFUSED_AT_ONCE:
            self._abort_over("connections")
        elif factory.limits.connections_per_address is not None:
            # A silent connection counts, too. The address behind a proxy is in the request.
            host = getattr(self.transport.getPeer(), "host", None)
            if host is not None and not is_in(host, factory.trusted_networks):
                self.address = canonical_address(host)
                self._is_counted = True
                if factory.addresses.add(self.address) > REFUSED_AT_ONCE:
                    self._abort_over("connections_per_address")

    def _abort_over(self, limit: str) -> None:
        self.factory.limit_hits.note(limit, self.peer, "not answered")
        self.transport.abortConnection()

    def connectionLost(self, reason: Any = connectionDone) -> None:
        """End the connection, and count it no more."""
        if self._is_counted:
            self._is_counted = False
            self.factory.addresses.remove(self.address)
        if self._linger is not None:
            self._linger.cancel()
        try:
            super().connectionLost(reason)
        finally:
            decision, self._decision = self._decision, None
            if decision is not None:
                decision.cancel()

    # The bytes of the request

    def consumeData(self) -> None:
        """Handle what has been received, except in a handshake: `_take_early` sees to that."""
        if self._state != self.STATE_CONNECTING:
            super().consumeData()

    def _take_early(self, data: bytes) -> None:
        self.trafficStats.preopenIncomingOctetsWireLevel += len(data)
        before = len(self.data)
        self._leave_unread(self.data + data)
        limits = self.factory.limits
        if self._is_deciding:
            if len(self.data) > limits.early_bytes:
                self.transport.pauseProducing()
            return
        end = self.data.find(_END_OF_HEAD, max(0, before - len(_END_OF_HEAD) + 1))
        size = len(self.data) if end < 0 else end + len(_END_OF_HEAD)
        if size > limits.handshake_bytes:
            self._refuse(
                "handshake_bytes", f"The request is over {limits.handshake_bytes} bytes", 431
            )
        elif end >= 0:
            self._check_request(HeadOfRequest(self.data[:size]))
        else:
            fault = early_fault(self.data, max(0, before - 1))
            if fault is not None:
                self.failHandshake(fault)

    def _check_request(self, head: HeadOfRequest) -> None:
        if head.data.startswith(b"HEAD "):
            self._answers_head = True
        if head.fault is not None:
            self.failHandshake(head.fault)
        elif head.asks_for(HEALTH_PATH, self.factory.path):
            self._tell_health()
        elif self.factory.is_stopping:
            self.failHandshake("The server is shutting down", HTTPStatus.SERVICE_UNAVAILABLE)
        elif self.factory.countConnections > self.factory.connections_at_most:
            self._refuse("connections", "The server has too many connections", 503)
        elif not self._has_room(head):
            self._refuse("connections_per_address", "Too many connections from your address", 503)
        elif self._is_allowed(head):
            self._is_deciding = True
            self._let_autobahn_parse(head)

    def _let_autobahn_parse(self, head: HeadOfRequest) -> None:
        self._head = head
        given = for_autobahn(head.data)
        if given is not head.data:
            self._leave_unread(given + self.data[len(given) :])
        self.processHandshake()

    def take_head(self) -> HeadOfRequest | None:
        """Forget what Autobahn has read of the request where it differs from what was sent.

        Return the head, once.
        """
        members = vars(self)
        head: HeadOfRequest | None = members.pop("_head", None)
        if head is not None:
            members.pop("http_headers", None)
            if self.http_request_data != head.data:
                self.http_request_data = head.data
                for name in READ_FROM_HEAD:
                    members.pop(name, None)
        return head

    def _has_room(self, head: HeadOfRequest) -> bool:
        factory = self.factory
        if self.trustXForwardedFor:
            self.trustXForwardedFor = 0  # Autobahn would trust every peer
        is_counting = factory.limits.connections_per_address is not None
        has_proxies = factory.trusted_networks or factory.trusts_unix
        if is_counting or has_proxies:
            self.address = self._address_of(head)
        if has_proxies and self.address:
            self._is_forwarded = True
            self.peer = self.address
        if not is_counting:
            return True
        addresses = factory.addresses
        over = addresses.over(self.address) if self._is_counted else addresses.add(self.address)
        self._is_counted = over <= 0
        if over > 0:
            addresses.remove(self.address)  # it gets an answer and is closed
        return self._is_counted

    def _address_of(self, head: HeadOfRequest) -> str:
        peer = self.transport.getPeer()
        if isinstance(peer, UNIXAddress):
            address, is_trusted = "", self.factory.trusts_unix
        else:
            address = canonical_address(peer.host)
            is_trusted = is_in(address, self.factory.trusted_networks)
        if not is_trusted:
            return address
        return forwarded_address(
            address,
            head.get("x-forwarded-for") or "",
            is_trusted=True,
            trusted=self.factory.trusted_networks,
        )

    def _is_allowed(self, head: HeadOfRequest) -> bool:
        """Tell whether version, `Host` and `Origin` are allowed; refuse the request if not."""
        version = head.get("sec-websocket-version")
        if version is not None and version != VERSION:
            headers = [("Sec-WebSocket-Version", VERSION)]
            self.failHandshake(f"The server speaks version {VERSION} of WebSocket", 426, headers)
            return False
        host = (head.get("host") or "").lower()
        name = name_in_host(host)
        if name is None:
            self.failHandshake("The Host header is missing or malformed")
            return False
        allowed = self.factory.hosts_allowed_at(self.transport)
        if allowed is not None and not fits_host(name, allowed):
            self._refuse(
                "allowed_hosts", f"The host {host[:100]!a} is not one of this server's", 403
            )
            return False
        origin = head.get("origin")
        if origin is not None and self.factory.checks_origins:
            origin = origin.lower()
            if not self._fits_origin(origin, host):
                self._refuse(
                    "allowed_origins",
                    f"The origin {origin[:100]!a} is neither the host that was asked for nor an "
                    "allowed one",
                    403,
                )
                return False
        return True

    def _fits_origin(self, origin: str, host: str) -> bool:
        if origin in ("null", "file://"):
            return bool(self.factory.allowNullOrigin)
        if is_same_origin(origin, host):
            return True
        return fits_origin(origin, self.factory.limits.allowed_origins)

    # The decision

    def succeedHandshake(self, res: Any) -> None:
        """Answer the opening handshake, unless its client has gone."""
        vars(self).pop("_decision", None)
        self.take_head()
        if self._state != self.STATE_CONNECTING:
            return
        vars(self).pop("_is_deciding", None)
        if len(self.data) > self.factory.limits.early_bytes:
            self.transport.resumeProducing()
        if self.websocket_extensions:
            # An offer that cannot be accepted is declined; it is not an error (RFC 7692, 7.1).
            self.websocket_extensions = list(filter(is_offer, self.websocket_extensions))
        try:
            super().succeedHandshake(res)
        except Exception as exc:  # noqa: BLE001  `onOpen` may raise anything
            logger.error("%s: the connection could not be opened", self.peer, exc_info=exc)
            if self._state == self.STATE_CONNECTING:
                self.failHandshake("Internal server error", HTTPStatus.INTERNAL_SERVER_ERROR)
            elif self._state == self.STATE_OPEN:
                self.sendCloseFrame(WS_UNEXPECTED_CONDITION, None, isReply=False)

    def failHandshake(
        self, reason: str, code: int = 400, responseHeaders: list[tuple[str, str]] | None = None
    ) -> None:
        """Answer the opening handshake with an HTTP error, and close the connection."""
        self._decision = None
        if self._state != self.STATE_CONNECTING:
            return
        # Quoted text comes from the client and may be a secret.
        words = reason.partition('"')[0]
        fields = {"event": "handshake", "peer": self.peer, "status": int(code)}
        line = f"{self.peer}: handshake refused, {code:d}: {words}"
        self.factory.capped_log.info("handshake", line, fields)
        self._answer_failure(reason, code, responseHeaders)

    def _answer_failure(
        self, reason: str, code: int, responseHeaders: list[tuple[str, str]] | None = None
    ) -> None:
        headers = list(responseHeaders or ())
        if code == HTTPStatus.UPGRADE_REQUIRED:
            headers.append(("Upgrade", "websocket"))
        self._note_unclean_end(reason)
        self._leave_unread(b"")
        self.sendHttpErrorResponse(code, reason, headers)
        self._is_lingering = True
        self.dropConnection(abort=False)

    def sendHttpErrorResponse(
        self, code: int, reason: str, responseHeaders: list[tuple[str, str]] | None = None
    ) -> None:
        """Send an HTTP response that ends the connection; `reason` is also its body."""
        reason = " ".join(reason.encode("ascii", "backslashreplace").decode()[:300].split())
        lines = [
            f"HTTP/1.1 {int(code)} {reason}",
            *(f"{name}: {value}" for name, value in responseHeaders or ()),
            "Connection: close",
            "Content-Type: text/plain; charset=utf-8",
            f"Content-Length: {len(reason) + 1}",
        ]
        if self.factory.server:
            lines.insert(1, f"Server: {self.factory.server}")
        body = "" if self._answers_head else f"{reason}\n"
        self.sendData("\r\n".join([*lines, "", body]).encode())

    def _tell_health(self) -> None:
        is_well = not self.factory.is_stopping
        self.sendHttpErrorResponse(200 if is_well else 503, "ok" if is_well else "stopping")
        self.wasClean = True
        self._is_lingering = True
        self.dropConnection(abort=False)

    def _refuse(self, limit: str, reason: str, code: int) -> None:
        self.factory.limit_hits.note(limit, self.peer, f"{code}: {reason}")
        self._answer_failure(reason, code)

    def _close_transport(self, abort: bool) -> None:
        if not self._is_lingering or abort:
            super()._close_transport(abort)
            return
        transport = self.transport
        # Inside TLS one direction cannot be closed alone, and a peer need not close the other one.
        if ISSLTransport.providedBy(transport) or not hasattr(transport, "loseWriteConnection"):
            super()._close_transport(abort)
        else:
            transport.loseWriteConnection()
            transport.resumeProducing()
        timers = self.factory.timer_wheel
        self._linger = timers.call_later(LINGER_SECONDS, transport.abortConnection)

    # The pieces of a message

    def onMessageFrameData(self, payload: bytes) -> None:
        """Keep a piece of a message, unless it is empty."""
        if payload:
            super().onMessageFrameData(payload)

    def onMessageFrame(self, payload: Any) -> None:
        """Keep a frame of a message."""
        super().onMessageFrame(payload)
        if not self.failedByMe and len(self.message_data) > MAX_PIECES:
            self.message_data = [b"".join(self.message_data)]

    # What Autobahn would say in the log itself

    def onOpenHandshakeTimeout(self) -> None:
        """Drop a client that has not finished the opening handshake in time."""
        if self._state == self.STATE_CONNECTING:
            self.factory.limit_hits.note("handshake_seconds", self.peer, "dropped")
        super().onOpenHandshakeTimeout()

    def onCloseHandshakeTimeout(self) -> None:
        """Drop a client that has not finished the closing handshake in time."""
        if self._state != self.STATE_CLOSED:
            self.factory.limit_hits.note("closing_seconds", self.peer, "dropped")
        super().onCloseHandshakeTimeout()

    def onAutoPingTimeout(self) -> None:
        """Drop a client that has not answered a ping in time."""
        self.factory.limit_hits.note("pong_seconds", self.peer, "dropped")
        super().onAutoPingTimeout()
