"""What an included router's routes keep: its middlewares and its error handlers."""

import json

import pytest
import pytest_twisted

from aiorest_ws.abstract import AbstractEndpoint, AbstractRouter
from aiorest_ws.exceptions import BaseAPIException
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.wrappers import Request
from support.routers import ask, ask_later, failure, router_of, success, to, view_of

FORBIDDEN = failure(403, "Not yours.")


class Guard:
    """Refuses whoever has no badge."""

    def process_request(self, request, handler):
        if getattr(request, "badge", None) != "yes":
            raise BaseAPIException("Not yours.", status=403)


class GuardLater(Guard):
    async def process_request(self, request, handler):
        super().process_request(request, handler)


class Noting:
    """Writes down what passes."""

    def __init__(self, name, seen):
        self.name = name
        self.seen = seen

    def process_request(self, request, handler):
        self.seen.append(f"{self.name} in")

    def process_response(self, request, response):
        self.seen.append(f"{self.name} out")


class Suffix(AbstractEndpoint):
    def match(self, path):
        return () if path.endswith("/x/") else None


class Foreign(AbstractRouter):
    """A router of a program's own, which answers nothing itself."""

    def process_request(self, request):
        return b""


def answer(request, *values):
    return list(values)


async def answer_later(request, *values):
    return list(values)


async def answer_in_parts(request, *values):
    for value in values:
        yield value


def including(inner, outer=None):
    outer = SimpleRouter() if outer is None else outer
    outer.include(inner)
    return outer


def foreign(view):
    router = Foreign()
    router._urls.append(Suffix("*", view, "GET"))
    return router


ROUTERS = {
    "plain": lambda: router_of(answer),
    "template": lambda: router_of(answer, path="/{name}"),
    "mixed segment": lambda: router_of(answer, path="/{a}-{b}"),
    "coroutine": lambda: router_of(answer_later),
    "stream": lambda: router_of(answer_in_parts),
    "blocking": lambda: router_of(answer, blocking=True),
    "ordered": lambda: router_of(answer, ordered=True),
    "foreign endpoint": lambda: including(foreign(view_of(answer))),
    "foreign router": lambda: foreign(view_of(answer)),
    "included twice": lambda: including(including(router_of(answer))),
}


@pytest.mark.parametrize("guard", [Guard, GuardLater])
@pytest.mark.parametrize("when", ["before", "after", "after a call"])
@pytest.mark.parametrize("kind", ROUTERS)
@pytest_twisted.ensureDeferred
async def test_a_route_keeps_the_middlewares_that_it_came_with(network, kind, when, guard):
    inner = ROUTERS[kind]()
    if when == "before":
        inner.middlewares.append(guard())
    outer = including(inner)
    client = await network.connect(await network.serve(outer))
    call = {"method": "GET", "url": "/a-b/" if kind == "mixed segment" else "/x"}
    if when == "after a call":
        assert "detail" not in json.loads(await client.ask(call))
    if when != "before":
        inner.middlewares.append(guard())
    assert json.loads(await client.ask(call)) == FORBIDDEN
    allowed = json.loads(await client.ask({**call, "badge": "yes"}))
    assert "detail" not in allowed


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest_twisted.ensureDeferred
async def test_a_topic_keeps_the_middlewares_that_it_came_with(network, depth):
    router = SimpleRouter()
    router.register_topic("orders/{id}")
    router.middlewares.append(Guard())
    for _ in range(depth):
        router = including(router)
    client = await network.connect(
        await network.serve(factory=RequestHandlerFactory(router=router))
    )
    message = {"method": "SUBSCRIBE", "url": "orders/1"}
    assert json.loads(await client.ask(message)) == FORBIDDEN
    told = json.loads(await client.ask({**message, "badge": "yes"}))
    assert told["data"]["topic"] == "orders/1"


def test_other_routes_do_not_get_them():
    inner, outer = router_of(answer, path="/inner"), router_of(answer, path="/outer")
    sibling = router_of(answer, path="/sibling")
    inner.middlewares.append(Guard())
    for router in (inner, sibling):
        outer.include(router)
    assert ask(outer, url="/outer") == success([])
    assert ask(outer, url="/sibling") == success([])
    assert ask(outer, url="/inner") == FORBIDDEN


def test_routes_of_one_path_keep_their_own():
    inner, outer = router_of(answer, methods=["POST", "GET"], post=answer), router_of(answer)
    inner.middlewares.append(Guard())
    outer.include(inner)
    assert ask(outer) == success([])
    assert ask(outer, "POST") == FORBIDDEN
    # The first endpoint of the path is the outer one.
    assert ask(outer, "PUT")["status"] == 405


def test_the_outer_middlewares_come_first_and_a_shared_one_passes_once():
    seen = []
    innermost, inner = router_of(answer), SimpleRouter()
    shared = Noting("shared", seen)
    innermost.middlewares.extend([Noting("innermost", seen), shared])
    inner.middlewares.extend([shared, Noting("inner", seen)])
    outer = including(including(innermost, inner))
    outer.middlewares.append(Noting("outer", seen))
    assert ask(outer) == success([])
    names = ["outer", "shared", "inner", "innermost"]
    assert seen == [f"{name} in" for name in names] + [f"{name} out" for name in reversed(names)]


@pytest.mark.parametrize("added", ["before", "after"])
def test_a_key_that_an_included_middleware_sets_cannot_be_sent(added):
    class Badge:
        request_attributes = ("badge",)

        def process_request(self, request, handler):
            request.badge = "no"

    inner = router_of(lambda request: request.badge)
    if added == "before":
        inner.middlewares.append(Badge())
    outer = including(inner)
    if added == "after":
        inner.middlewares.append(Badge())
    assert ask(outer) == success("no")
    assert ask(outer, badge="yes")["status"] == 400


@pytest.mark.parametrize("has_middleware", [False, True])
@pytest.mark.parametrize("view", ["plain", "coroutine", "stream", "blocking"])
@pytest_twisted.ensureDeferred
async def test_a_route_keeps_the_error_handlers_that_it_came_with(network, view, has_middleware):
    def fail(request):
        raise KeyError

    async def fail_later(request):
        raise KeyError

    async def fail_in_parts(request):
        yield fail(request)

    views = {"coroutine": fail_later, "stream": fail_in_parts}
    inner = router_of(views.get(view, fail), blocking=view == "blocking")
    inner.error_handlers[LookupError] = to(404)
    outer = including(inner, router_of(views.get(view, fail), path="/outer"))
    # The nearer class does not win over the nearer router.
    outer.error_handlers[KeyError] = to(409)
    if has_middleware:
        outer.middlewares.append(Noting("outer", []))
    client = await network.connect(await network.serve(outer))
    statuses = [
        json.loads(await client.ask({"method": "GET", "url": url}))["status"]
        for url in ("/x", "/outer")
    ]
    assert statuses == [404, 409]


def test_what_an_included_router_does_not_handle_the_outer_one_does():
    def fail(request):
        raise ValueError

    inner = router_of(fail)
    inner.error_handlers[KeyError] = to(404)
    outer = including(including(inner))
    outer.error_handlers[ValueError] = to(422)
    assert ask(outer)["status"] == 422


def test_a_middleware_of_an_included_router_fails_as_its_views_do():
    class Broken:
        def process_request(self, request, handler):
            raise KeyError

    inner = router_of(answer)
    inner.middlewares.append(Broken())
    inner.error_handlers[KeyError] = to(404)
    assert ask(including(inner))["status"] == 404


def test_routers_that_include_each_other_answer_as_before():
    first, second = router_of(answer, path="/first"), router_of(answer, path="/second")
    second.middlewares.append(Guard())
    first.include(second)
    second.include(first)
    first.include(second)
    assert ask(first, url="/first") == success([])
    assert ask(first, url="/second") == FORBIDDEN
    assert ask(second, url="/first") == FORBIDDEN


@pytest.mark.parametrize("asks_ours", [False, True])
def test_a_router_that_searches_in_its_own_way_keeps_them(asks_ours):
    class Own(SimpleRouter):
        def search_handler(self, request, url):
            if asks_ours:
                return super().search_handler(request, url)
            found = next(one for one in self.urls if one.match(url) is not None)
            return found.handler(), (), {}

    inner = router_of(answer)
    inner.middlewares.append(Guard())
    outer = including(inner, Own())
    outer.register("/outer", view_of(answer), "GET")
    assert ask(outer) == FORBIDDEN
    assert ask(outer, badge="yes") == success([])
    assert ask(outer, url="/outer") == success([])


@pytest_twisted.ensureDeferred
async def test_a_request_class_of_ones_own_passes_them_too():
    class Own(Request):
        pass

    inner = router_of(answer)
    inner.middlewares.append(Guard())
    outer = including(inner)
    assert json.loads(outer.process_request(Own("GET", "/x"))) == FORBIDDEN
    assert await ask_later(outer, badge="yes") == success([])
