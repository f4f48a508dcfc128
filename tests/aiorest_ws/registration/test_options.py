"""The options of a route."""

import warnings

import pytest

from aiorest_ws import SimpleRouter, endpoint
from aiorest_ws.auth.permissions import IsAuthenticated
from aiorest_ws.exceptions import NotSupportedArgumentType
from aiorest_ws.renderers import JSONRenderer

UNKNOWN = [
    ("auth_requird", "auth_required"),
    ("authRequired", "auth_required"),
    ("AUTH_REQUIRED", "auth_required"),
    ("block", "blocking"),
    ("orderd", "ordered"),
    ("call_second", "call_seconds"),
    ("renderer", "renderers"),
    ("permission_class", "permission_classes"),
    ("permissions_classes", "permission_classes"),
    ("inject", "injected"),
    ("attribute", "attributes"),
    ("names", "name"),
]


@pytest.mark.parametrize("method", ["get", "post", "trace", "endpoint"])
@pytest.mark.parametrize(("name", "meant"), UNKNOWN)
def test_an_unknown_option_is_refused_with_the_nearest_name(method, name, meant):
    args = ("/x", "GET") if method == "endpoint" else ("/x",)
    with pytest.raises(TypeError, match=f"^unknown option '{name}'; did you mean '{meant}'\\?$"):
        getattr(SimpleRouter(), method)(*args, **{name: True})


@pytest.mark.parametrize("name", ["colour", "limit", "x"])
def test_an_option_like_no_other_is_refused_with_all_names(name):
    with pytest.raises(TypeError, match=f"unknown option '{name}'; known: name, blocking, "):
        SimpleRouter().get("/x", **{name: True})


WRONG = [
    ("name", 1),
    ("name", b"x"),
    ("blocking", 1),
    ("blocking", None),
    ("ordered", "yes"),
    ("auth_required", "no"),
    ("auth_required", 1),
    ("call_seconds", 0),
    ("call_seconds", -1),
    ("call_seconds", True),
    ("call_seconds", "5"),
    ("call_seconds", float("nan")),
    ("call_seconds", float("inf")),
    ("renderers", JSONRenderer),
    ("renderers", (JSONRenderer(),)),
    ("renderers", ("json",)),
    ("permission_classes", IsAuthenticated),
    ("permission_classes", (object,)),
    ("permission_classes", {IsAuthenticated}),
    ("injected", "session"),
    ("injected", (1,)),
    ("injected", ("a b",)),
    ("attributes", [("a", 1)]),
    ("attributes", {1: 1}),
    ("attributes", {"a b": 1}),
    ("attributes", {"auth_required": False}),
    ("attributes", {"dispatch": None}),
    ("attributes", {"methods": ["GET"]}),
    ("attributes", {"__init__": None}),
    ("attributes", {"function": None}),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_refused_with_the_name(name, value):
    with pytest.raises(NotSupportedArgumentType, match=f"{name}") as caught:
        SimpleRouter().get("/x", **{name: value})
    assert str(caught.value).count(". ") == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", None),
        ("auth_required", None),
        ("call_seconds", 0.5),
        ("call_seconds", None),
        ("renderers", [JSONRenderer]),
        ("permission_classes", [IsAuthenticated()]),
        ("injected", {"request_id"}),
        ("attributes", {"colour": "red", "_cost": 1}),
    ],
)
def test_a_right_value_is_taken(name, value):
    router = SimpleRouter()
    router.get("/x", **{name: value})(lambda request, request_id=1: 1)
    assert len(router.urls) == 1


@pytest.mark.parametrize(("name", "meant"), [one for one in UNKNOWN if one[1] != "name"])
def test_attributes_that_nearly_are_options_are_warned_of(name, meant):
    expected = f"attribute '{name}'; did you mean '{meant}'"
    with pytest.warns(UserWarning, match=expected) as warned:
        decorate = endpoint("/x", "GET", **{name: True})
    assert warned[0].filename == __file__
    assert decorate(lambda request: 1).attributes == {name: True}
    with pytest.warns(UserWarning, match=expected) as warned:
        SimpleRouter().get("/x", attributes={name: True})
    assert warned[0].filename == __file__


def test_other_attributes_are_not_warned_of():
    names = ("colour", "tenant", "cost", "scope", "roles", "timeout", "auth_scheme", "order_by")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        endpoint("/x", "GET", blocking=True, auth_required=True, **dict.fromkeys(names))
        endpoint("/x", "GET", get_renderer=None, dispatch=None)
        SimpleRouter().get("/x", attributes=dict.fromkeys(names))
