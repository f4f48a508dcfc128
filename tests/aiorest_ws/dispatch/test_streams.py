"""Answers in parts: what is sent, and what middlewares see of it."""

import base64
import json
import logging
from contextvars import ContextVar

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred

from aiorest_ws.abstract import AbstractMiddleware
from aiorest_ws.decorators import endpoint
from aiorest_ws.dispatch.streams import Stream
from aiorest_ws.exceptions import BaseAPIException
from aiorest_ws.renderers import XMLRenderer
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.transports import install_reactor
from aiorest_ws.views import MethodBasedView
from aiorest_ws.wrappers import Request
from support.streams import (
    Endless,
    Iterator,
    Stubborn,
    Waiting,
    ask,
    fresh,
    has_ended,
    hello,
    is_idle,
    last,
    router_of,
    served,
    sleep,
    whole,
)
from support.waiting import until


class Numbers(MethodBasedView):
    renderers = (XMLRenderer,)

    async def get(self, request, until=3):
        for number in range(int(until)):
            yield number


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


class Silent(AbstractMiddleware):
    def process_request(self, request, view):
        pass


async def read(router, request):
    """Return what a router answers, without any connection."""
    answer = router.process_request(request)
    stream = answer if isinstance(answer, Stream) else await answer
    return [reply async for reply in stream]


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
        raise CancelledError("a secret")
    if how == "unrenderable":
        yield object()
    raise ValueError("a secret")


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(("how", "status"), [("failure", 418), ("mapped", 404)])
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
@pytest.mark.parametrize("how", ["unknown", "unrenderable", "cancelled"])
@pytest_twisted.ensureDeferred
async def test_a_fault_in_the_middle_is_500_and_in_the_log(network, caplog, how):
    client = await network.connect(await network.serve(router_of(failing)))
    client.send({"method": "GET", "url": "/failing", "args": {"how": how}, "id": 1})
    first, last = await whole(client, 1)
    assert (first["data"], last["status"]) == ("first", 500)
    assert "secret" not in last["detail"]
    [error] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert error.request_id in error.getMessage()


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
