"""Endpoints: whether a path is theirs, and with which values."""

import re

import pytest

from aiorest_ws.abstract import AbstractEndpoint
from aiorest_ws.endpoints import DynamicEndpoint, PlainEndpoint
from aiorest_ws.views import MethodBasedView

USERS = r"/users/(?P<id>[^/]+)/posts/(?P<number>[^/]+)/"


def dynamic(pattern=USERS, methods="GET"):
    return DynamicEndpoint(
        "/users/{id}/posts/{number}/", MethodBasedView, methods, "posts", pattern
    )


@pytest.mark.parametrize(
    ("path", "values"),
    [("/users/", ()), ("/users", None), ("/users/1/", None), ("", None), ("/USERS/", None)],
)
def test_a_plain_endpoint_matches_its_own_path(path, values):
    assert PlainEndpoint("/users/", MethodBasedView, "GET", None).match(path) == values


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("/users/1/posts/2/", ("1", "2")),
        ("/users/a b/posts/é/", ("a b", "é")),
        ("/users/1/posts/2", None),
        ("/users//posts/2/", None),
        ("/users/1/posts/2/3/", None),
        (" /users/1/posts/2/", None),
        ("/users/1/posts/2/\n", None),
    ],
)
def test_a_dynamic_endpoint_gives_the_values_in_order(path, values):
    assert dynamic().match(path) == values


def test_a_pattern_may_be_compiled_already():
    assert dynamic(re.compile(USERS)).match("/users/1/posts/2/") == ("1", "2")
    assert dynamic(re.compile(USERS)).parameters == ("id", "number")
    assert dynamic(USERS).parameters == ("id", "number")


@pytest.mark.parametrize(("methods", "kept"), [("GET", ["GET"]), (["GET", "put"], ["GET", "put"])])
def test_an_endpoint_knows_what_it_was_made_of(methods, kept):
    plain = PlainEndpoint("/users/", MethodBasedView, methods, "users")
    for endpoint, path, name in (
        (plain, "/users/", "users"),
        (dynamic(methods=methods), None, "posts"),
    ):
        assert endpoint.path == (path or "/users/{id}/posts/{number}/")
        assert endpoint.handler is MethodBasedView
        assert endpoint.methods == kept
        assert endpoint.name == name


@pytest.mark.parametrize("make", [dynamic, lambda methods: PlainEndpoint("/", None, methods)])
def test_methods_belong_to_one_endpoint(make):
    registered = ["GET"]
    first, second = make(methods=registered), make(methods=registered)
    first.methods.append("POST")
    assert registered == ["GET"]
    assert second.methods == ["GET"]


def test_an_endpoint_must_say_what_it_matches():
    class Silent(AbstractEndpoint):
        pass

    with pytest.raises(TypeError, match="match"):
        Silent("/", MethodBasedView, "GET")
