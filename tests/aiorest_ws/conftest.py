"""A server of ours on a real socket, and a client that speaks to it, in the test's own reactor."""

import asyncio
import base64
import datetime
import json
import os
import textwrap
from typing import Any

import pytest
import pytest_twisted
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet import asyncioreactor
from twisted.internet.defer import Deferred, DeferredQueue, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory

from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.transports import describe_reactor, install_reactor, tcp_endpoint
from support.programs import API, Server

# The loop under the asyncio reactor: uvloop's, or `asyncio` for Python's own.
LOOP_VARIABLE = "AIOREST_WS_TEST_LOOP"

ANSWER_SECONDS = 30


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """Install the reactor before pytest-twisted does: tests run on what a server runs on."""
    if config.getoption("reactor", None) != "asyncio":
        return
    if os.environ.get(LOOP_VARIABLE) == "asyncio":
        asyncioreactor.install(asyncio.SelectorEventLoop())
    install_reactor()


def pytest_runtest_setup(item):
    if item.get_closest_marker("asyncio_reactor") is not None:
        reactor = install_reactor()
        if not isinstance(reactor, asyncioreactor.AsyncioSelectorReactor):
            pytest.skip(f"needs the asyncio reactor, and this is {describe_reactor(reactor)}")


class Client(WebSocketClientProtocol):
    """Send messages and wait for replies."""

    def onOpen(self):
        self.replies = DeferredQueue()
        self.closed = Deferred()
        self.factory.opened.callback(self)

    def onMessage(self, payload, isBinary):
        self.replies.put((payload, isBinary))

    def onClose(self, wasClean, code, reason):
        self.close = (wasClean, code, reason)
        if not self.factory.opened.called:
            self.factory.opened.errback(ConnectionError(reason))
        else:
            self.closed.callback(self.close)

    def send(self, message: Any, binary: bool = False) -> None:
        """Send bytes as they are, anything else as JSON; base64 of it when binary."""
        payload = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.sendMessage(base64.b64encode(payload) if binary else payload, binary)

    def receive(self) -> Deferred[Any]:
        """Wait for the next reply, as bytes of JSON, whatever its form."""
        waiting = self.replies.get()
        waiting.addTimeout(ANSWER_SECONDS, self.factory.reactor)
        return waiting.addCallback(
            lambda reply: base64.b64decode(reply[0], validate=True) if reply[1] else reply[0]
        )

    def ask(self, message: Any, binary: bool = False) -> Deferred[Any]:
        """Send a message and wait for the next reply."""
        self.send(message, binary)
        return self.receive()


class Raw(Protocol):
    """A TCP connection: bytes as they come, and the moment of its end."""

    def connectionMade(self):
        self.received = b""
        self.closed = Deferred()
        self._waiting = []

    def dataReceived(self, data):
        self.received += data
        self._look()

    def connectionLost(self, reason=connectionDone):
        self._look()
        for _, waiting in self._waiting:
            waiting.errback(AssertionError(f"closed after {self.received[-200:]!r}"))
        self.closed.callback(reason.value)

    def until(self, mark: bytes, count: int = 1) -> Deferred[bytes]:
        """Wait until `mark` has come so often; the result is all that has."""
        waiting = Deferred()
        self._waiting.append((lambda: self.received.count(mark) >= count, waiting))
        waiting.addTimeout(ANSWER_SECONDS, install_reactor())
        self._look()
        return waiting

    def end(self) -> Deferred[bytes]:
        """Wait for the end of the connection; the result is all that has come."""
        self.closed.addTimeout(ANSWER_SECONDS, install_reactor())
        return self.closed.addCallback(lambda _: self.received)

    def _look(self):
        for one in [one for one in self._waiting if one[0]()]:
            self._waiting.remove(one)
            one[1].callback(self.received)


class Network:
    """What a test opens; all of it is closed at its end."""

    client_class = Client

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.ports: list[Any] = []
        self.clients: list[Client] = []
        self.raws: list[Raw] = []
        self.factories: list[RequestHandlerFactory] = []

    async def serve(self, router: Any = None, factory: RequestHandlerFactory | None = None) -> int:
        """Listen with a router or a factory; return the port."""
        factory = factory or RequestHandlerFactory(router=router)
        port = await tcp_endpoint(self.reactor, "127.0.0.1", 0).listen(factory)
        self.ports.append(port)
        self.factories.append(factory)
        return port.getHost().port

    async def connect(
        self, to: Any, protocol: type[Client] = Client, tls: Any = None, **options: Any
    ) -> Client:
        """Open a WebSocket connection to a port on loopback or a client endpoint."""
        if isinstance(to, int):
            to = TCP4ClientEndpoint(self.reactor, "127.0.0.1", to)
        factory = WebSocketClientFactory("ws://localhost/", reactor=self.reactor)
        factory.protocol = protocol
        factory.opened = Deferred()
        if options:
            factory.setProtocolOptions(**options)
        await to.connect(TLSMemoryBIOFactory(tls, True, factory) if tls else factory)
        client = await factory.opened
        self.clients.append(client)
        return client

    async def raw(self, port: int, first: bytes = b"") -> Raw:
        """Open a TCP connection to a port on loopback, and send something."""
        endpoint = TCP4ClientEndpoint(self.reactor, "127.0.0.1", port)
        raw = await connectProtocol(endpoint, Raw())
        self.raws.append(raw)
        raw.transport.write(first)
        return raw

    async def close(self) -> None:
        for raw in self.raws:
            raw.transport.abortConnection()
        for client in self.clients:
            client.sendClose()
        for client in self.clients:
            await client.closed
        for factory in self.factories:
            await factory.last_closed()
            factory.stopFactory()
        for port in self.ports:
            await maybeDeferred(port.stopListening)


@pytest_twisted.async_yield_fixture
async def network():
    """Servers and clients on loopback."""
    net = Network(install_reactor())
    yield net
    await net.close()


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory):
    """Paths of a certificate with the one that signed it, and of its key."""
    now = datetime.datetime.now(datetime.UTC)

    def certificate(name, key, issuer, issuer_key, is_authority):
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = x509.CertificateBuilder(
            issuer or subject,
            subject,
            key.public_key(),
            x509.random_serial_number(),
            now - datetime.timedelta(days=1),
            now + datetime.timedelta(days=1),
        )
        alternative = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        # Python 3.13 looks for all of these (RFC 5280).
        other_usages = (
            "content_commitment key_encipherment data_encipherment key_agreement "
            "encipher_only decipher_only"
        )
        usage = dict.fromkeys(other_usages.split(), False)
        extensions = (
            (x509.BasicConstraints(is_authority, None), True),
            (
                x509.KeyUsage(
                    digital_signature=not is_authority,
                    key_cert_sign=is_authority,
                    crl_sign=is_authority,
                    **usage,
                ),
                True,
            ),
            (alternative, False),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False),
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(issuer_key, hashes.SHA256())

    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    authority = certificate("test authority", keys[0], None, keys[0], True)
    server = certificate("localhost", keys[1], authority.subject, keys[0], False)
    folder = tmp_path_factory.mktemp("tls")
    chain = [c.public_bytes(serialization.Encoding.PEM) for c in (server, authority)]
    (folder / "chain.pem").write_bytes(b"".join(chain))
    (folder / "key.pem").write_bytes(
        keys[1].private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "chain.pem", folder / "key.pem"


@pytest.fixture
def folder(tmp_path):
    """A folder with an API, which is not on the path."""
    (tmp_path / "api.py").write_text(textwrap.dedent(API))
    return tmp_path


@pytest.fixture
def start(folder):
    """Start server processes; what is left of them is killed at the end."""
    servers = []

    def start(*command, **environment):
        server = Server(command, folder, **environment)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(autouse=True)
def _no_errors_in_the_log(request, caplog):
    """A test that expects an error line of the server says so with the marker `logs_errors`.

    Those with the fixture `logged` judge what is logged themselves.
    """
    yield
    if "logs_errors" in request.keywords or "logged" in request.fixturenames:
        return
    errors = [r for r in caplog.get_records("call") if r.levelname in ("ERROR", "CRITICAL")]
    assert not errors, [record.getMessage() for record in errors]
