"""Servers on our transports and on Twisted's, and blocking clients of theirs."""

import socket
import ssl
import struct

import pytest
from twisted.internet.defer import Deferred, DeferredQueue, maybeDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, UNIXServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory

from aiorest_ws.transports import LoopServerEndpoint, TLSFiles, install_reactor, sockets

SECONDS = 30
RESET = struct.pack("ii", 1, 0)
BIG = 4 * 1024 * 1024


with_and_without_tls = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


class Recorder(Protocol):
    """Remember what happens to a connection."""

    def __init__(self):
        self.received = b""
        self.reasons = []
        self.lost = Deferred()
        self._waiting = []

    def connectionMade(self):
        self.factory.made.put(self)

    def dataReceived(self, data):
        assert type(data) is bytes
        self.received += data
        for wanted, done in self._waiting[:]:
            if len(self.received) >= wanted:
                self._waiting.remove((wanted, done))
                done.callback(self.received)

    def connectionLost(self, reason):
        self.reasons.append(reason.value)
        if not self.lost.called:
            self.lost.callback(reason.value)

    def wait_for(self, count):
        done = Deferred()
        self._waiting.append((count, done))
        self.dataReceived(b"")
        return bounded(done)

    def gone(self):
        """Wait for the end; return why."""
        return bounded(self.lost)


class Echo(Recorder):
    def dataReceived(self, data):
        super().dataReceived(data)
        self.transport.write(data)


def bounded(deferred):
    return deferred.addTimeout(SECONDS, install_reactor())


def in_thread(function, *args):
    return deferToThread(function, *args)


async def turns(count):
    for _ in range(count):
        await deferLater(install_reactor(), 0)


def read_all(client):
    """Read until the server closes the connection."""
    pieces = []
    while piece := client.recv(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


def read_exactly(client, count):
    pieces = []
    while count and (piece := client.recv(count)):
        count -= len(piece)
        pieces.append(piece)
    return b"".join(pieces)


async def close(client):
    """Close a client's socket, in the way of TLS if it is inside."""

    def end():
        if isinstance(client, ssl.SSLSocket):
            client.unwrap().close()
        client.close()

    await in_thread(end)


class Server:
    """Listens by our endpoint or by Twisted's, with and without TLS."""

    def __init__(self, is_native, tls_files):
        self.is_native = is_native
        self.tls_files = tls_files
        self.ports = []
        self.factories = []
        self.clients = []

    def endpoint(self, host="127.0.0.1", port=0, *, tls=False, path=None):
        reactor = install_reactor()
        files = TLSFiles(*self.tls_files)
        if self.is_native:
            where = (
                sockets.TCPSocket(host, port, 50)
                if path is None
                else sockets.UNIXSocket(path, 0o600, 50)
            )
            return LoopServerEndpoint(reactor, where, files.ssl_context() if tls else None)
        if path is not None:
            endpoint = UNIXServerEndpoint(reactor, path, 50, 0o600)
        else:
            kind = TCP6ServerEndpoint if ":" in host else TCP4ServerEndpoint
            endpoint = kind(reactor, port, 50, host)
        return TwistedTLS(endpoint, files.twisted_options()) if tls else endpoint

    async def listen(self, protocol=Recorder, *, factory=None, **where):
        factory = factory or Factory.forProtocol(protocol)
        factory.noisy = False
        factory.made = DeferredQueue()
        self.factories.append(factory)
        self.tls = where.get("tls", False)
        self.port = await self.endpoint(**where).listen(factory)
        self.ports.append(self.port)
        return factory

    def dial(self):
        """Return a connected socket; the system accepts it before the server does."""
        name = self.port.getHost()
        if hasattr(name, "port"):
            client = socket.create_connection((name.host, name.port), SECONDS)
        else:
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(SECONDS)
            client.connect(name.name)
        self.clients.append(client)
        return client

    async def connect(self, **versions):
        """Return a client's socket, inside TLS if the server is, and the server's protocol."""
        client = self.dial()
        if self.tls:
            context = self.client_context(**versions)
            client = await in_thread(
                lambda: context.wrap_socket(client, server_hostname="localhost")
            )
            self.clients.append(client)
        connection = await bounded(self.factories[-1].made.get())
        # Twisted builds a protocol before TLS is ready, and what is closed by then is cut off.
        for _ in range(SECONDS * 1000):
            if getattr(connection.transport, "_handshakeDone", True):
                break
            await deferLater(install_reactor(), 0.001)
        return client, connection

    def client_context(self, **versions):
        context = ssl.create_default_context(cafile=str(self.tls_files[0]))
        for name, version in versions.items():
            setattr(context, name, version)
        return context

    async def close(self):
        for port in self.ports:
            await maybeDeferred(port.stopListening)
        for client in self.clients:
            client.close()
        await turns(3)


class TwistedTLS:
    def __init__(self, endpoint, options):
        self.endpoint = endpoint
        self.options = options

    def listen(self, factory):
        return self.endpoint.listen(TLSMemoryBIOFactory(self.options, False, factory))


NATIVE = pytest.param(True, id="native", marks=pytest.mark.asyncio_reactor)
