"""What may be registered."""

import functools
import json

import pytest
import pytest_twisted

from aiorest_ws.decorators import endpoint
from aiorest_ws.exceptions import (
    InvalidHandler,
    InvalidPathArgument,
    NotSupportedArgumentType,
)
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.validators import check_and_set_subclass, check_methods, check_route
from aiorest_ws.views import MethodBasedView, View


class Users(MethodBasedView):
    def get(self, request): ...


class Slow(Users):
    blocking = True


class SlowCoroutine(MethodBasedView):
    blocking = True

    def get(self, request): ...

    async def put(self, request): ...


class SlowDispatch(Users):
    blocking = True

    async def dispatch(self, request, *args, **kwargs): ...


@pytest.mark.parametrize("name", [None, "users", ""])
@pytest.mark.parametrize("methods", ["GET", " get ", ["GET", "post"], ["Trace", "HEAD"]])
@pytest.mark.parametrize("handler", [MethodBasedView, Users, Slow])
def test_a_route_in_order_is_let_through(handler, methods, name):
    check_route("/users/", handler, methods, name)


@pytest.mark.parametrize("path", ["", "users/", " /users/", "{id}/", None, 1, b"/users/", ["/"]])
def test_a_path_starts_with_a_slash(path):
    with pytest.raises(InvalidPathArgument, match="must start with `/`") as caught:
        check_route(path, Users, "GET")
    assert repr(path) in caught.value.detail


@pytest.mark.parametrize(
    "handler", [None, "Users", Users(), View, object, dict, lambda request: 1]
)
def test_a_handler_is_a_class_of_views(handler):
    with pytest.raises(InvalidHandler, match="subclass of MethodBasedView"):
        check_route("/users/", handler, "GET")


@pytest.mark.parametrize(
    "methods", [("GET",), {"GET"}, None, 1, b"GET", {"GET": 1}, iter(["GET"])]
)
def test_methods_are_a_list_or_a_string(methods):
    kind = type(methods).__name__
    with pytest.raises(NotSupportedArgumentType, match=f"must be a list or a str, not {kind}"):
        check_route("/users/", Users, methods)


@pytest.mark.parametrize("methods", [type("Strings", (str,), {})("GET"), type("L", (list,), {})()])
def test_methods_are_exactly_a_list_or_a_string(methods):
    with pytest.raises(NotSupportedArgumentType, match="must be a list or a str"):
        check_methods(methods)


@pytest.mark.parametrize(
    "methods", ["", "FETCH", "dispatch", "GET,POST", ["GET", "__init__"], [1]]
)
def test_only_the_eight_words_are_methods(methods):
    with pytest.raises(NotSupportedArgumentType, match=r"DELETE, GET, HEAD, .*, TRACE"):
        check_methods(methods)


@pytest.mark.parametrize("name", [1, b"users", ["users"], True])
def test_a_name_is_a_string(name):
    kind = type(name).__name__
    with pytest.raises(NotSupportedArgumentType, match=f"`name` must be a str, not {kind}"):
        check_route("/users/", Users, "GET", name)


def test_the_path_is_looked_at_first_and_the_name_last():
    with pytest.raises(InvalidPathArgument):
        check_route("users", None, None, 1)
    with pytest.raises(InvalidHandler):
        check_route("/users", None, None, 1)
    with pytest.raises(NotSupportedArgumentType, match="methods"):
        check_route("/users", Users, None, 1)


def test_a_blocking_view_has_no_coroutines():
    with pytest.raises(InvalidHandler, match="SlowCoroutine is `blocking`: its `put` runs in a"):
        check_route("/users/", SlowCoroutine, "GET")


def test_a_blocking_view_has_no_coroutine_for_its_dispatch():
    with pytest.raises(InvalidHandler, match="blocking"):
        check_route("/users/", SlowDispatch, "GET")


async def later(request): ...


async def parts(request):
    yield 1


class Later:
    async def __call__(self, request): ...


class Parts:
    async def __call__(self, request):
        yield 1


class Service:
    async def later(self, request): ...

    @classmethod
    async def later_of_class(cls, request): ...

    @staticmethod
    async def later_of_none(request): ...

    def now(self, request):
        return "now"

    def __call__(self, request):
        return "now"


ASYNCHRONOUS = {
    "function": later,
    "generator": parts,
    "callable": Later(),
    "callable generator": Parts(),
    "partial": functools.partial(later),
    "partial of a partial": functools.partial(functools.partial(later)),
    "partial of a callable": functools.partial(Later()),
    "partial of a generator": functools.partial(parts),
    "method": Service().later,
    "class method": Service.later_of_class,
    "static method": Service.later_of_none,
    "staticmethod object": staticmethod(later),
    "partial of a method": functools.partial(Service().later),
    "callable in a callable": type("Outer", (), {"__call__": Later()})(),
}
SYNCHRONOUS = {
    "function": lambda request: "now",
    "callable": Service(),
    "method": Service().now,
    "partial": functools.partial(Service.now, Service()),
    "partial of a callable": functools.partial(Service()),
    "staticmethod object": staticmethod(Service().now),
    "bridge": functools.wraps(later)(lambda request: "now"),
}


@pytest.mark.parametrize("kind", ASYNCHRONOUS)
def test_no_asynchronous_function_is_blocking(kind):
    decorated = endpoint("/x", "GET", blocking=True)(ASYNCHRONOUS[kind])
    with pytest.raises(InvalidHandler, match="its `get` runs in a thread"):
        SimpleRouter().register_endpoint(decorated)
    SimpleRouter().register_endpoint(endpoint("/x", "GET")(ASYNCHRONOUS[kind]))


@pytest.mark.parametrize("kind", ["partialmethod", "callable", "classmethod", "partial"])
def test_no_asynchronous_method_is_blocking(kind):
    async def put(self, request): ...

    methods = {
        "partialmethod": functools.partialmethod(put),
        "callable": Later(),
        "classmethod": classmethod(put),
        "partial": staticmethod(functools.partial(later)),
    }
    view = type("View", (Slow,), {"put": methods[kind]})
    with pytest.raises(InvalidHandler, match="its `put` runs in a thread"):
        check_route("/x", view, "GET")


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("kind", SYNCHRONOUS)
@pytest_twisted.ensureDeferred
async def test_any_other_callable_is_a_good_view(network, kind, blocking):
    router = SimpleRouter()
    router.register_endpoint(endpoint("/x", "GET", blocking=blocking)(SYNCHRONOUS[kind]))
    client = await network.connect(await network.serve(router))
    for _ in range(2):
        assert json.loads(await client.ask({"method": "GET", "url": "/x"}))["data"] == "now"


class Owner:
    pass


@pytest.mark.parametrize("value", [Users, Users()])
@pytest.mark.parametrize("subclasses", [MethodBasedView, (dict, View)])
def test_a_subclass_is_set(value, subclasses):
    owner = Owner()
    check_and_set_subclass(owner, "_view", value, subclasses)
    assert vars(owner) == {"_view": value}


@pytest.mark.parametrize(
    ("value", "subclasses", "message"),
    [
        (dict, View, "`view` must be of View, not dict."),
        ({}, (View, Owner), "`view` must be of View or Owner, not dict."),
        (None, View, "`view` must be of View, not NoneType."),
    ],
)
def test_anything_else_is_refused_and_nothing_is_set(value, subclasses, message):
    owner = Owner()
    with pytest.raises(TypeError) as caught:
        check_and_set_subclass(owner, "_view", value, subclasses)
    assert str(caught.value) == message
    assert vars(owner) == {}
