"""The plan of a route: stages that wait and stages that do not, and what makes it anew."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from aiorest_ws.app import Application
from aiorest_ws.awaiting import drive, maybe_await
from aiorest_ws.exceptions import BaseAPIException
from aiorest_ws.limits import Limits
from aiorest_ws.renderers import XMLRenderer
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.wrappers import Request, Response
from support.routers import ask, ask_later, router_of, success, to, view_of

HELLO = {"method": "GET", "url": "/x"}


class Noting:
    def __init__(self, name, seen):
        self.name = name
        self.seen = seen

    def process_request(self, request, handler):
        self.seen.append(self.name)


class Data:
    """Wraps the data of each reply."""

    def __init__(self, name):
        self.name = name

    def process_request(self, request, handler):
        """Let everything through."""

    def process_response(self, request, response):
        response.content = [self.name, response.content["data"]]


async def answer_later(request):
    return "x"


# One router, several servers


def middleware_class(name, seen):
    return type(name, (Noting,), {"__init__": lambda self: Noting.__init__(self, name, seen)})


@pytest.mark.parametrize("include", [False, True])
@pytest_twisted.ensureDeferred
async def test_one_router_serves_several_applications(network, include):
    seen = []
    router = router_of(lambda request: "x")
    router.register("/fail", view_of(lambda request: {}["key"]), "GET")
    router.register_topic("topic")
    router.middlewares.append(Noting("router", seen))
    if include:
        inner, router = router, SimpleRouter()
        router.include(inner)
    own = list(router.middlewares)
    first = Application(router=router, middlewares=[middleware_class("first", seen)])
    second = Application(router=router, middlewares=[middleware_class("second", seen)])
    first.error_handler(KeyError)(to(404))
    second.error_handler(KeyError)(to(409))
    factories = [first.generate_factory(), second.generate_factory()]
    factories.append(RequestHandlerFactory(router=router))
    clients = [
        await network.connect(await network.serve(factory=factory)) for factory in factories
    ]
    for _ in range(3):  # by the first call's way, and by the compiled one
        for client, name in zip(clients, ("first", "second", None), strict=True):
            del seen[:]
            assert json.loads(await client.ask(HELLO)) == success("x")
            assert seen == [one for one in (name, "router") if one]
    for client, status in zip(clients[:2], (404, 409), strict=True):
        reply = json.loads(await client.ask({"method": "GET", "url": "/fail"}))
        assert reply["status"] == status
    for client, name in zip(clients, ("first", "second", None), strict=True):
        del seen[:]
        await client.ask({"method": "SUBSCRIBE", "url": "topic"})
        assert seen == [one for one in (name, "router") if one]
    assert router.middlewares == own
    assert router.error_handlers == {}


@pytest_twisted.ensureDeferred
async def test_each_server_of_a_router_has_its_own_limits(network):
    router = router_of(lambda request: "x")
    strict = Limits(messages_per_second_per_user=1 / 3600)
    factories = [RequestHandlerFactory(router=router, limits=strict) for _ in range(2)]
    factories.append(RequestHandlerFactory(router=router))
    clients = [
        await network.connect(await network.serve(factory=factory)) for factory in factories
    ]
    for client, expected in zip(clients, ([None, 429], [None, 429], [None, None]), strict=True):
        statuses = [json.loads(await client.ask(HELLO)).get("status") for _ in range(2)]
        assert statuses == expected


def test_a_request_without_a_server_is_of_the_application_that_was_set_up_last():
    seen = []
    router = router_of(lambda request: "x")
    for name in ("first", "second"):
        Application(middlewares=[middleware_class(name, seen)]).generate_factory(router=router)
    assert ask(router) == success("x")
    assert seen == ["second"]


def test_a_router_that_processes_requests_in_its_own_way_finds_the_middlewares_in_its_list():
    seen = []

    class Own(SimpleRouter):
        def process_request(self, request):
            for middleware in self.middlewares:
                middleware.process_request(request, None)
            return b"{}"

    router = Own()
    router.register("/x", view_of(lambda request: "x"), "GET")
    Application(middlewares=[middleware_class("ours", seen)]).generate_factory(router=router)
    assert router.process_request(Request("GET", "/x")) == b"{}"
    assert seen == ["ours"]


@pytest.mark.parametrize("view", [lambda request: "x", answer_later])
@pytest_twisted.ensureDeferred
async def test_a_router_of_ones_own_may_await_what_passes_middlewares(view):
    class Own(SimpleRouter):
        async def process_request(self, request):
            return await super().process_request(request)

    router = Own()
    router.register("/x", view_of(view), "GET")
    router.middlewares.append(Noting("m", []))
    for _ in range(3):
        assert await ask_later(router) == success("x")


def test_a_route_that_is_registered_while_serving_is_found():
    router = router_of(lambda request: "x")
    Application().generate_factory(router=router)
    assert ask(router, "POST")["status"] == 405
    router.register("/x", view_of(lambda request: "posted", "post"), "POST")
    assert [ask(router, "POST"), ask(router)] == [success("posted"), success("x")]


# Lists that change while serving

CHANGES = {
    "append": lambda found, new: found.append(new),
    "insert": lambda found, new: found.insert(0, new),
    "replace": lambda found, new: found.__setitem__(0, new),
    "replace all": lambda found, new: found.__setitem__(slice(None), [new, new]),
    "remove": lambda found, new: found.pop(),
    "clear": lambda found, new: found.clear(),
    "reverse": lambda found, new: found.reverse(),
}


class Equal(Noting):
    def __eq__(self, other):
        return True

    __hash__ = None


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("where", ["own", "included", "application"])
def test_a_changed_list_counts_from_the_next_call_on(change, count, where):
    seen = []
    router = router_of(lambda request: "x")
    found = router.middlewares
    if where == "included":
        inner, router = router, SimpleRouter()
        router.include(inner)
    if where == "application":
        app = Application(router=router)
        app.generate_factory()
        found = app.middlewares
    found.extend(Equal(f"old {number}", seen) for number in range(count))
    expected = [one.name for one in found]
    for _ in range(3):
        assert ask(router) == success("x")
        assert seen == expected
        del seen[:]
    if not count and change not in ("append", "insert"):
        return
    CHANGES[change](found, Equal("new", seen))
    expected = [one.name for one in found]
    if where != "own":  # one that stands in several lists, or twice, passes once there
        expected = list(dict.fromkeys(expected))
    for _ in range(3):
        assert ask(router) == success("x")
        assert list(dict.fromkeys(seen)) == list(dict.fromkeys(expected))
        del seen[:]


@pytest_twisted.ensureDeferred
async def test_a_call_that_waits_keeps_its_middlewares():
    waiting = Deferred()
    seen = []
    answers = [waiting, 1]
    router = router_of(lambda request: answers.pop(0), middlewares=[Data("old")])
    reply = router.process_request(Request("GET", "/x"))
    router.middlewares[:] = [Noting("new", seen)]
    waiting.callback(1)
    assert json.loads(await reply) == success(["old", 1])
    assert seen == []
    assert await ask_later(router) == success(1)
    assert seen == ["new"]


def test_a_router_may_make_its_list_anew_for_each_request():
    seen = []

    class Own(SimpleRouter):
        names = ()

        @property
        def middlewares(self):
            return [Noting(name, seen) for name in self.names]

    router = Own()
    router.register("/x", view_of(lambda request: "x"), "GET")
    for names in ((), ("a",), ("b", "c"), ()):
        router.names = names
        del seen[:]
        assert ask(router) == success("x")
        assert seen == list(names)


# What middlewares change


class Changing:
    def __init__(self, change):
        self.change = change

    def process_request(self, request, handler):
        self.change(request, handler)


@pytest.mark.parametrize("arguments", [None, {"limit": 1}])
def test_a_middleware_may_change_the_arguments(arguments):
    router = router_of(
        lambda request, limit=0, more=0: [limit, more],
        middlewares=[Changing(lambda request, view: request.args.update(more=2))],
    )
    expected = success([1 if arguments else 0, 2])
    assert [ask(router, args=dict(arguments or {})) for _ in range(3)] == [expected] * 3


def test_a_middleware_may_change_the_method():
    router = SimpleRouter()
    views = {
        "get": staticmethod(lambda request: "got"),
        "put": staticmethod(lambda request: "put"),
    }
    router.register("/x", type("View", (view_of(str),), views), ["GET", "PUT"])
    router.middlewares.append(Changing(lambda request, view: setattr(request, "method", "PUT")))
    assert [ask(router) for _ in range(3)] == [success("put")] * 3


@pytest.mark.parametrize("attribute", ["auth_required", "permission_classes"])
def test_a_middleware_may_close_a_view(attribute):
    value = (
        True if attribute == "auth_required" else (type("No", (), {"check": lambda *_: False}),)
    )
    router = router_of(
        lambda request: "x",
        middlewares=[Changing(lambda request, view: setattr(view, attribute, value))],
    )
    assert {ask(router)["status"] for _ in range(3)} <= {401, 403}


def test_a_middleware_may_choose_the_renderer():
    def choose(request, view):
        view.renderers = (XMLRenderer,)

    router = router_of(lambda request: "x", middlewares=[Changing(choose)])
    for _ in range(3):
        assert b"<data>x</data>" in router.process_request(Request("GET", "/x"))


# Any chain answers as a slow one does that awaits each stage


class Slow:
    """What a router does with a request, written as one coroutine."""

    def __init__(self, middlewares, view):
        self.middlewares = middlewares
        self.view = view

    async def reply(self, request):
        async def awaited(value):
            return await value if hasattr(value, "__await__") else value

        response, entered = Response(), []
        try:
            for middleware in self.middlewares:
                entered.append(middleware)
                await awaited(middleware.process_request(request, None))
            response.content = await awaited(self.view(request))
        except BaseAPIException as exc:
            response.wrap_exception(exc)
        response.append_request(request)
        for middleware in reversed(entered):
            if not hasattr(middleware, "process_response"):
                continue
            try:
                changed = await awaited(middleware.process_response(request, response))
                response = response if changed is None else changed
            except BaseAPIException as exc:
                response.wrap_exception(exc)
        response.append_request(request)
        return response.to_representation()


async def at_once(make):
    return make()


async def after_a_turn(make):
    await later(lambda: None)
    return make()


def later(make):
    answer = Deferred()

    def fire():
        try:
            answer.callback(make())
        except BaseAPIException:
            answer.errback(Failure())

    asyncio.get_running_loop().call_soon(fire)
    return answer


def fired(make):
    try:
        return succeed(make())
    except BaseAPIException as exc:
        return fail(exc)


KINDS = {
    "value": lambda make: make(),
    "coroutine": at_once,
    "suspended": after_a_turn,
    "deferred": later,
    "fired": fired,
}


class Stage:
    """Writes down what passes, and does in either way what it is told."""

    def __init__(self, name, does, kind, seen):
        self.name, self.does, self.kind, self.seen = name, does, kind, seen

    def process_request(self, request, handler):
        return KINDS[self.kind](self._enter)

    def _enter(self):
        self.seen.append(f"{self.name} in")
        if self.does == "refuses":
            raise BaseAPIException(self.name, status=418)


class Answering(Stage):
    def __init__(self, *args, reply, reply_kind):
        super().__init__(*args)
        self.reply, self.reply_kind = reply, reply_kind

    def process_response(self, request, response):
        return KINDS[self.reply_kind](lambda: self._leave(response))

    def _leave(self, response):
        self.seen.append(f"{self.name} out {response.status} {sorted(response.content)}")
        if self.reply == "fails":
            raise BaseAPIException(f"{self.name} out", status=409)
        if self.reply == "adds":
            response.content[self.name] = 1
        if self.reply == "replaces":
            other = Response()
            other.content = self.name
            return other
        return None


kinds = st.sampled_from(sorted(KINDS))
enters = st.sampled_from(["passes"] * 4 + ["refuses"])
stages = st.one_of(
    st.tuples(enters, kinds),
    st.tuples(
        enters, kinds, st.sampled_from(["keeps", "keeps", "adds", "replaces", "fails"]), kinds
    ),
)


def chain_of(chain, seen):
    made = []
    for number, (does, kind, *reply) in enumerate(chain):
        args = (f"m{number}", does, kind, seen)
        made.append(
            Answering(*args, reply=reply[0], reply_kind=reply[1]) if reply else Stage(*args)
        )
    return made


@settings(max_examples=150, deadline=None)
@given(st.lists(stages, max_size=4), kinds, st.booleans(), st.sampled_from([None, "c-1"]))
def test_any_chain_answers_as_one_that_awaits_each_stage(chain, kind, refuses, request_id):
    def view_in(seen):
        def make():
            seen.append("view")
            if refuses:
                raise BaseAPIException("view")
            return {"data": 1}

        return lambda request: KINDS[kind](make)

    async def compare():
        expected_seen, seen = [], []
        slow = Slow(chain_of(chain, expected_seen), view_in(expected_seen))
        keys = {"event_name": "e", "id": request_id}
        expected = await maybe_await(drive(slow.reply(Request("GET", "/x", **keys))))
        router = router_of(view_in(seen), middlewares=chain_of(chain, seen))
        for _ in range(3):  # settled, compiled, compiled
            del seen[:]
            reply = await maybe_await(router.process_request(Request("GET", "/x", **keys)))
            assert list(json.loads(reply).items()) == list(expected.items())
            assert seen == expected_seen

    # The reactor's loop counts as running in this thread.
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(asyncio.run, compare()).result()
