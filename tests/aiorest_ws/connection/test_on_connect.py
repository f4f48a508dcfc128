"""`onConnect`: what waits for it, and what it decides."""

import asyncio

import pytest
import pytest_twisted
from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from aiorest_ws.request import RequestHandlerProtocol
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.transports import install_reactor
from support.handshakes import answer_to, factory_with, request, status


@pytest_twisted.ensureDeferred
async def test_what_comes_while_on_connect_decides_waits_for_it(network):
    decision = Deferred()
    asked, connections = [], []

    class Slow(RequestHandlerProtocol):
        def onConnect(self, request):
            asked.append(request)
            connections.append(self)
            return decision

    router = SimpleRouter()
    factory = factory_with(Slow)
    factory.router = router
    port = await network.serve(factory=factory)
    raw = await network.raw(port, request())
    while not asked:
        await deferLater(network.reactor, 0.01)
    raw.transport.write(request())  # a second one, which Autobahn would answer, too
    await deferLater(network.reactor, 0.05)
    assert raw.received == b""
    connections[0].consumeData()
    decision.callback(None)
    # No frame begins like a request.
    assert (await raw.end()).count(b"HTTP/1.1 101 ") == 1
    assert len(asked) == 1


@pytest_twisted.ensureDeferred
async def test_little_is_held_while_on_connect_decides(network):
    decision, opened = Deferred(), Deferred()
    connections = []

    class Slow(RequestHandlerProtocol):
        def onConnect(self, request):
            connections.append(self)
            return decision

        def onMessage(self, payload, isBinary):
            opened.callback(len(payload))

    port = await network.serve(factory=factory_with(Slow, early_bytes=1000))
    size = 2**20 - 1
    raw = await network.raw(port, request())
    while not connections:
        await deferLater(network.reactor, 0.01)
    frame = b"\x82\xff" + size.to_bytes(8) + bytes(4) + bytes(size)
    raw.transport.write(frame)
    while len(connections[0].data) <= 1000:
        await deferLater(network.reactor, 0.01)
    await deferLater(network.reactor, 0.1)
    assert len(connections[0].data) < size / 2  # one chunk of the transport at most
    decision.callback(None)
    assert await opened == size


@pytest.mark.logs_errors
@pytest.mark.parametrize("is_late", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_fault_in_on_connect_is_ours_and_its_words_stay_here(network, caplog, is_late):
    class Broken(RequestHandlerProtocol):
        async def onConnect(self, request):
            if is_late:
                await deferLater(install_reactor(), 0.01)
            raise ValueError("s3cr3t")

    answer = await answer_to(network, request(), factory_with(Broken))
    assert status(answer) == 500
    assert b"s3cr3t" not in answer
    [line] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "onConnect failed" in line.getMessage()
    assert line.exc_info


@pytest_twisted.ensureDeferred
async def test_on_connect_may_deny(network):
    class Strict(RequestHandlerProtocol):
        def onConnect(self, request):
            raise ConnectionDeny(401, "who are you")

    answer = await answer_to(network, request(), factory_with(Strict))
    assert answer.startswith(b"HTTP/1.1 401 who are you\r\n")


@pytest_twisted.ensureDeferred
async def test_on_connect_of_a_mixin_may_deny(network):
    class Strict(WebSocketServerProtocol):
        def onConnect(self, request):
            raise ConnectionDeny(403, "not you")

    class Mixed(RequestHandlerProtocol, Strict):
        pass

    answer = await answer_to(network, request(), factory_with(Mixed))
    assert answer.startswith(b"HTTP/1.1 403 not you\r\n")


@pytest_twisted.ensureDeferred
async def test_a_client_that_goes_ends_the_decision(network):
    asked, ended = Deferred(), Deferred()

    class Slow(RequestHandlerProtocol):
        async def onConnect(self, request):
            asked.callback(None)
            try:
                await Deferred()
            except (CancelledError, asyncio.CancelledError):
                ended.callback("cancelled")
                raise

    port = await network.serve(factory=factory_with(Slow))
    raw = await network.raw(port, request())
    await asked
    raw.transport.abortConnection()
    assert await ended == "cancelled"


@pytest.mark.asyncio_reactor
@pytest_twisted.ensureDeferred
async def test_on_connect_may_await_asyncio(network):
    class Slow(RequestHandlerProtocol):
        async def onConnect(self, request):
            await asyncio.sleep(0.01)

    assert status(await answer_to(network, request(), factory_with(Slow))) == 101


@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_an_on_open_that_raises_closes_with_1011(network):
    class Broken(RequestHandlerProtocol):
        def onOpen(self):
            raise ValueError("s3cr3t")

    port = await network.serve(factory=factory_with(Broken))
    client = await network.connect(port)
    assert (await client.closed)[1] == 1011
