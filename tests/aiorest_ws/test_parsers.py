"""Path templates."""

import re
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiorest_ws.endpoints import DynamicEndpoint, PlainEndpoint
from aiorest_ws.exceptions import EndpointValueError
from aiorest_ws.parsers import URLParser
from aiorest_ws.views import MethodBasedView

# No test hangs on the speed of the machine.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def route(path, methods="GET", name=None):
    return URLParser().define_route(path, MethodBasedView, methods, name)


def test_a_path_without_braces_is_plain():
    endpoint = route("/users/", ["GET"], "users")
    assert type(endpoint) is PlainEndpoint
    assert (endpoint.path, endpoint.handler) == ("/users/", MethodBasedView)
    assert (endpoint.methods, endpoint.name) == (["GET"], "users")


def test_a_path_with_a_parameter_is_dynamic():
    endpoint = route("/users/{id}/", "POST", "user")
    assert type(endpoint) is DynamicEndpoint
    assert endpoint.parameters == ("id",)
    assert (endpoint.methods, endpoint.name) == (["POST"], "user")
    assert (endpoint.path, endpoint.handler) == ("/users/{id}/", MethodBasedView)


@pytest.mark.parametrize(
    ("template", "path", "values"),
    [
        ("/{a}/", "/1/", ("1",)),
        ("/{a}/", "//", None),
        ("/{a}/", "/1/2/", None),
        ("/{a}/", "/{1}/", None),
        ("/{a}/", "/a b\n?#%2F/", ("a b\n?#%2F",)),
        ("/{a}/x/{b}/", "/1/x/2/", ("1", "2")),
        ("/{b}/x/{a}/", "/1/x/2/", ("1", "2")),
        ("/v{major}.{minor}/x-{id}.json/", "/v1.2/x-3.json/", ("1", "2", "3")),
        ("/v{major}.{minor}/", "/v1x2/", None),
        # What is special in expressions is not in templates.
        ("/a.b/{c}/", "/axb/1/", None),
        ("/(a|b)*/{c}/", "/(a|b)*/1/", ("1",)),
        ("/[x]+$/{c}/", "/[x]+$/1/", ("1",)),
        ("/a\\d/{c}/", "/a\\d/1/", ("1",)),
        ("/{_private}/{Über2}/", "/1/2/", ("1", "2")),
        ("/{class}/", "/1/", ("1",)),
    ],
)
def test_a_parameter_takes_one_segment_or_a_part_of_it(template, path, values):
    assert route(template).match(path) == values


@pytest.mark.parametrize(
    "template",
    [
        "/{/", "/}/", "/{}/", "/{a/", "/a}/", "/{{a}}/", "/{a{b}}/", "/}a{/", "/{a}}/", "/{a b}/",
        "/{1a}/", "/{a-b}/", "/{a:int}/", "/{a/b}/", "/{a}/{b/", "/{ a }/", "/{*}/",
    ],
)  # fmt: skip
def test_a_malformed_template_is_refused(template):
    with pytest.raises(EndpointValueError, match="malformed"):
        route(template)


@pytest.mark.parametrize("template", ["/{a}/{a}/", "/{a}{b}/x-{a}/"])
def test_a_name_stands_for_one_parameter(template):
    with pytest.raises(EndpointValueError, match="names 'a' twice"):
        route(template)


@pytest.mark.parametrize("template", ["/{a²}/", "/{²}/", "/{x½}/"])
def test_a_name_that_is_no_identifier_is_refused(template):
    with pytest.raises(EndpointValueError, match="malformed"):
        route(template)


literals = st.text(string.ascii_letters + string.punctuation + " é\n", max_size=6).map(
    lambda text: re.sub(r"[{}/]", "", text)
)


@UNHURRIED
@given(st.lists(st.tuples(literals, literals.filter(bool)), min_size=1, max_size=5))
def test_a_filled_template_gives_its_values_back(segments):
    template = "".join(f"/{literal}/{{p{n}}}" for n, (literal, _) in enumerate(segments))
    path = "".join(f"/{literal}/{value}" for literal, value in segments)
    assert route(template).match(path) == tuple(value for _, value in segments)


@UNHURRIED
@given(st.text("{}/ab1_-. ", max_size=12).map("/".__add__))
def test_a_template_is_refused_in_its_own_way_or_served(template):
    try:
        endpoint = route(template)
    except EndpointValueError as exc:
        said = exc.detail
        assert "{" in template or "}" in template
        assert repr(template) in said
    else:
        assert endpoint.path == template
        filled = re.sub(r"\{\w+\}", "x", template)
        assert endpoint.match(filled) is not None
