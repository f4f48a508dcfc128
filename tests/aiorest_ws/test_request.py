"""The protocol and the factory, over real sockets."""

import base64
import json
import threading

import pytest
import pytest_twisted
from autobahn.twisted.websocket import WebSocketServerProtocol
from twisted.internet.defer import Deferred, DeferredList, succeed

from aiorest_ws.abstract import AbstractRouter
from aiorest_ws.connection.fast_path import MESSAGES_PER_TURN
from aiorest_ws.request import (
    CloseReason,
    ConnectionState,
    RequestHandlerFactory,
    RequestHandlerProtocol,
)
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.views import MethodBasedView
from aiorest_ws.wrappers import Request

HELLO = {"method": "GET", "url": "/hello"}
HELLO_REPLY = b'{"data":"Hello, world!","event_name":null}'


class Hello(MethodBasedView):
    def get(self, request):
        return "Hello, world!"


def router_of(**views):
    router = SimpleRouter()
    router.register("/hello", Hello, "GET")
    for name, view in views.items():
        router.register(f"/{name}", view, view.methods)
    return router


def view(function, **attributes):
    """A view class that answers GET with `function(request)`."""
    return type("TestView", (MethodBasedView,), {"get": staticmethod(function), **attributes})


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


class ForeignRouter(AbstractRouter):
    """A router that is not ours and answers what it was made with."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def process_request(self, request):
        return self.answer()


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


# The end of a connection


@pytest_twisted.ensureDeferred
async def test_a_lost_connection_has_no_close_code_of_the_peer(network):
    factory = RequestHandlerFactory(router=router_of())
    client = await network.connect(await network.serve(factory=factory))
    await client.ask(HELLO)
    [connection] = factory.connections
    assert connection.close_reason is None
    client.transport.abortConnection()
    await factory.last_closed()
    assert connection.close_reason.was_clean is False
    assert connection.close_reason.code == WebSocketServerProtocol.CLOSE_STATUS_CODE_ABNORMAL_CLOSE
    assert not factory.connections


@pytest_twisted.ensureDeferred
async def test_invalid_utf8_closes_with_1007(network):
    client = await network.connect(await network.serve(router_of()))
    client.sendMessage(b"\xff\xfe", False)
    assert (await client.closed)[1] == 1007


@pytest_twisted.ensureDeferred
async def test_a_call_ends_with_its_connection(network):
    cancelled = Deferred()
    waiting = Deferred(lambda _: cancelled.callback(None))
    factory = RequestHandlerFactory(router=router_of(slow=view(lambda request: waiting)))
    client = await network.connect(await network.serve(factory=factory))
    client.send({"method": "GET", "url": "/slow"})
    await client.ask(HELLO)
    client.sendClose()
    await cancelled


@pytest_twisted.ensureDeferred
async def test_a_reply_to_a_connection_that_is_gone_is_dropped(network):
    """A Deferred that will not be cancelled fires when nobody is there any more."""
    waiting = Deferred(lambda deferred: None)
    factory = RequestHandlerFactory(router=ForeignRouter(lambda: waiting))
    client = await network.connect(await network.serve(factory=factory))
    client.send(HELLO)
    client.sendClose()
    await factory.last_closed()
    if not waiting.called:
        waiting.callback(b"too late")


# Hooks


@pytest_twisted.ensureDeferred
async def test_messages_wait_for_the_connect_hooks(network):
    ready = Deferred()

    async def greet(connection):
        await ready
        connection.state.name = "Ada"

    factory = RequestHandlerFactory(
        router=router_of(name=view(lambda request: request.connection.state.name))
    )
    factory.connect_hooks.append(greet)
    client = await network.connect(await network.serve(factory=factory))
    for number in range(3):
        client.send({"method": "GET", "url": "/name", "id": number})
    # A second client is a turn of the loop, and more, in which the first could be answered.
    other = await network.connect(network.ports[0].getHost().port)
    assert not client.replies.pending
    ready.callback(None)
    replies = [json.loads(await client.receive()) for _ in range(3)]
    assert [(reply["id"], reply["data"]) for reply in replies] == [(n, "Ada") for n in range(3)]
    assert json.loads(await other.ask({"method": "GET", "url": "/name"}))["data"] == "Ada"


@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_a_connect_hook_that_fails_closes_with_1011(network, caplog):
    def refuse(connection):
        raise KeyError("no database")

    left = []
    factory = RequestHandlerFactory(router=router_of())
    factory.connect_hooks.append(refuse)
    factory.disconnect_hooks.append(left.append)
    client = await network.connect(await network.serve(factory=factory))
    assert (await client.closed)[1] == 1011
    assert "no database" in caplog.text
    assert left == []


@pytest_twisted.ensureDeferred
async def test_a_connect_hook_may_close_after_a_while(network):
    async def refuse(connection):
        step = Deferred()
        connection.factory.reactor.callLater(0, step.callback, None)
        await step
        connection.sendClose(3000)

    factory = RequestHandlerFactory(router=router_of())
    factory.connect_hooks.append(refuse)
    client = await network.connect(await network.serve(factory=factory))
    assert await client.closed == (True, 3000, None)


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_early_ends_its_connect_hook(network):
    cancelled = Deferred()
    factory = RequestHandlerFactory(router=router_of())
    factory.connect_hooks.append(lambda connection: Deferred(lambda _: cancelled.callback(None)))
    client = await network.connect(await network.serve(factory=factory))
    client.transport.abortConnection()
    [connection] = factory.connections
    # Reading was paused while the hook ran, so the server looks again when it writes.
    connection.transport.abortConnection()
    await cancelled


@pytest_twisted.ensureDeferred
async def test_disconnect_hooks_know_why(network):
    reasons = Deferred()

    async def part(connection):
        reasons.callback(connection.close_reason)

    factory = RequestHandlerFactory(router=router_of())
    factory.disconnect_hooks.append(part)
    client = await network.connect(await network.serve(factory=factory))
    client.sendClose(1000, "enough")
    assert await reasons == CloseReason(True, 1000, "enough")


@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_a_disconnect_hook_that_fails_does_not_stop_the_next(network, caplog):
    called = Deferred()

    def fail(connection):
        raise KeyError("surprise")

    factory = RequestHandlerFactory(router=router_of())
    factory.disconnect_hooks += [fail, lambda connection: called.callback(None)]
    client = await network.connect(await network.serve(factory=factory))
    client.sendClose()
    await called
    assert "surprise" in caplog.text


@pytest_twisted.ensureDeferred
async def test_a_disconnect_hook_may_take_its_time(network):
    step, done = Deferred(), Deferred()

    async def part(connection):
        await step
        done.callback(None)

    factory = RequestHandlerFactory(router=router_of())
    factory.disconnect_hooks.append(part)
    client = await network.connect(await network.serve(factory=factory))
    client.sendClose()
    await factory.last_closed()
    step.callback(None)
    await done


# Blocking views


@pytest_twisted.ensureDeferred
async def test_a_blocking_view_runs_in_a_thread_of_the_server(network):
    def where(request):
        return threading.current_thread() is threading.main_thread()

    client = await network.connect(
        await network.serve(router_of(where=view(where, blocking=True)))
    )
    assert json.loads(await client.ask({"method": "GET", "url": "/where"}))["data"] is False


@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_a_blocking_view_that_raises_is_a_failure(network):
    client = await network.connect(
        await network.serve(router_of(fail=view(lambda request: 1 / 0, blocking=True)))
    )
    assert json.loads(await client.ask({"method": "GET", "url": "/fail"}))["status"] == 500


@pytest_twisted.ensureDeferred
async def test_more_blocking_calls_than_may_wait_are_503(network, monkeypatch):
    monkeypatch.setattr("aiorest_ws.dispatch.blocking.MAX_WAITING_CALLS", 1)
    release = threading.Event()
    blocked = view(lambda request: release.wait(30), blocking=True)
    factory = RequestHandlerFactory(router=router_of(block=blocked), blocking_threads=1)
    client = await network.connect(await network.serve(factory=factory))
    for number in range(3):
        client.send({"method": "GET", "url": "/block", "id": number})
    assert json.loads(await client.receive()) == {
        "detail": "The server is busy, try again later.",
        "status": 503,
        "event_name": None,
        "id": 2,
    }
    release.set()
    assert {json.loads(await client.receive())["id"] for _ in range(2)} == {0, 1}


@pytest_twisted.ensureDeferred
async def test_a_factory_that_stops_does_not_wait_for_a_thread_that_hangs(network):
    release = threading.Event()
    factory = RequestHandlerFactory()
    running = factory.run_blocking(lambda: release.wait(30))
    factory.stopFactory()
    release.set()
    assert await running is True


@pytest_twisted.ensureDeferred
async def test_a_factory_lets_idle_threads_go():
    factory = RequestHandlerFactory()
    [name] = await DeferredList(
        [factory.run_blocking(lambda: threading.current_thread().name)]
    ).addCallback(lambda results: [value for _, value in results])
    factory.stopFactory()
    assert name not in {thread.name for thread in threading.enumerate()}


# Construction


def test_both_can_be_made_without_arguments():
    assert isinstance(RequestHandlerFactory().router, SimpleRouter)
    assert RequestHandlerProtocol().close_reason is None


def test_a_router_can_be_given_or_set():
    router = SimpleRouter()
    assert RequestHandlerFactory(router=router).router is router
    factory = RequestHandlerFactory("ws://127.0.0.1:9000")
    factory.router = router
    assert factory.router is router


@pytest.mark.parametrize("wrong", [object(), SimpleRouter, "router"])
def test_anything_but_a_router_is_a_type_error(wrong):
    with pytest.raises(TypeError, match="router must be an AbstractRouter"):
        RequestHandlerFactory().router = wrong


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(TypeError, match=r"unknown option 'ruoter'; did you mean 'router'\?"):
        RequestHandlerFactory(ruoter=SimpleRouter())
    with pytest.raises(TypeError, match=r"unknown option 'zzz'$"):
        RequestHandlerFactory(zzz=1)


def test_a_subclass_may_pass_its_own_keywords_on():
    class CustomHandlerFactory(RequestHandlerFactory):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self._cookies = kwargs.get("cookies_dump", {})

        @property
        def cookies(self):
            return self._cookies

    assert CustomHandlerFactory(cookies_dump={"a": 1}).cookies == {"a": 1}
    assert CustomHandlerFactory().cookies == {}


@pytest_twisted.ensureDeferred
async def test_an_open_connection_is_answered_by_the_router_that_its_factory_has_now(network):
    factory = RequestHandlerFactory(router=router_of())
    client = await network.connect(await network.serve(factory=factory))
    client.send(HELLO)
    assert await client.replies.get() == (HELLO_REPLY, False)
    other = SimpleRouter()
    other.register("/hello", view(lambda request: "other"), "GET")
    factory.router = other
    client.send(HELLO)
    assert await data_of(client) == "other"


async def data_of(client):
    """What the next reply holds."""
    reply, _ = await client.replies.get()
    return json.loads(reply)["data"]


@pytest_twisted.ensureDeferred
async def test_a_factory_may_have_a_router_of_its_own_making(network):
    routers = []

    class Choosing(RequestHandlerFactory):
        @property
        def router(self):
            return routers[-1]

    for name in ("first", "second"):
        router = SimpleRouter()
        router.register("/hello", view(lambda request, name=name: name), "GET")
        routers.append(router)
    client = await network.connect(await network.serve(factory=Choosing()))
    client.send(HELLO)
    assert await data_of(client) == "second"
    routers.pop()
    client.send(HELLO)
    assert await data_of(client) == "first"


@pytest_twisted.ensureDeferred
async def test_a_protocol_need_not_call_the_init_of_ours(network):
    class Noting(RequestHandlerProtocol):
        def __init__(self):
            self.notes = []

        def onMessage(self, payload, isBinary):
            self.notes.append(payload)
            super().onMessage(payload, isBinary)

    factory = RequestHandlerFactory(router=router_of())
    factory.protocol = Noting
    client = await network.connect(await network.serve(factory=factory))
    client.send(HELLO)
    assert await client.replies.get() == (HELLO_REPLY, False)
    (connection,) = factory.connections
    assert [json.loads(note) for note in connection.notes] == [HELLO]


@pytest_twisted.ensureDeferred
async def test_the_init_of_a_protocol_may_ask_for_its_factory(network):
    class Asking(RequestHandlerProtocol):
        def __init__(self):
            super().__init__()
            self.greeting = self.factory.greeting

    factory = RequestHandlerFactory(router=router_of())
    factory.protocol = Asking
    factory.greeting = "hello"
    await network.connect(await network.serve(factory=factory))
    (connection,) = factory.connections
    assert connection.greeting == "hello"


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


def test_options_of_a_protocol_that_no_factory_has_made():
    class Small(RequestHandlerProtocol):
        maxMessagePayloadSize = 10

        def __init__(self):
            super().__init__()
            self.maxMessagePayloadSize = 20

    assert Small().maxMessagePayloadSize == 20
