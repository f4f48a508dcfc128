"""Answers in parts: what is sent, at whose pace, and how a stream ends."""

import asyncio
import base64
import gc
import json
import logging
import weakref
from contextvars import ContextVar

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import deferLater

from aiorest_ws.abstract import AbstractMiddleware
from aiorest_ws.connection.stream_sender import ITEMS_PER_TURN
from aiorest_ws.decorators import endpoint
from aiorest_ws.dispatch.streams import Stream
from aiorest_ws.exceptions import BaseAPIException
from aiorest_ws.limits import Limits
from aiorest_ws.renderers import XMLRenderer
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.serving.drain import drain
from aiorest_ws.transports import install_reactor
from aiorest_ws.views import MethodBasedView
from aiorest_ws.wrappers import Request
from support.waiting import until

LATER = 60


def sleep(seconds):
    return deferLater(install_reactor(), seconds)


class Numbers(MethodBasedView):
    renderers = (XMLRenderer,)

    async def get(self, request, until=3):
        for number in range(int(until)):
            yield number


class Iterator:
    """An async iterator that is no generator."""

    def __init__(self, *items):
        self.items = list(items)
        self.closed = 0

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.items:
            raise StopAsyncIteration
        return self.items.pop(0)

    async def aclose(self):
        self.closed += 1


class TooFar(BaseAPIException):
    status = 418
    default_detail = "Too far."


class Refused(MethodBasedView):
    """A view that has begun something, and cannot render it."""

    answers: list

    def get(self, request):
        self.answers.append(Iterator("a"))
        return self.answers[-1]

    def get_renderer(self, preferred_format, *args, **kwargs):
        raise TooFar


class Iterable:
    async def __aiter__(self):
        yield "a"
        yield "b"


@endpoint("/function", "GET")
async def function(request):
    yield "only"


@endpoint("/iterator", "GET")
def iterator(request):
    return Iterator("a", "b")


@endpoint("/iterable", "GET")
def iterable(request):
    return Iterable()


@endpoint("/later", "GET")
async def later(request):
    await sleep(0.01)
    return Iterator("a", "b")


@endpoint("/soon", "GET")
async def soon(request):
    return Iterator("a", "b")


@endpoint("/in-a-thread", "GET", blocking=True)
def in_a_thread(request):
    return Iterable()


@endpoint("/hello", "GET")
def hello(request):
    return "hello"


class Silent(AbstractMiddleware):
    def process_request(self, request, view):
        pass


def router_of(*endpoints):
    router = SimpleRouter()
    for one in endpoints:
        router.register_endpoint(one)
    return router


async def read(router, request):
    """Return what a router answers, without any connection."""
    answer = router.process_request(request)
    stream = answer if isinstance(answer, Stream) else await answer
    return [reply async for reply in stream]


async def whole(client, request_id=None):
    """Return the replies to one request up to its last."""
    replies = []
    while not replies or replies[-1].get("stream") == "next":
        replies.append(json.loads(await client.receive()))
        assert replies[-1].get("id") == request_id
    return replies


SHAPES = [function, iterator, iterable, later, soon, in_a_thread]


@pytest.mark.parametrize("view", SHAPES, ids=lambda view: view.path)
@pytest.mark.parametrize("middlewares", [0, 1])
@pytest_twisted.ensureDeferred
async def test_what_gives_items_one_by_one_answers_with_a_stream(view, middlewares):
    router = router_of(view)
    router.middlewares.extend([Silent()] * middlewares)
    replies = await read(router, Request("GET", view.path, event_name="e", id=1))
    items = ["only"] if view is function else ["a", "b"]
    assert replies == [
        *(
            b'{"data":"%s","event_name":"e","id":1,"stream":"next"}' % item.encode()
            for item in items
        ),
        b'{"event_name":"e","id":1,"stream":"end"}',
    ]


@pytest_twisted.ensureDeferred
async def test_a_request_without_an_id_has_replies_without(network):
    client = await network.connect(await network.serve(router_of(function)))
    assert await client.ask({"method": "GET", "url": "/function"}) == (
        b'{"data":"only","event_name":null,"stream":"next"}'
    )
    assert await client.receive() == b'{"event_name":null,"stream":"end"}'


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("view", SHAPES, ids=lambda view: view.path)
@pytest_twisted.ensureDeferred
async def test_a_stream_comes_in_the_form_of_its_request(network, view, binary):
    client = await network.connect(await network.serve(router_of(view, hello)))
    client.send({"method": "GET", "url": view.path, "id": "s"}, binary)
    forms = []
    while not forms or b'"next"' in forms[-1][0]:
        waiting = client.replies.get().addTimeout(30, install_reactor())
        payload, is_binary = await waiting
        if is_binary:
            payload = base64.b64decode(payload, validate=True)
        forms.append((payload, is_binary))
    assert {form for _, form in forms} == {binary}
    assert json.loads(forms[-1][0]) == {"event_name": None, "id": "s", "stream": "end"}
    assert await client.ask({"method": "GET", "url": "/hello"}) == (
        b'{"data":"hello","event_name":null}'
    )


@pytest_twisted.ensureDeferred
async def test_items_pass_the_renderer_of_the_view(network):
    router = SimpleRouter()
    router.register("/numbers", Numbers, "GET")
    client = await network.connect(await network.serve(router))
    client.send({"method": "GET", "url": "/numbers", "args": {"format": "xml", "until": 1}})
    assert b"<data>0</data>" in (first := await client.receive())
    assert b"<stream>next</stream>" in first
    assert b"<stream>end</stream>" in await client.receive()


@pytest.mark.parametrize("middlewares", [0, 1])
@pytest.mark.parametrize(
    ("arguments", "url", "status"),
    [({"nothing": 1}, "/numbers", 400), ({}, "/letters", 404), ({}, "/refused", 418)],
)
@pytest_twisted.ensureDeferred
async def test_what_fails_before_the_first_item_fails_like_a_call(
    network, arguments, url, status, middlewares
):
    router = SimpleRouter()
    router.register("/numbers", Numbers, "GET")
    router.register("/refused", Refused, "GET")
    router.middlewares.extend([Silent()] * middlewares)
    Refused.answers = []
    client = await network.connect(await network.serve(router))
    reply = await client.ask({"method": "GET", "url": url, "args": arguments, "id": 1})
    assert json.loads(reply)["status"] == status
    assert [one.closed for one in Refused.answers] == [1] * (url == "/refused")


@endpoint("/failing", "GET")
async def failing(request, how):
    yield "first"
    if how == "failure":
        raise TooFar
    if how == "mapped":
        raise KeyError(how)
    if how == "cancelled":
        raise CancelledError
    if how == "unrenderable":
        yield object()
    raise ValueError("a secret")


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(
    ("how", "status"), [("failure", 418), ("mapped", 404), ("cancelled", 499)]
)
@pytest_twisted.ensureDeferred
async def test_a_failure_in_the_middle_ends_a_stream(network, how, status, binary):
    router = router_of(failing)
    router.error_handlers[KeyError] = lambda request, exc: BaseAPIException("None.", status=404)
    client = await network.connect(await network.serve(router))
    client.send({"method": "GET", "url": "/failing", "args": {"how": how}, "id": 1}, binary)
    first, last = await whole(client, 1)
    assert first == {"data": "first", "event_name": None, "id": 1, "stream": "next"}
    assert (last["status"], list(last)) == (status, ["detail", "status", "event_name", "id"])


@pytest.mark.logs_errors
@pytest.mark.parametrize("how", ["unknown", "unrenderable"])
@pytest_twisted.ensureDeferred
async def test_a_fault_in_the_middle_is_500_and_in_the_log(network, caplog, how):
    client = await network.connect(await network.serve(router_of(failing)))
    client.send({"method": "GET", "url": "/failing", "args": {"how": how}, "id": 1})
    first, last = await whole(client, 1)
    assert (first["data"], last["status"]) == ("first", 500)
    assert "secret" not in last["detail"]
    [error] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert error.request_id in error.getMessage()


class Endless(MethodBasedView):
    """A view that yields until it is told to stop, and tells how it has ended."""

    item = "x"
    given: list
    ended: list
    alive: list

    async def get(self, request):
        self.alive.append(weakref.ref(self))
        try:
            async for item in self.items(request):
                self.given.append(item)
                yield item
        except GeneratorExit:
            self.ended.append("closed")
            raise
        except (CancelledError, asyncio.CancelledError):
            self.ended.append("cancelled")
            raise
        finally:
            await sleep(0.01)
            self.ended.append("done")

    async def items(self, request):
        while True:
            yield f"{len(self.given)} {self.item}"


class Waiting(Endless):
    """One that gives one item and then waits."""

    async def items(self, request):
        yield "first"
        await self.wait()

    def wait(self):
        return sleep(LATER)


class WaitingOnAsyncio(Waiting):
    def wait(self):
        return asyncio.sleep(LATER)


class Stubborn(Endless):
    """One that is cancelled and goes on, to wait and to yield."""

    go_on: Deferred

    async def items(self, request):
        yield "first"
        while not self.go_on.called:
            try:
                await sleep(0.01)
            except (CancelledError, asyncio.CancelledError):
                self.ended.append("cancelled")
        yield "late"


def fresh(kind, **members):
    """Return a view class of its own."""
    return type(kind.__name__, (kind,), {"given": [], "ended": [], "alive": [], **members})


async def served(network, kind, limits=None, **options):
    """Return a client of a server with a view, and the connection."""
    router = router_of(hello)
    router.register("/view", kind, "GET")
    factory = RequestHandlerFactory(router=router, limits=limits or Limits(), **options)
    client = await network.connect(await network.serve(factory=factory))
    await until(lambda: factory.connections)
    [connection] = factory.connections
    return client, connection


def ask(client, request_id=1, **members):
    client.send({"method": "GET", "url": "/view", "id": request_id, **members})


async def last(client):
    """Return the reply that ends a stream."""
    while json.loads(reply := await client.receive()).get("stream") == "next":
        pass
    return json.loads(reply)


async def stuck(view, connection):
    """Wait until the client's buffers are full; return how many items have been asked for."""
    for _ in range(500):
        given = len(view.given)
        for _ in range(50):
            await sleep(0)
        if connection.is_write_paused and len(view.given) == given:
            return given
    raise AssertionError(f"{given} items, and it goes on")


def is_idle(connection):
    return not connection.calls_in_flight


@pytest_twisted.ensureDeferred
async def test_who_does_not_read_gets_no_more_items_and_who_reads_again_gets_all(network):
    stop = []

    class View(Endless):
        item = "x" * 16384

        async def items(self, request):
            while not stop:
                yield f"{len(self.given)} {self.item}"

    view = fresh(View)
    client, connection = await served(network, view)
    client.transport.pauseProducing()
    ask(client)
    given = await stuck(view, connection)
    assert [repr(one) for one in connection.running] == ["<Request 'GET' '/view'>"]
    client.transport.resumeProducing()
    await until(lambda: len(view.given) > given)
    stop.append(True)
    for number in range(given):
        assert json.loads(await client.receive())["data"].startswith(f"{number} ")
    assert (await last(client))["stream"] == "end"
    await until(lambda: is_idle(connection))
    assert view.ended == ["done"]


@pytest_twisted.ensureDeferred
async def test_a_generator_that_never_waits_leaves_turns_to_others(network):
    view = fresh(Endless)
    client, connection = await served(network, view)
    others = await network.connect(network.ports[0].getHost().port)
    ask(client)
    for _ in range(20):
        assert json.loads(await others.ask({"method": "GET", "url": "/hello"}))["data"] == "hello"
    assert client.send({"method": "CANCEL", "id": 1}) is None
    assert (await last(client))["status"] == 499
    await until(lambda: is_idle(connection))


@pytest_twisted.ensureDeferred
async def test_the_items_of_a_turn_are_bounded_and_leave_in_one_write(network, monkeypatch):
    view = fresh(Endless)
    client, connection = await served(network, view)
    writes = []
    write = connection._transport.write

    def noted(data):
        writes.append(data.count(b'"next"'))
        write(data)

    monkeypatch.setattr(connection._transport, "write", noted)
    # A turn is over after 64 items, on a machine that makes them in time.
    monkeypatch.setattr("aiorest_ws.connection.stream_sender.SECONDS_PER_TURN", LATER)
    ask(client)
    await until(lambda: len(writes) >= 3)
    client.send({"method": "CANCEL", "id": 1})
    await last(client)
    assert writes[:3] == [ITEMS_PER_TURN] * 3


KINDS = [
    Endless,
    Waiting,
    Stubborn,
    pytest.param(WaitingOnAsyncio, marks=pytest.mark.asyncio_reactor),
]


@pytest.fixture(params=KINDS)
def view(request):
    """A view class of one kind."""
    kind = fresh(request.param, go_on=Deferred())
    yield kind
    if not kind.go_on.called:
        kind.go_on.callback(None)


def has_ended(view):
    """Tell whether all has run that is to run at the end, once, and nothing is left of it."""
    if view.ended.count("done") != 1:
        return False
    gc.collect()
    return all(reference() is None for reference in view.alive)


@pytest.mark.parametrize("binary", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_cancelled_stream_ends_with_499_and_is_closed(network, view, binary):
    client, connection = await served(network, view)
    client.send({"method": "GET", "url": "/view", "id": 1}, binary)
    await client.receive()
    client.send({"method": "CANCEL", "id": 1}, binary)
    reply = await last(client)
    assert (reply["status"], reply["id"]) == (499, 1)
    assert "id" not in json.loads(await client.ask({"method": "GET", "url": "/hello"}))
    if issubclass(view, Stubborn):
        await until(lambda: "cancelled" in view.ended)
        assert connection.calls_in_flight == 1
        assert connection.running == []
        view.go_on.callback(None)
    await until(lambda: is_idle(connection) and has_ended(view))
    assert view.ended.count("cancelled") <= 1


@pytest.mark.parametrize("by", ["request", "limit", "view"])
@pytest_twisted.ensureDeferred
async def test_a_stream_that_takes_too_long_ends_with_408_and_is_closed(network, view, by):
    limits = Limits(call_seconds=0.1) if by == "limit" else Limits()
    if by == "view":
        view.call_seconds = 0.1
    client, connection = await served(network, view, limits)
    ask(client, **({"timeout": 0.1} if by == "request" else {}))
    assert (await last(client))["status"] == 408
    view.go_on.callback(None)
    await until(lambda: is_idle(connection) and has_ended(view))


@pytest.mark.parametrize("how", ["close frame", "abort"])
@pytest_twisted.ensureDeferred
async def test_the_end_of_a_connection_closes_its_streams(network, view, how):
    client, connection = await served(network, view)
    ask(client)
    await client.receive()
    if how == "abort":
        client.transport.abortConnection()
    else:
        client.sendClose()
    await client.closed
    view.go_on.callback(None)
    await until(lambda: connection.state == connection.STATE_CLOSED and has_ended(view))
    assert is_idle(connection)


@pytest_twisted.ensureDeferred
async def test_the_id_of_a_stream_is_in_use_until_its_last_reply(network):
    view = fresh(Waiting)
    client, connection = await served(network, view)
    ask(client, 7)
    assert json.loads(await client.receive())["data"] == "first"
    ask(client, 7)
    refused = json.loads(await client.receive())
    assert (refused["status"], refused["id"]) == (400, 7)
    client.send({"method": "CANCEL", "id": 7})
    assert (await last(client))["status"] == 499
    ask(client, 7)
    assert json.loads(await client.receive())["data"] == "first"
    client.send({"method": "CANCEL", "id": 7})
    assert (await last(client))["status"] == 499
    await until(lambda: is_idle(connection))


@pytest_twisted.ensureDeferred
async def test_streams_have_a_limit_of_their_own(network, caplog):
    view = fresh(Waiting)
    begun = []

    class Others(MethodBasedView):
        def get(self, request):
            begun.append(Iterator("a"))
            return begun[-1]

    gate = Deferred()

    class Gate(MethodBasedView):
        async def get(self, request):
            return await gate

    limits = Limits(streams=2, calls_in_flight=2)
    client, connection = await served(network, view, limits)
    connection.factory.router.register("/others", Others, "GET")
    connection.factory.router.register("/gate", Gate, "GET")
    for number in range(2):
        ask(client, number)
        assert json.loads(await client.receive())["data"] == "first"
    reply = json.loads(await client.ask({"method": "GET", "url": "/others", "id": 3}))
    assert (reply["status"], reply["id"]) == (429, 3)
    assert ([one.closed for one in begun], begun[0].items) == ([1], ["a"])
    assert json.loads(await client.ask({"method": "GET", "url": "/hello"}))["data"] == "hello"
    # Nor do they take the places of calls: with one that runs, there is one left.
    client.send({"method": "GET", "url": "/gate", "id": 9})
    assert json.loads(await client.ask({"method": "GET", "url": "/hello"}))["data"] == "hello"
    gate.callback("open")
    assert json.loads(await client.receive())["data"] == "open"
    client.send({"method": "CANCEL", "id": 0})
    assert (await last(client))["status"] == 499
    await until(lambda: connection.calls_in_flight == 1)
    client.send({"method": "GET", "url": "/others", "id": 3})
    assert [one.get("data") for one in await whole(client, 3)] == ["a", None]
    await until(lambda: connection.calls_in_flight == 1)
    assert [one.closed for one in begun] == [1, 1]


@pytest.mark.parametrize("end", ["cancel", "abort", "drain"])
@pytest_twisted.ensureDeferred
async def test_a_stream_that_waits_for_its_client_can_be_ended(network, end):
    view = fresh(Endless, item="x" * 16384)
    client, connection = await served(network, view)
    client.transport.pauseProducing()
    ask(client)
    await stuck(view, connection)
    if end == "cancel":
        connection.cancel_call(Request(id=1))
    elif end == "drain":
        assert connection.cut_calls() == 1
    else:
        client.transport.abortConnection()
    await until(lambda: is_idle(connection) and has_ended(view))
    assert view.ended == ["closed", "done"]
    client.transport.resumeProducing()
    if end != "abort":
        assert (await last(client))["status"] == (499 if end == "cancel" else 503)


@pytest_twisted.ensureDeferred
async def test_a_drain_lets_a_stream_go_on_and_takes_no_other(network):
    view = fresh(Stubborn, go_on=Deferred())
    client, connection = await served(network, view)
    ask(client)
    assert json.loads(await client.receive())["data"] == "first"
    connection.drain()
    ask(client, 2)
    assert json.loads(await client.receive())["status"] == 503
    assert len(connection.running) == connection.unanswered == 1
    view.go_on.callback(None)
    assert [one.get("data") for one in await whole(client, 1)] == ["late", None]
    await until(lambda: is_idle(connection))


@pytest_twisted.ensureDeferred
async def test_an_item_over_the_limit_ends_the_stream_with_413(network):
    view = fresh(Endless, item="x" * 2000)
    client, connection = await served(network, view, Limits(message_bytes=1500))
    ask(client)
    assert [one["status"] for one in await whole(client, 1)] == [413]
    await until(lambda: is_idle(connection) and has_ended(view))
    assert view.ended == ["closed", "done"]


@pytest.mark.logs_errors
@pytest.mark.parametrize("waits", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_generator_that_yields_in_finally_costs_nobody_else_anything(
    network, caplog, waits
):
    class View(MethodBasedView):
        async def get(self, request):
            try:
                while True:
                    yield "first"
                    if waits:
                        await sleep(LATER)
            finally:
                yield "one more"

    client, connection = await served(network, View)
    ask(client)
    await client.receive()
    client.send({"method": "CANCEL", "id": 1})
    assert (await last(client))["status"] == 499
    await until(lambda: is_idle(connection))
    assert json.loads(await client.ask({"method": "GET", "url": "/hello"}))["data"] == "hello"
    gc.collect()
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    # One that is cancelled is told by that, and its item is in nobody's way.
    assert ["could not be closed" in one.getMessage() for one in errors] == [True] * (not waits)


@pytest.mark.parametrize("how", ["abort", "cancel"])
@pytest_twisted.ensureDeferred
async def test_a_view_may_end_its_own_connection_or_its_own_stream(network, how):
    class Ending(Endless):
        async def items(self, request):
            yield "first"
            if how == "abort":
                await sleep(0.01)
                request.connection.transport.abortConnection()
            else:
                request.connection.cancel_call(request)
            await sleep(LATER)
            yield "second"

    view = fresh(Ending)
    client, connection = await served(network, view)
    ask(client)
    if how == "abort":
        await client.closed
    else:
        assert [one.get("data") for one in await whole(client, 1)] == ["first", None]
    await until(lambda: is_idle(connection) and has_ended(view))
    assert view.ended == ["cancelled", "done"]


variable: ContextVar[str] = ContextVar("variable", default="unset")


@pytest_twisted.ensureDeferred
async def test_a_generator_has_the_context_of_its_request_in_all_its_steps(network):
    class View(MethodBasedView):
        async def get(self, request):
            yield variable.get()
            variable.set(request.event_name)
            yield variable.get()
            await sleep(0.01)
            yield variable.get()

    router = SimpleRouter()
    router.register("/view", View, "GET")
    client = await network.connect(await network.serve(router))
    for name in ("a", "b"):
        client.send({"method": "GET", "url": "/view", "id": 1, "event_name": name})
        items = [reply.get("data") for reply in await whole(client, 1)]
        assert items == ["unset", name, name, None]
    direct = await read(router, Request("GET", "/view", event_name="c"))
    assert [json.loads(one).get("data") for one in direct] == ["unset", "c", "c", None]
    assert variable.get() == "unset"


class Wrapping(AbstractMiddleware):
    """Put an iterator of its own in the place of the view's."""

    seen: list

    def __init__(self):
        self.seen = []

    def process_request(self, request, view):
        self.seen.append("request")

    def process_response(self, request, response):
        self.seen.append("response")
        items = response.content["data"]
        response.content["data"] = self.wrapped(items)
        response.content["by"] = "us"

    async def wrapped(self, items):
        try:
            async for item in items:
                yield item.upper()
        finally:
            self.seen.append("closed")


@pytest.mark.parametrize("kind", [Endless, Waiting])
@pytest_twisted.ensureDeferred
async def test_a_middleware_sees_a_stream_once_and_may_put_another_in_its_place(network, kind):
    middleware, view = Wrapping(), fresh(kind)
    client, connection = await served(network, view)
    connection.factory.router.middlewares.append(middleware)
    ask(client)
    reply = await client.receive()
    first = b"0 X" if kind is Endless else b"FIRST"
    assert reply == b'{"data":"%s","event_name":null,"id":1,"by":"us","stream":"next"}' % first
    client.send({"method": "CANCEL", "id": 1})
    assert (await last(client))["status"] == 499
    await until(lambda: is_idle(connection) and has_ended(view))
    assert middleware.seen == ["request", "response", "closed"]


class Refusing(AbstractMiddleware):
    def process_request(self, request, view):
        pass

    def process_response(self, request, response):
        raise TooFar


class Replacing(Refusing):
    def process_response(self, request, response):
        response.content = "something else"


@pytest.mark.parametrize("kind", [Refusing, Replacing])
@pytest_twisted.ensureDeferred
async def test_a_stream_that_a_middleware_does_not_want_is_closed(kind):
    router, answers = SimpleRouter(), []

    class View(MethodBasedView):
        def get(self, request):
            answers.append(Iterator("a"))
            return answers[-1]

    router.register("/view", View, "GET")
    router.middlewares.append(kind())
    reply = json.loads(await router.process_request(Request("GET", "/view")))
    assert reply.get("status") == (418 if kind is Refusing else None)
    assert [(one.closed, one.items) for one in answers] == [(1, ["a"])]


@pytest_twisted.ensureDeferred
async def test_the_streams_of_an_ordered_view_come_one_after_another(network):
    view = fresh(Stubborn, go_on=Deferred(), ordered=True)
    client, connection = await served(network, view)
    ask(client, 1)
    ask(client, 2)
    assert json.loads(await client.receive())["id"] == 1
    assert [one["id"] for one in map(json.loads, [await client.ask(HELLO)])] == [3]
    view.go_on.callback(None)
    assert [one.get("data") for one in await whole(client, 1)] == ["late", None]
    assert [one.get("data") for one in await whole(client, 2)] == ["first", "late", None]
    await until(lambda: is_idle(connection))


HELLO = {"method": "GET", "url": "/hello", "id": 3}


@pytest.mark.parametrize("how", ["end", "cancel"])
@pytest_twisted.ensureDeferred
async def test_the_access_log_has_one_line_for_a_stream(network, caplog, how):
    caplog.set_level(logging.INFO, "aiorest-ws.access")
    view = fresh(Stubborn, go_on=Deferred())
    client, connection = await served(network, view, access_log=True)
    ask(client)
    size = len(await client.receive())
    if how == "cancel":
        client.send({"method": "CANCEL", "id": 1})
        assert (await last(client))["status"] == 499
    view.go_on.callback(None)
    if how == "end":
        size += len(await client.receive()) + len(await client.receive())
    await until(lambda: is_idle(connection))
    lines = [record for record in caplog.records if record.name == "aiorest-ws.access"]
    assert [line.status for line in lines] == [200 if how == "end" else 499]
    assert how == "cancel" or lines[0].bytes == size


@pytest_twisted.ensureDeferred
async def test_all_streams_of_a_connection_have_one_turn_together(network):
    made = []

    @endpoint("/endless", "GET")
    async def endless(request):
        while True:
            made.append(request.id)
            yield 1

    client = await network.connect(await network.serve(router_of(endless)))
    for number in range(10):
        client.send({"method": "GET", "url": "/endless", "id": number})
    await until(lambda: set(made) == set(range(10)))
    most = 0
    for _ in range(50):
        made.clear()
        await sleep(0)
        most = max(most, len(made))
    # A turn of this test may be before or behind one of the server's.
    assert 0 < most <= 2 * ITEMS_PER_TURN
    client.transport.abortConnection()


@pytest_twisted.ensureDeferred
async def test_a_stream_without_an_end_does_not_hold_up_a_stop(network):
    @endpoint("/endless", "GET")
    async def endless(request):
        while True:
            yield 1
            await sleep(0.01)

    factory = RequestHandlerFactory(
        router=router_of(endless), limits=Limits(closing_seconds=0.3, drain_seconds=LATER)
    )
    client = await network.connect(await network.serve(factory=factory))
    client.send({"method": "GET", "url": "/endless", "id": 1})
    assert json.loads(await client.receive())["stream"] == "next"
    stopping = ensureDeferred(drain(factory))
    while "stream" in (told := json.loads(await client.receive())):
        assert not stopping.called
    assert (told["id"], told["status"]) == (1, 503)
    assert (await client.closed)[1] == 1012
    assert await stopping == 0
