"""A server over a real socket: calls, what a view reaches, and what subclasses override."""

import base64
import json

import pytest
import pytest_twisted
from autobahn.twisted.websocket import WebSocketServerProtocol
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater

from aiorest_ws.connection.fast_path import MESSAGES_PER_TURN
from aiorest_ws.decorators import endpoint
from aiorest_ws.request import (
    CloseReason,
    ConnectionState,
    RequestHandlerFactory,
    RequestHandlerProtocol,
)
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.transports import install_reactor
from aiorest_ws.wrappers import Request
from support.hello import HELLO, HELLO_REPLY
from support.views import ForeignRouter, data_of, router_of, view

# The five steps


@pytest_twisted.ensureDeferred
async def test_a_text_message_is_answered_in_text(network):
    client = await network.connect(await network.serve(router_of()))
    client.send(HELLO)
    assert await client.replies.get() == (HELLO_REPLY, False)


@pytest_twisted.ensureDeferred
async def test_a_binary_message_is_answered_in_base64(network):
    client = await network.connect(await network.serve(router_of()))
    client.send(HELLO, binary=True)
    assert await client.replies.get() == (base64.b64encode(HELLO_REPLY), True)


@pytest_twisted.ensureDeferred
async def test_text_and_binary_may_alternate_on_one_connection(network):
    client = await network.connect(await network.serve(router_of()))
    for binary in (True, False, False, True):
        client.send(HELLO, binary)
        assert (await client.replies.get())[1] is binary


@pytest_twisted.ensureDeferred
async def test_calls_of_one_connection_are_answered_when_they_are_done(network):
    waiting = Deferred()
    router = router_of(slow=view(lambda request: waiting))
    client = await network.connect(await network.serve(router))
    client.send({"method": "GET", "url": "/slow", "id": "slow"})
    assert json.loads(await client.ask({**HELLO, "id": "quick"}))["id"] == "quick"
    waiting.callback("done")
    assert json.loads(await client.receive()) == {"data": "done", "event_name": None, "id": "slow"}


@pytest_twisted.ensureDeferred
async def test_a_client_may_hold_many_connections(network):
    port = await network.serve(router_of())
    clients = [await network.connect(port) for _ in range(5)]
    for client in clients:
        client.send(HELLO)
    assert [await client.receive() for client in clients] == [HELLO_REPLY] * 5


@pytest.mark.parametrize("binary", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_coroutine_is_answered_whether_it_suspends_or_not(network, binary):
    async def at_once(request):
        return "at once"

    async def later(request):
        step = Deferred()
        request.factory.reactor.callLater(0, step.callback, None)
        await step
        return "later"

    router = router_of(quick=view(at_once), later=view(later))
    client = await network.connect(await network.serve(router))
    for url, answer in (("/quick", "at once"), ("/later", "later")):
        reply = await client.ask({"method": "GET", "url": url}, binary)
        assert json.loads(reply)["data"] == answer


@pytest_twisted.ensureDeferred
async def test_an_id_may_be_used_again_only_when_its_call_is_done(network):
    waiting = Deferred()
    router = router_of(slow=view(lambda request: waiting))
    client = await network.connect(await network.serve(router))
    slow = {"method": "GET", "url": "/slow", "id": 1}
    client.send(slow)
    refused = json.loads(await client.ask({**HELLO, "id": 1}))
    assert (refused["status"], refused["id"]) == (400, 1)
    waiting.callback("done")
    assert json.loads(await client.receive())["data"] == "done"
    assert json.loads(await client.ask({**HELLO, "id": 1}))["data"] == "Hello, world!"


@pytest_twisted.ensureDeferred
async def test_an_id_in_use_on_one_connection_is_free_on_another(network):
    port = await network.serve(router_of(slow=view(lambda request: Deferred())))
    first, second = await network.connect(port), await network.connect(port)
    first.send({"method": "GET", "url": "/slow", "id": 1})
    assert json.loads(await second.ask({**HELLO, "id": 1}))["data"] == "Hello, world!"


@pytest_twisted.ensureDeferred
async def test_a_client_that_pipelines_does_not_starve_the_others(network):
    order = []

    def note(request):
        order.append(request.event_name)

    port = await network.serve(router_of(note=view(note)))
    greedy, modest = await network.connect(port), await network.connect(port)
    for _ in range(500):
        greedy.send({"method": "GET", "url": "/note", "event_name": "greedy"})
    modest.send({"method": "GET", "url": "/note", "event_name": "modest"})
    await modest.receive()
    for _ in range(500):
        await greedy.receive()
    assert len(order) == 501
    assert order.index("modest") <= 3 * MESSAGES_PER_TURN


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_between_two_turns_is_forgotten(network):
    factory = RequestHandlerFactory(router=router_of(drop=view(drop_after_first)))
    client = await network.connect(await network.serve(factory=factory))
    for _ in range(3 * MESSAGES_PER_TURN):
        client.send({"method": "GET", "url": "/drop"})
    await factory.last_closed()
    step = Deferred()
    network.reactor.callLater(0, step.callback, None)
    await step


def drop_after_first(request):
    request.connection.transport.abortConnection()


# What a view reaches


@pytest_twisted.ensureDeferred
async def test_a_view_reaches_the_factory_and_its_own_connection(network):
    seen = []

    def look(request):
        seen.append((request.factory, request.connection))

    factory = RequestHandlerFactory(router=router_of(look=view(look)))
    client = await network.connect(await network.serve(factory=factory))
    await client.ask({"method": "GET", "url": "/look"})
    [(seen_factory, seen_connection)] = seen
    assert seen_factory is factory
    assert seen_connection in factory.connections
    assert isinstance(seen_connection, RequestHandlerProtocol)


@pytest_twisted.ensureDeferred
async def test_state_belongs_to_one_client_and_outlives_its_connection(network):
    connections = []

    def count(request):
        state = request.connection.state
        state.calls = getattr(state, "calls", 0) + 1
        connections.append(request.connection)
        return state.calls

    factory = RequestHandlerFactory(router=router_of(count=view(count)))
    port = await network.serve(factory=factory)
    first, second = await network.connect(port), await network.connect(port)
    answers = [
        json.loads(await client.ask({"method": "GET", "url": "/count"}))["data"]
        for client in (first, first, second)
    ]
    assert answers == [1, 2, 1]
    first.sendClose()
    second.sendClose()
    await factory.last_closed()
    assert connections[0].state == WebSocketServerProtocol.STATE_CLOSED
    assert connections[0].state.calls == 2


def test_a_state_is_autobahns_number():
    state = ConnectionState(WebSocketServerProtocol.STATE_OPEN)
    assert state == WebSocketServerProtocol.STATE_OPEN
    assert isinstance(state, int)


# Override points


class Shouting(RequestHandlerProtocol):
    """Another encoding on the wire, by the two methods that are there for it."""

    def _decode_message(self, payload, isBinary=False):
        return Request(**json.loads(payload.decode().swapcase()))

    def _encode_message(self, response, isBinary=False):
        return response.swapcase()


@pytest_twisted.ensureDeferred
async def test_decoding_and_encoding_can_be_overridden(network):
    factory = RequestHandlerFactory(router=router_of())
    factory.protocol = Shouting
    client = await network.connect(await network.serve(factory=factory))
    reply = await client.ask(b'{"METHOD":"get","URL":"/HELLO"}')
    assert reply == HELLO_REPLY.swapcase()


@pytest.mark.logs_errors
@pytest.mark.parametrize("method", ["_decode_message", "_encode_message"])
@pytest_twisted.ensureDeferred
async def test_an_override_that_fails_costs_one_call(network, caplog, method):
    def fail_once(self, payload, isBinary=False):
        delattr(protocol, method)
        raise KeyError("surprise")

    protocol = type("Failing", (RequestHandlerProtocol,), {method: fail_once})
    factory = RequestHandlerFactory(router=router_of())
    factory.protocol = protocol
    client = await network.connect(await network.serve(factory=factory))
    failure = json.loads(await client.ask(HELLO))
    assert (failure["detail"], failure["status"]) == ("Internal server error.", 500)
    assert await client.ask(HELLO) == HELLO_REPLY
    assert "surprise" in caplog.text


@pytest_twisted.ensureDeferred
async def test_on_message_is_the_only_door(network):
    class Counting(RequestHandlerProtocol):
        def onMessage(self, payload, isBinary):
            messages.append((payload, isBinary))
            super().onMessage(payload, isBinary)

    messages = []
    factory = RequestHandlerFactory(router=router_of())
    factory.protocol = Counting
    client = await network.connect(await network.serve(factory=factory))
    await client.ask(HELLO)
    assert messages == [(json.dumps(HELLO).encode(), False)]


@pytest_twisted.ensureDeferred
async def test_callbacks_can_be_overridden_without_super(network):
    class Bare(RequestHandlerProtocol):
        def onOpen(self):
            calls.append("open")

        def onClose(self, wasClean, code, reason):
            calls.append(("close", code))

    calls = []
    factory = RequestHandlerFactory(router=router_of())
    factory.protocol = Bare
    client = await network.connect(await network.serve(factory=factory))
    assert await client.ask(HELLO) == HELLO_REPLY
    [connection] = factory.connections
    client.sendClose(3001, "bye")
    await factory.last_closed()
    assert calls == ["open", ("close", 3001)]
    assert connection.close_reason == CloseReason(True, 3001, "bye")


async def a_coroutine():
    return b"from a coroutine"


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (lambda: b"at once", b"at once"),
        (lambda: succeed(b"a fired Deferred"), b"a fired Deferred"),
        (a_coroutine, b"from a coroutine"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_any_router_may_answer_in_its_own_way(network, answer, reply):
    client = await network.connect(await network.serve(ForeignRouter(answer)))
    assert await client.ask(HELLO) == reply


def failing_later():
    failed = Deferred()
    failed.errback(KeyError("surprise"))
    return failed


def failing_at_once():
    raise KeyError("surprise")


async def failing_coroutine():
    raise KeyError("surprise")


@pytest.mark.logs_errors
@pytest.mark.parametrize("answer", [failing_at_once, failing_later, failing_coroutine, lambda: 42])
@pytest_twisted.ensureDeferred
async def test_a_router_that_fails_costs_one_call(network, answer):
    client = await network.connect(await network.serve(ForeignRouter(answer)))
    for _ in range(2):
        failure = json.loads(await client.ask({**HELLO, "event_name": "e"}))
        assert failure == {
            "detail": "Internal server error.",
            "status": 500,
            "event_name": "e",
        }


# Construction


@pytest_twisted.ensureDeferred
async def test_an_encoder_of_a_subclass_gets_bytes_of_a_coroutine_too(network):
    kinds = []

    class Encoding(RequestHandlerProtocol):
        def _encode_message(self, response, isBinary=False):
            kinds.append(type(response))
            return super()._encode_message(response, isBinary)

    async def at_once(request):
        return "done"

    factory = RequestHandlerFactory(router=router_of(done=view(at_once)))
    factory.protocol = Encoding
    client = await network.connect(await network.serve(factory=factory))
    client.send({"method": "GET", "url": "/done"})
    assert await data_of(client) == "done"
    assert kinds == [bytes]


def test_the_router_property_of_a_factory_may_add_hooks():
    class Hooked(RequestHandlerFactory):
        @property
        def router(self):
            return super().router

        @router.setter
        def router(self, router):
            self.connect_hooks.append(router)
            RequestHandlerFactory.router.fset(self, router)

    router = SimpleRouter()
    assert Hooked(router=router).connect_hooks == [router]


@pytest_twisted.ensureDeferred
async def test_a_subclass_may_have_helpers_with_common_names(network):
    class Own(RequestHandlerProtocol):
        @classmethod
        def configure(cls):
            raise AssertionError

        def onOpen(self):
            self._queue, self._rate, self._writer = None, 1, []

        def flush(self):
            raise AssertionError

        def send_reply(self):
            raise AssertionError

    class OwnFactory(RequestHandlerFactory):
        protocol = Own

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.timers = {}

    router = SimpleRouter()
    router.register_endpoint(later)
    client = await network.connect(await network.serve(factory=OwnFactory(router=router)))
    for number in range(3):
        client.send({"method": "GET", "url": "/later", "id": number})
    assert [json.loads(await client.receive())["id"] for _ in range(3)] == [0, 1, 2]


@endpoint("/later", "GET")
async def later(request):
    await deferLater(install_reactor(), 0)
    return "later"
