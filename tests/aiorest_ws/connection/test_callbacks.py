"""Callbacks of a protocol that are coroutines, as `onMessage` was in 1.1."""

import asyncio
import functools
import json
import types

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater

from aiorest_ws.app import Application
from aiorest_ws.decorators import endpoint
from aiorest_ws.limits import Limits
from aiorest_ws.request import RequestHandlerFactory, RequestHandlerProtocol
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.transports import install_reactor
from support.drain import call, hello
from support.waiting import until


def pause():
    return deferLater(install_reactor(), 0)


def factory_of(protocol, *views, **limits):
    router = SimpleRouter()
    for view in (hello, *views):
        router.register_endpoint(view)
    factory = RequestHandlerFactory(router=router, limits=Limits(**limits))
    factory.protocol = protocol
    return factory


def decorated(function):
    """A decorator that hides what its function is."""

    @functools.wraps(function)
    def call(self, *arguments):
        return function(self, *arguments)

    call.__wrapped__ = None
    return call


# Every callback of a connection that opens, speaks and ends


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        *("onOpen", "onMessage", "onPing", "onPong", "onClose"),
        *("onMessageBegin", "onMessageFrameBegin", "onMessageFrameData", "onMessageFrameEnd"),
        *("onMessageFrame", "onMessageEnd", "onCloseFrame"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_callback_that_is_a_coroutine_runs(network, name, is_late):
    seen = []

    async def callback(self, *arguments):
        answer = getattr(super(protocol, self), name)(*arguments)  # parts of messages: at once
        if is_late:
            await pause()
        seen.append(len(arguments))
        return answer

    protocol = type("Protocol", (RequestHandlerProtocol,), {name: callback})
    factory = factory_of(protocol)
    client = await network.connect(await network.serve(factory=factory))
    [connection] = factory.connections
    connection.sendPing(b"to the client")  # whose pong is a callback
    client.sendPing(b"to the server")
    client.send(call("/hello").encode())
    assert json.loads(await client.receive())["data"] == "hello"
    client.sendClose(1000)
    await client.closed
    await until(lambda: seen)


@pytest_twisted.ensureDeferred
async def test_the_base_class_can_be_awaited_in_every_callback(network):
    ran = []

    class Protocol(RequestHandlerProtocol):
        async def onOpen(self):
            ran.append(("open", await super().onOpen()))

        async def onMessage(self, payload, isBinary):
            ran.append(("message", await super().onMessage(payload, isBinary)))

        async def onPing(self, payload):
            ran.append(("ping", await super().onPing(payload)))

        async def onPong(self, payload):
            ran.append(("pong", await super().onPong(payload)))

        async def onClose(self, wasClean, code, reason):
            ran.append(("close", await super().onClose(wasClean, code, reason)))

    factory = factory_of(Protocol)
    client = await network.connect(await network.serve(factory=factory))
    [connection] = factory.connections
    connection.sendPing(b"ours")
    assert json.loads(await client.ask(call("/hello").encode()))["data"] == "hello"
    client.sendPing(b"theirs")
    await until(lambda: len(ran) == 4)
    client.sendClose(1000)
    await until(lambda: len(ran) == 5)
    assert ran[0] == ("open", None)
    assert set(ran) == {(word, None) for word in ("open", "message", "ping", "pong", "close")}


# What a callback may be, besides a coroutine function


def kinds_of_callback():
    async def coroutine(self, payload, isBinary):
        await pause()
        await super(self.kind, self).onMessage(payload, isBinary)

    @inlineCallbacks
    def inline(self, payload, isBinary):
        yield pause()
        yield super(self.kind, self).onMessage(payload, isBinary)

    @types.coroutine
    def generator(self, payload, isBinary):
        yield from pause().__await__()
        super(self.kind, self).onMessage(payload, isBinary)

    def passes_on(self, payload, isBinary):
        return super(self.kind, self).onMessage(payload, isBinary)

    def returns_a_deferred(self, payload, isBinary):
        return pause().addCallback(
            lambda _: super(self.kind, self).onMessage(payload, isBinary) and None
        )

    async def with_an_option(self, payload, isBinary, *, option):
        await coroutine(self, payload, isBinary)

    return {
        "coroutine": coroutine,
        "decorated": decorated(coroutine),
        "generator": generator,
        "inlineCallbacks": inline,
        "partial": functools.partialmethod(with_an_option, option=1),
        "passes on": passes_on,
        "deferred": returns_a_deferred,
    }


KINDS = kinds_of_callback()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("view", ["/hello", "/later"])
@pytest_twisted.ensureDeferred
async def test_an_on_message_of_any_kind_answers(network, kind, view):
    @endpoint("/later", "GET")
    async def later(request):
        await pause()
        return "later"

    protocol = type("Protocol", (RequestHandlerProtocol,), {"onMessage": KINDS[kind]})
    protocol.kind = protocol
    client = await network.connect(await network.serve(factory=factory_of(protocol, later)))
    for request_id in range(3):
        reply = json.loads(await client.ask(call(view, request_id).encode()))
        assert (reply["data"], reply["id"]) == (view[1:], request_id)


@pytest.mark.asyncio_reactor
@pytest_twisted.ensureDeferred
async def test_an_on_message_can_await_asyncio_and_return_a_task(network):
    async def answer(self, payload, isBinary):
        await asyncio.sleep(0)
        await super(Protocol, self).onMessage(payload, isBinary)

    class Protocol(RequestHandlerProtocol):
        def onMessage(self, payload, isBinary):
            return asyncio.ensure_future(answer(self, payload, isBinary))

    client = await network.connect(await network.serve(factory=factory_of(Protocol)))
    assert json.loads(await client.ask(call("/hello").encode()))["data"] == "hello"


@pytest_twisted.ensureDeferred
async def test_super_calls_of_several_classes_are_awaited(network):
    order = []

    def layer(base, name):
        class Layer(base):
            async def onMessage(self, payload, isBinary):
                order.append(f"{name} begins")
                await pause()
                await super().onMessage(payload, isBinary)
                order.append(f"{name} ends")

        return Layer

    protocol = layer(layer(RequestHandlerProtocol, "inner"), "outer")
    client = await network.connect(await network.serve(factory=factory_of(protocol)))
    await client.ask(call("/hello").encode())
    await until(lambda: len(order) == 4)
    assert order == ["outer begins", "inner begins", "inner ends", "outer ends"]


@pytest_twisted.ensureDeferred
async def test_awaiting_the_base_class_waits_for_the_answer_of_a_view_that_waits(network):
    go_on, order = Deferred(), []

    @endpoint("/wait", "GET")
    async def wait(request):
        await go_on
        order.append("view")
        return "done"

    class Protocol(RequestHandlerProtocol):
        async def onMessage(self, payload, isBinary):
            await super().onMessage(payload, isBinary)
            order.append("after")

        def sendMessage(self, *arguments, **options):
            order.append("reply")
            super().sendMessage(*arguments, **options)

    client = await network.connect(await network.serve(factory=factory_of(Protocol, wait)))
    client.send(call("/wait").encode())
    await pause()
    go_on.callback(None)
    assert json.loads(await client.receive())["data"] == "done"
    await until(lambda: len(order) == 3)
    assert order == ["view", "reply", "after"]


# Order, flow and ends


@pytest.mark.parametrize("turns", [0, 1, 3])
@pytest_twisted.ensureDeferred
async def test_messages_keep_their_order(network, turns):
    class Protocol(RequestHandlerProtocol):
        async def onMessage(self, payload, isBinary):
            for _ in range(turns):
                await pause()
            await super().onMessage(payload, isBinary)

    client = await network.connect(await network.serve(factory=factory_of(Protocol)))
    for request_id in range(200):
        client.send(call("/hello", request_id).encode())
    for request_id in range(200):
        assert json.loads(await client.receive())["id"] == request_id


@pytest_twisted.ensureDeferred
async def test_no_more_messages_run_at_once_than_calls_may(network):
    waiting, most = [], []

    class Protocol(RequestHandlerProtocol):
        async def onMessage(self, payload, isBinary):
            go_on = Deferred()
            waiting.append(go_on)
            most.append(len(waiting))
            await super().onMessage(payload, isBinary)
            await go_on  # what follows the reply counts too

    factory = factory_of(Protocol, calls_in_flight=5)
    client = await network.connect(await network.serve(factory=factory))
    for request_id in range(50):
        client.send(call("/hello", request_id).encode())
    answered = 0
    while answered < 50:
        await until(lambda: waiting)
        while waiting:
            waiting.pop(0).callback(None)
            await client.receive()
            answered += 1
    assert max(most) == 5


FAULTS = {
    "ours": KeyError,
    "cancelled": asyncio.CancelledError,
    "exit": SystemExit,
}


@pytest.mark.logs_errors
@pytest.mark.asyncio_reactor
@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["onMessage", "onPing", "onClose", "onOpen"])
@pytest_twisted.ensureDeferred
async def test_a_fault_is_logged_with_its_traceback(network, caplog, name, fault, is_late):
    async def callback(self, *arguments):
        if is_late:
            await pause()
        raise FAULTS[fault]()

    protocol = type("Protocol", (RequestHandlerProtocol,), {name: callback})
    factory = factory_of(protocol)
    client = await network.connect(await network.serve(factory=factory))
    client.sendPing(b"")
    client.send(call("/hello").encode())
    if name == "onClose":
        client.sendClose(1000)
    await until(lambda: f"{name} failed" in caplog.text)
    [record] = [one for one in caplog.records if f"{name} failed" in one.getMessage()]
    assert record.exc_info[1] is not None
    if name == "onOpen":  # as of an `onOpen` that is no coroutine
        assert (await client.closed)[1] == 1011
    else:
        other = await network.connect(network.ports[0].getHost().port)  # the server goes on
        other.sendClose(1000)
        assert (await other.closed)[1] == 1000


@pytest_twisted.ensureDeferred
async def test_an_on_message_goes_on_when_its_client_has_gone(network):
    go_on, ended = Deferred(), []

    class Protocol(RequestHandlerProtocol):
        async def onMessage(self, payload, isBinary):
            await super().onMessage(payload, isBinary)
            await go_on
            ended.append(payload)

    client = await network.connect(await network.serve(factory=factory_of(Protocol)))
    await client.ask(call("/hello").encode())
    client.sendClose(1000)
    await client.closed
    go_on.callback(None)
    await until(lambda: ended)


@pytest_twisted.ensureDeferred
async def test_a_view_may_close_the_connection_that_an_on_message_waits_for(network):
    @endpoint("/leave", "GET")
    async def leave(request):
        await request.connection.close(1000)
        return "bye"

    class Protocol(RequestHandlerProtocol):
        async def onMessage(self, payload, isBinary):
            await pause()
            await super().onMessage(payload, isBinary)

    factory = factory_of(Protocol, leave, drain_seconds=300)
    client = await network.connect(await network.serve(factory=factory))
    assert json.loads(await client.ask(call("/leave").encode()))["data"] == "bye"
    assert (await client.closed)[1] == 1000


@pytest_twisted.ensureDeferred
async def test_a_server_that_stops_waits_for_an_on_message_and_for_an_on_close(network):
    go_on, order = Deferred(), []

    class Protocol(RequestHandlerProtocol):
        async def onMessage(self, payload, isBinary):
            order.append("begun")
            await go_on
            await super().onMessage(payload, isBinary)

        async def onClose(self, wasClean, code, reason):
            await pause()
            order.append("closed")

    router = SimpleRouter()
    router.register_endpoint(hello)
    app = Application(router=router, protocol=Protocol)
    app.on_shutdown(lambda factory: order.append("shutdown"))
    service = app.service(listen="tcp:0:interface=127.0.0.1")
    service.startService()
    port = (await service.listening).getHost().port
    client = await network.connect(port)
    client.send(call("/hello").encode())
    await until(lambda: order)
    stopped = service.stopService()
    await until(lambda: service.factory.is_stopping)
    client.send(call("/hello").encode())  # arrives after the stop
    await until(lambda: order.count("begun") == 2)
    go_on.callback(None)
    assert "status" not in json.loads(await client.receive())
    assert json.loads(await client.receive())["status"] == 503
    assert (await client.closed)[1] == 1012
    await stopped
    assert order == ["begun", "begun", "closed", "shutdown"]


@pytest_twisted.ensureDeferred
async def test_methods_of_the_application_itself_are_left_alone(network):
    seen = []

    class Protocol(RequestHandlerProtocol):
        async def onLogin(self, name):
            return name

        async def onMessage(self, payload, isBinary):
            seen.append(await self.onLogin("ann"))
            super().onMessage(payload, isBinary)

    client = await network.connect(await network.serve(factory=factory_of(Protocol)))
    await client.ask(call("/hello").encode())
    assert seen == ["ann"]
