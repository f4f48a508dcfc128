"""What all connections of a server share: limits, counts, and who is connected."""

import ipaddress
from typing import Any
from weakref import WeakKeyDictionary

from autobahn.twisted.websocket import WebSocketServerProtocol
from twisted.internet.defer import Deferred, DeferredList

from aiorest_ws.connection.autobahn import CompactFactory, CompactProtocol
from aiorest_ws.connection.callbacks import run_coroutines
from aiorest_ws.connection.limit_hits import AddressCount, CappedLog, LimitHits
from aiorest_ws.connection.on_connect import deciding
from aiorest_ws.connection.paused_clients import PausedClients
from aiorest_ws.connection.unsent_budget import UnsentBudget
from aiorest_ws.interfaces import Connection
from aiorest_ws.limits import UNIX_SOCKET, Limits

__all__ = ("ConnectionFactory",)

# How often the unsent bytes of all connections are added up.
AUDIT_SECONDS = 1

# This machine's names for itself. Another name that leads here is DNS rebinding.
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


class ConnectionFactory(CompactFactory):
    """Autobahn's factory, with limits and a set of open connections."""

    server: str

    def __init__(self, *args: Any, limits: Limits | None = None, **kwargs: Any) -> None:
        self.limits = Limits() if limits is None else limits
        if not isinstance(self.limits, Limits):
            raise TypeError(f"limits must be Limits(...), not {limits!r}")
        # Autobahn's own name says its version.
        kwargs.setdefault("server", "aiorest-ws")
        super().__init__(*args, **kwargs)
        if isinstance(self.protocols, str):
            raise TypeError(f"protocols must be a list of names, not {self.protocols!r}")
        self.is_stopping = False
        self.checks_origins = True
        self.limit_hits = LimitHits(self.reactor.seconds)
        self.capped_log = CappedLog(self.reactor.seconds)
        self.connections_at_most = self.limits.connections_at_most()
        self.trusts_unix = UNIX_SOCKET in self.limits.trusted_proxies
        self.trusted_networks = [
            ipaddress.ip_network(network)
            for network in self.limits.trusted_proxies
            if network != UNIX_SOCKET
        ]
        self.addresses = AddressCount(self.limits.connections_per_address or 0)
        self.unsent = UnsentBudget(self.limits.unsent_bytes_in_all)
        self.paused_clients = PausedClients(self.timer_wheel)
        self.connections: set[Any] = set()
        self._is_auditing = False
        self._kept: set[Deferred[Any]] = set()
        self._waiting_for_last: list[Deferred[None]] = []
        self._hosts: WeakKeyDictionary[Any, tuple[str, ...] | None] = WeakKeyDictionary()
        self.allowNullOrigin = "null" in self.limits.allowed_origins
        self.setProtocolOptions(
            # A protocol error is answered with its close code; Autobahn would drop the client.
            failByDrop=False,
            webStatus=False,
            maxMessagePayloadSize=self.limits.message_bytes,
            openHandshakeTimeout=self.limits.handshake_seconds,
            closeHandshakeTimeout=self.limits.closing_seconds,
            autoPingInterval=self.limits.ping_seconds,
            autoPingTimeout=self.limits.pong_seconds,
        )

    def setProtocolOptions(self, *args: Any, **options: Any) -> None:
        """Set options of Autobahn's; those that are not named stay as they are.

        With `allowedOrigins`, Autobahn checks origins, and `allowed_origins` is ignored.
        """
        if options.get("allowedOrigins") is not None:
            self.checks_origins = False
        # Autobahn takes an `allowNullOrigin` that is not named for False.
        options.setdefault("allowNullOrigin", self.allowNullOrigin)
        super().setProtocolOptions(*args, **options)  # type: ignore[no-untyped-call]

    def add(self, connection: Connection) -> None:
        """Note that a connection is open."""
        self.connections.add(connection)
        if not self._is_auditing and self._may_exceed_budget():
            self._is_auditing = True
            self.timer_wheel.call_later(AUDIT_SECONDS, self._audit)

    def _may_exceed_budget(self) -> bool:
        # Below the mark nothing is noted; so few connections cannot exceed the limit together.
        limits = self.limits
        return len(self.connections) * limits.unsent_pause_bytes > limits.unsent_bytes_in_all

    def _audit(self) -> None:
        self._is_auditing = self._may_exceed_budget()
        if self._is_auditing:
            self.unsent.audit(self.connections)
            self.timer_wheel.call_later(AUDIT_SECONDS, self._audit)

    def forget(self, connection: Connection) -> None:
        """Note that a connection has ended."""
        self.connections.discard(connection)
        if not self.connections:
            waiting, self._waiting_for_last = self._waiting_for_last, []
            for last_closed in waiting:
                last_closed.callback(None)

    def last_closed(self) -> Deferred[None]:
        """Return a Deferred that fires when there is no connection left."""
        last_closed: Deferred[None] = Deferred()
        if self.connections:
            self._waiting_for_last.append(last_closed)
        else:
            last_closed.callback(None)
        return last_closed

    def keep(self, pending: Deferred[Any]) -> None:
        """Keep a reference to what runs on its own: asyncio does not."""
        self._kept.add(pending)
        pending.addBoth(lambda _: self._kept.discard(pending))

    def hooks_done(self) -> Deferred[Any]:
        """Return a Deferred that fires when the disconnect hooks that still run are done."""
        return DeferredList(list(self._kept))

    def hosts_allowed_at(self, transport: Any) -> tuple[str, ...] | None:
        """Return what `Host` may be for a connection; None for anything."""
        if self.limits.allowed_hosts is not None:
            return self.limits.allowed_hosts
        port = getattr(transport, "server", None)
        if port is None:
            return None
        if port not in self._hosts:
            self._hosts[port] = _hosts_of(port.getHost())
        return self._hosts[port]

    def _configure(self, kind: type[CompactProtocol], options: tuple[Any, ...]) -> type:
        configured = super()._configure(kind, options)
        # Autobahn's own says what it was called with, for a log that is mostly off.
        is_own = kind.onConnect is not WebSocketServerProtocol.onConnect
        configured.onConnect = deciding(kind.onConnect) if is_own else _accept  # type: ignore[attr-defined]
        run_coroutines(kind, configured)
        return configured


def _hosts_of(bound: Any) -> tuple[str, ...] | None:
    try:
        address = ipaddress.ip_address(bound.host)
    except (AttributeError, ValueError):  # a Unix socket
        return None
    if not address.is_loopback:
        return None
    own = f"[{address}]" if address.version == 6 else str(address)
    return (*_LOOPBACK_NAMES, own)


def _accept(connection: Any, request: Any) -> str | None:
    """Let a client in, with the first of the server's subprotocols that it has offered.

    If there is none, the answer names no subprotocol (RFC 6455, 4.2.2).
    """
    ours = connection.factory.protocols
    return next((name for name in ours if name in request.protocols), None) if ours else None
