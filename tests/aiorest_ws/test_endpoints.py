"""Endpoints: whether a path is theirs, and with which values."""

import re
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiorest_ws.abstract import AbstractEndpoint
from aiorest_ws.endpoints import DynamicEndpoint, PlainEndpoint
from aiorest_ws.parsers import URLParser
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.views import MethodBasedView
from support.routers import ask, success, view_of

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


# Several parameters in one segment

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
LITERALS = st.text("a-.", max_size=2)


@UNHURRIED
@given(st.lists(LITERALS, min_size=1, max_size=5), st.text("a-.b{}\n", max_size=12))
def test_values_are_those_that_an_expression_finds(literals, segment):
    names = [f"{{p{n}}}" for n in range(len(literals) - 1)]
    template = "".join(a + b for a, b in zip(literals, [*names, ""], strict=True))
    expression = "([^{}/]+)".join(map(re.escape, literals))
    wanted = re.fullmatch(f"/x/{expression}/", f"/x/{segment}/", re.DOTALL)
    endpoint = URLParser().define_route(f"/x/{template}/", None, "GET")
    assert endpoint.match(f"/x/{segment}/") == (wanted and wanted.groups())


# In each the last text between parameters is missing, which an expression learns last.
HOSTILE = [
    ("/e/{a}-{b}-{c}-{d}-{e}.{format}", "/e/" + "-" * 250),
    ("/{a}-{b}-{c}-{d}-{e}!{f}/end", "/" + "-" * 250 + "/end"),
    ("/{a}{b}{c}{d}{e}!{f}", "/" + "x" * 250),
    ("/{a}.{b}.{c}.{d}.{e}!{f}", "/" + "." * 250),
    ("/v{a}aa{b}aa{c}aa{d}aa{e}ab{f}", "/v" + "a" * 250),
    ("/{a}x{b}/{c}-{d}-{e}-{f}-{g}!{h}z", "/" + "x" * 100 + "/" + "-" * 249 + "z"),
]


@pytest.mark.parametrize(("template", "path"), HOSTILE)
def test_a_segment_that_does_not_match_costs_next_to_nothing(template, path):
    router = SimpleRouter()
    router.register(template, view_of(lambda request, *values: values), "GET")
    began = time.process_time()
    for _ in range(20):
        assert ask(router, url=path)["status"] == 404
    # With an expression, one takes seconds.
    assert time.process_time() - began < 5


@pytest.mark.parametrize("length", [100, 300, 100_000])
@pytest.mark.parametrize(
    ("template", "parts"),
    [
        ("/{a}-{b}", ["x-{}", "y"]),
        ("/{a}-{b}-{c}-{d}-{e}.{format}", ["-{}", "2", "3", "4", "5", "json"]),
        ("/v{a}.{b}.{c}", ["{}.", "2", "3"]),
    ],
)
def test_a_long_segment_matches_too(template, parts, length):
    router = SimpleRouter()
    router.register(template, view_of(lambda request, *values: values), "GET")
    values = [part.format("-." * (length // 2)) for part in parts]
    path = re.sub(r"\{\w+\}", "{}", template).format(*values)
    assert ask(router, url=path) == success(values)
