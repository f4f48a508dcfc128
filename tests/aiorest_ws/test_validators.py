"""What may be registered."""

import pytest

from aiorest_ws.exceptions import (
    InvalidHandler,
    InvalidPathArgument,
    NotSupportedArgumentType,
)
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
