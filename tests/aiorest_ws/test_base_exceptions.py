"""Code of the program that raises what is no `Exception`: its fault, and the server goes on."""

import asyncio
import json
import logging

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from aiorest_ws.app import Application
from aiorest_ws.decorators import endpoint
from aiorest_ws.request import RequestHandlerFactory, RequestHandlerProtocol
from aiorest_ws.topics.memory import MemoryBroker
from support.hello import HELLO, HELLO_REPLY, hello_router
from support.waiting import until

pytestmark = [pytest.mark.asyncio_reactor, pytest.mark.logs_errors]


class Own(BaseException):
    """One of the program's own."""


ENDS = [asyncio.CancelledError, CancelledError, SystemExit, KeyboardInterrupt, GeneratorExit, Own]

each_end = pytest.mark.parametrize("end", ENDS)


def errors(caplog):
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


async def still_serves(network, port):
    client = await network.connect(port)
    assert await client.ask(HELLO) == HELLO_REPLY


def serving(protocol, *endpoints):
    router = hello_router()
    for one in endpoints:
        router.register_endpoint(one)
    factory = RequestHandlerFactory(router=router)
    factory.protocol = protocol
    return factory


@each_end
@pytest_twisted.ensureDeferred
async def test_an_on_message_closes_its_connection_only(network, end):
    class Broken(RequestHandlerProtocol):
        def onMessage(self, payload, isBinary):
            if payload == b"break":
                raise end
            super().onMessage(payload, isBinary)

    factory = serving(Broken)
    port = await network.serve(factory=factory)
    client = await network.connect(port)
    client.send(b"break")
    await client.closed
    await until(lambda: not factory.connections)
    await still_serves(network, port)


@each_end
@pytest_twisted.ensureDeferred
async def test_what_encodes_a_reply_is_answered_with_500(network, caplog, end):
    class Broken(RequestHandlerProtocol):
        def _encode_message(self, response, isBinary=False):
            raise end

    port = await network.serve(factory=serving(Broken))
    client = await network.connect(port)
    assert json.loads(await client.ask(HELLO))["status"] == 500
    [error] = errors(caplog)
    assert error.exc_info


@each_end
@pytest_twisted.ensureDeferred
async def test_what_converts_a_value_is_answered_with_500(network, caplog, end):
    @endpoint("/value", "GET")
    def value(request):
        return {"value": object()}

    def convert(value):
        raise end

    router = hello_router()
    router.register_endpoint(value)
    port = await network.serve(factory=RequestHandlerFactory(router=router, encoder=convert))
    client = await network.connect(port)
    reply = json.loads(await client.ask({"method": "GET", "url": "/value"}))
    assert reply["status"] == 500
    assert await client.ask(HELLO) == HELLO_REPLY
    [error] = errors(caplog)
    assert error.exc_info


@each_end
@pytest_twisted.ensureDeferred
async def test_a_canceller_does_not_keep_other_calls_from_being_cancelled(network, caplog, end):
    cancelled, waiting = [], []

    def broken(deferred):
        cancelled.append("broken")
        raise end

    @endpoint("/broken", "GET")
    def breaks(request):
        waiting.append(Deferred(broken))
        return waiting[-1]

    @endpoint("/waits", "GET")
    def waits(request):
        waiting.append(Deferred(lambda _: cancelled.append("waits")))
        return waiting[-1]

    factory = serving(RequestHandlerProtocol, breaks, waits)
    port = await network.serve(factory=factory)
    client = await network.connect(port)
    for url in ("/broken", "/waits", "/broken"):
        client.send({"method": "GET", "url": url})
    await until(lambda: len(waiting) == 3)
    client.sendClose()
    await client.closed
    await until(lambda: len(cancelled) == 3)
    await until(lambda: not factory.connections)
    assert sorted(cancelled) == ["broken", "broken", "waits"]
    await still_serves(network, port)
    assert errors(caplog)


@each_end
@pytest_twisted.ensureDeferred
async def test_a_producer_that_cannot_stop_is_logged(network, caplog, end):
    @implementer(IPushProducer)
    class Producer:
        def pauseProducing(self):
            """Go on."""

        resumeProducing = pauseProducing

        def stopProducing(self):
            raise end

    class Produces(RequestHandlerProtocol):
        def onOpen(self):
            super().onOpen()
            self.registerProducer(Producer(), True)

    factory = serving(Produces)
    port = await network.serve(factory=factory)
    client = await network.connect(port)
    client.sendClose()
    await client.closed
    await until(lambda: not factory.connections)
    assert errors(caplog)


class Broken(MemoryBroker):
    """A broker that ends with `end` when it starts, or when it stops."""

    def __init__(self, when, end):
        super().__init__()
        self._when, self._end = when, end

    async def start(self, receiver):
        if self._when == "start":
            raise self._end
        await super().start(receiver)

    async def stop(self):
        if self._when == "stop":
            raise self._end
        await super().stop()


def service_with(broker):
    app = Application(router=hello_router(), topics=broker)
    return app.service(listen="tcp:0:interface=127.0.0.1")


@each_end
@pytest_twisted.ensureDeferred
async def test_topics_that_cannot_stop_are_logged_and_the_service_ends(caplog, end):
    service = service_with(Broken("stop", end))
    service.startService()
    await service.listening
    await service.stopService()
    assert "topics" in errors(caplog)[0].getMessage()


@each_end
@pytest_twisted.ensureDeferred
async def test_topics_that_cannot_start_end_the_start(monkeypatch, end):
    service, stopped = service_with(Broken("start", end)), []
    monkeypatch.setattr(service.factory.reactor, "stop", lambda: stopped.append(True))
    service.startService()
    await until(lambda: stopped)
    assert service.failure is not None
    assert service.port is None
    await service.stopService()


@each_end
@pytest_twisted.ensureDeferred
async def test_an_override_of_closing_does_not_keep_a_service_from_stopping(network, caplog, end):
    class Stubborn(RequestHandlerProtocol):
        def sendClose(self, *arguments, **options):
            raise end

    stopped = []
    app = Application(router=hello_router(), protocol=Stubborn)
    app.on_shutdown(stopped.append)
    service = app.service(listen="tcp:0:interface=127.0.0.1")
    service.startService()
    port = await service.listening
    client = await network.connect(port.getHost().port)
    await service.stopService()
    await client.closed
    assert stopped == [service.factory]
