"""Middlewares around a call."""

import asyncio

import pytest
import pytest_twisted

from aiorest_ws.abstract import AbstractMiddleware
from aiorest_ws.exceptions import BaseAPIException
from aiorest_ws.renderers import XMLRenderer
from aiorest_ws.wrappers import Request, Response
from support.routers import (
    NO_HANDLER,
    NO_METHOD,
    NO_URL,
    OUR_FAULT,
    UNRENDERABLE,
    Passing,
    Teapot,
    ask,
    ask_later,
    failure,
    lines,
    raising,
    router_of,
    success,
)


class Recording(AbstractMiddleware):
    """Writes down what it sees."""

    def __init__(self, name, seen, refusal=None, replacement=None, error=None):
        self.name = name
        self.seen = seen
        self.refusal = refusal
        self.replacement = replacement
        self.error = error

    def process_request(self, request, handler):
        self.seen.append(f"{self.name} in")
        if self.refusal is not None:
            raise self.refusal

    def process_response(self, request, response):
        self.seen.append(f"{self.name} out {response.status or response.content['data']}")
        if self.error is not None:
            raise self.error
        return self.replacement


class RecordingLater(Recording):
    """The same, in two coroutines that suspend."""

    async def process_request(self, request, handler):
        await asyncio.sleep(0)
        super().process_request(request, handler)

    async def process_response(self, request, response):
        await asyncio.sleep(0)
        return super().process_response(request, response)


both_kinds = pytest.mark.parametrize(
    "kind", [Recording, pytest.param(RecordingLater, marks=pytest.mark.asyncio_reactor)]
)


@both_kinds
@pytest_twisted.ensureDeferred
async def test_middlewares_see_a_request_in_order_and_its_reply_in_reverse(kind):
    seen = []

    def view(request):
        seen.append("view")
        return 1

    router = router_of(view, middlewares=[kind("a", seen), Passing(), kind("b", seen)])
    assert await ask_later(router, event_name="e") == success(1, "e")
    assert seen == ["a in", "b in", "view", "b out 1", "a out 1"]


@both_kinds
@pytest_twisted.ensureDeferred
async def test_a_middleware_that_refuses_keeps_the_view_from_running(kind):
    seen = []
    middlewares = [kind("a", seen), kind("b", seen, refusal=Teapot("no")), kind("c", seen)]
    router = router_of(lambda request: seen.append("view"), middlewares=middlewares)
    assert await ask_later(router, event_name="e", id=1) == {**failure(418, "no", "e"), "id": 1}
    assert seen == ["a in", "b in", "b out 418", "a out 418"]


@both_kinds
@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_a_middleware_that_breaks_is_our_fault(kind, caplog):
    seen = []
    middlewares = [kind("a", seen), kind("b", seen, refusal=KeyError("secret"))]
    router = router_of(lambda request: seen.append("view"), middlewares=middlewares)
    assert await ask_later(router) == failure(500, OUR_FAULT)
    assert seen == ["a in", "b in", "b out 500", "a out 500"]
    (line,) = lines(caplog)
    assert line.exc_info[0] is KeyError


@both_kinds
@pytest_twisted.ensureDeferred
async def test_middlewares_see_failures_of_the_view_too(kind):
    seen = []
    router = router_of(raising(Teapot()), middlewares=[kind("a", seen), kind("b", seen)])
    assert await ask_later(router) == failure(418, "I'm a teapot.")
    assert await ask_later(router, None) == failure(400, NO_METHOD)
    assert await ask_later(router, "PUT") == failure(405, NO_HANDLER)
    assert await ask_later(router, args={"self": 1}) == failure(
        400, "The argument 'self' is reserved."
    )
    assert seen == [
        event
        for status in (418, 400, 405, 400)
        for event in ("a in", "b in", f"b out {status}", f"a out {status}")
    ]


def test_middlewares_do_not_see_what_has_no_view():
    seen = []
    router = router_of(lambda request: 1, middlewares=[Recording("a", seen, refusal=Teapot())])
    assert ask(router, url="/y") == failure(404, NO_HANDLER)
    assert ask(router, url=None) == failure(400, NO_URL)
    assert seen == []
    # With a view they come before the method is judged.
    assert ask(router, None) == failure(418, "I'm a teapot.")
    assert seen == ["a in", "a out 418"]


def test_a_middleware_gets_the_view_that_will_answer():
    seen = []

    class Looking:
        def process_request(self, request, handler):
            seen.append((request.url, handler.colour))
            request.user = "Ada"

    router = router_of(lambda request: request.user, middlewares=[Looking()], colour="red")
    assert ask(router) == success("Ada")
    assert seen == [("/x", "red")]


def response_of(data=None, failure=None, **more):
    response = Response()
    response.content.update(more)
    response.content = data
    if failure is not None:
        response.wrap_exception(failure)
    return response


@both_kinds
@pytest_twisted.ensureDeferred
async def test_a_middleware_may_replace_the_response(kind):
    seen = []
    replacement = response_of("other", extra=1)
    middlewares = [kind("a", seen), kind("b", seen, replacement=replacement)]
    router = router_of(lambda request: "view", middlewares=middlewares)
    reply = await ask_later(router, event_name="e", id=1)
    assert list(reply.items()) == [("data", "other"), ("event_name", "e"), ("id", 1), ("extra", 1)]
    assert seen == ["a in", "b in", "b out view", "a out other"]


def test_a_middleware_may_turn_a_failure_into_a_success_and_back():
    forgiving = Recording("a", [], replacement=response_of("fine"))
    assert ask(router_of(raising(Teapot()), middlewares=[forgiving])) == success("fine")
    strict = Recording("a", [], replacement=response_of(failure=Teapot("no")))
    reply = ask(router_of(lambda request: 1, middlewares=[strict], renderers=(XMLRenderer,)))
    assert reply == failure(418, "no")


def test_a_middleware_may_change_the_response_in_place():
    class Wrapping(Passing):
        def process_response(self, request, response):
            response.content = [response.content["data"]]
            response.content["took"] = 0

    router = router_of(lambda request: 1, middlewares=[Wrapping(), Wrapping()])
    reply = router.process_request(Request("GET", "/x", event_name="e"))
    assert reply == b'{"data":[[1]],"event_name":"e","took":0}'


def test_a_replaced_response_is_rendered_as_the_view_renders():
    router = router_of(
        lambda request: 1,
        middlewares=[Recording("a", [], replacement=response_of("other"))],
        renderers=(XMLRenderer,),
    )
    assert b"<data>other</data>" in router.process_request(Request("GET", "/x"))


@both_kinds
@pytest.mark.logs_errors
@pytest.mark.parametrize("replacement", ["text", {"data": 1}, b"{}", 0, Response])
@pytest_twisted.ensureDeferred
async def test_a_replacement_that_is_no_response_is_our_fault(kind, replacement, caplog):
    seen = []
    middlewares = [kind("a", seen), kind("b", seen, replacement=replacement)]
    router = router_of(lambda request: 1, middlewares=middlewares)
    assert await ask_later(router, event_name="e") == failure(500, OUR_FAULT, "e")
    assert seen == ["a in", "b in", "b out 1", "a out 500"]
    assert "process_response must return a Response or None" in caplog.text


@both_kinds
@pytest_twisted.ensureDeferred
async def test_a_middleware_may_refuse_a_reply(kind):
    seen = []
    middlewares = [kind("a", seen), kind("b", seen, error=Teapot("too late"))]
    router = router_of(lambda request: 1, middlewares=middlewares)
    assert await ask_later(router, event_name="e") == failure(418, "too late", "e")
    assert seen == ["a in", "b in", "b out 1", "a out 418"]


@both_kinds
@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_every_middleware_that_ran_sees_the_reply_whatever_another_does(kind):
    seen = []
    middlewares = [
        kind("a", seen),
        kind("b", seen, error=KeyError()),
        kind("c", seen, error=OSError()),
    ]
    router = router_of(lambda request: 1, middlewares=middlewares)
    assert await ask_later(router) == failure(500, OUR_FAULT)
    assert seen[3:] == ["c out 1", "b out 500", "a out 500"]


@pytest.mark.logs_errors
def test_a_middleware_without_process_request_is_our_fault():
    router = router_of(lambda request: 1, middlewares=[object()])
    assert ask(router) == failure(500, OUR_FAULT)


@pytest.mark.logs_errors
def test_a_detail_of_a_middleware_that_cannot_be_rendered_is_our_fault():
    router = router_of(
        lambda request: 1, middlewares=[Recording("a", [], refusal=BaseAPIException(object()))]
    )
    assert ask(router, event_name="e") == failure(500, UNRENDERABLE, "e")


class Naming(Passing):
    request_attributes = ("shop", "cart")


@pytest.mark.parametrize("name", ["shop", "cart"])
@pytest.mark.parametrize("url", ["/x", "/nowhere", None])
def test_what_a_middleware_sets_cannot_be_sent(name, url):
    router = router_of(lambda request: 1, middlewares=[Passing(), Naming()])
    detail = f"The key '{name}' is reserved and cannot be sent."
    request = {"url": url, "event_name": "e", name: 1}
    assert ask(router, **request) == failure(400, detail, "e")


def test_other_keys_can_be_sent_and_read():
    router = router_of(lambda request: request.colour, middlewares=[Naming()])
    assert ask(router, colour="red") == success("red")
    assert ask(router_of(lambda request: request.shop), shop="mine") == success("mine")
