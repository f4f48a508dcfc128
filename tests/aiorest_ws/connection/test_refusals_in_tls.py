"""Refused handshakes inside TLS: the client has a second to read the answer, as without."""

import ssl

import pytest
import pytest_twisted
from twisted.internet.task import Clock, deferLater

from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.transports import install_reactor, loop_port, tcp_endpoint
from aiorest_ws.transports.tls import TLSFiles
from support.handshakes import request, status


class Stubborn:
    """A client that goes on sending, whatever the server has closed."""

    def __init__(self, raw, authority):
        self._raw = raw
        self._taken = 0
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=str(authority))
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    async def until_done(self, step):
        """Return what `step` does, when enough has been received for it."""
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                await self._exchange()
            finally:
                self._raw.transport.write(self._outgoing.read())

    async def _exchange(self):
        self._raw.transport.write(self._outgoing.read())
        while len(self._raw.received) == self._taken:
            assert not self._raw.closed.called
            await deferLater(install_reactor(), 0.005)
        self._incoming.write(self._raw.received[self._taken :])
        self._taken = len(self._raw.received)

    async def connect(self):
        await self.until_done(self._tls.do_handshake)

    async def ask(self, data):
        self._tls.write(data)
        return await self.until_done(lambda: self._tls.read(10_000))

    def send(self, data):
        self._tls.write(data)
        self._raw.transport.write(self._outgoing.read())

    def leave(self):
        self._raw.transport.loseConnection()


async def connected(network, tls_files, clock):
    """Return a factory on a TLS port, and a client of it."""
    factory = RequestHandlerFactory(router=SimpleRouter(), reactor=clock)
    network.factories.append(factory)
    endpoint = tcp_endpoint(network.reactor, "127.0.0.1", 0, tls=TLSFiles(*tls_files))
    listening = await endpoint.listen(factory)
    network.ports.append(listening)
    client = Stubborn(await network.raw(listening.getHost().port), tls_files[0])
    await client.connect()
    return factory, client


async def gone(network, factory):
    """Wait until a factory has no connection; fail if that takes long."""
    for _ in range(2000):
        if not factory.countConnections:
            return
        await deferLater(network.reactor, 0.01)
    raise AssertionError("the connection stays")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"junk\r\n\r\n", 400),
        (request(b"Origin: http://evil.example"), 403),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 426),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 17_000, 431),
    ],
    ids=str,
)
@pytest_twisted.ensureDeferred
async def test_a_client_that_goes_on_sending_is_dropped_after_a_second(
    network, tls_files, monkeypatch, data, expected
):
    # Longer than this test waits: it is not what ends the connection.
    monkeypatch.setattr(loop_port, "TLS_SHUTDOWN_SECONDS", 60)
    clock = Clock()
    factory, client = await connected(network, tls_files, clock)
    assert status(await client.ask(data)) == expected
    for _ in range(10):
        client.send(b"x" * 10_000)
        await deferLater(network.reactor, 0.01)
    clock.advance(0.25)
    clock.advance(1)
    await gone(network, factory)


@pytest.mark.parametrize("data", [b"junk\r\n\r\n", b"GET /healthz HTTP/1.1\r\n\r\n"])
@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_is_not_waited_for(network, tls_files, data):
    clock = Clock()
    factory, client = await connected(network, tls_files, clock)
    await client.ask(data)
    client.leave()
    await gone(network, factory)
    clock.advance(2)
