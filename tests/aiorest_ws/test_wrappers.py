"""Requests and responses."""

import copy
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiorest_ws.exceptions import (
    BaseAPIException,
    InternalError,
    MalformedMessage,
    NotSpecifiedHandler,
)
from aiorest_ws.wrappers import RESERVED_EXTRA_NAMES, Request, Response

# No test hangs on the speed of the machine.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

WIRE_KEYS = ("method", "url", "args", "data", "event_name", "id", "timeout", "token", "since")
MEMBERS = ("get_argument", "to_representation", "adopt", "extra_names")

# Request


def test_an_empty_request():
    request = Request()
    assert request.args == {}
    for name in WIRE_KEYS:
        if name != "args":
            assert getattr(request, name) is None
    assert request.connection is None
    assert request.factory is None
    assert request.extra_names == ()


def test_a_request_is_made_by_position_or_by_name():
    by_position = Request("GET", "/users", {"a": 1}, [1], "event")
    by_name = Request(
        event_name="event", data=[1], args={"a": 1}, url="/users", method="GET", id=7,
        timeout=1.5, token="secret", since={"epoch": "e", "offset": 1},
    )  # fmt: skip
    for request in (by_position, by_name):
        assert (request.method, request.url, request.args) == ("GET", "/users", {"a": 1})
        assert (request.data, request.event_name) == ([1], "event")
    assert (by_name.id, by_name.timeout, by_name.token) == (7, 1.5, "secret")
    assert by_name.since == {"epoch": "e", "offset": 1}


def test_arguments_belong_to_one_request():
    first, second = Request(), Request()
    first.args["a"] = 1
    assert first.args == {"a": 1}
    assert second.args == {}
    assert first.get_argument("a") == 1


@pytest.mark.parametrize("args", [None, {}, {"b": None}, {"a": None}])
def test_an_argument_that_is_missing_is_none(args):
    assert Request(args=args).get_argument("a") is None


@pytest.mark.parametrize("value", [0, "", [], False, "text"])
def test_an_argument_is_given_as_it_came(value):
    assert Request(args={"a": value}).get_argument("a") is value


def test_further_keys_are_attributes_of_one_request():
    request = Request("GET", "/", colour="red", self=1, cls=2, name=3, extra=4)
    assert (request.colour, request.self, request.cls) == ("red", 1, 2)
    assert (request.name, request.extra) == (3, 4)
    assert set(request.extra_names) == {"colour", "self", "cls", "name", "extra"}
    assert not hasattr(Request, "colour")
    assert not hasattr(Request(), "colour")
    assert Request().extra_names == ()


@pytest.mark.parametrize(
    "name",
    [*sorted(RESERVED_EXTRA_NAMES), *MEMBERS, "_", "_args", "_data", "__class__", "__dict__"],
)
def test_a_key_that_shadows_a_member_or_is_private_is_refused(name):
    with pytest.raises(MalformedMessage) as caught:
        Request("GET", "/", event_name={"n": 1}, id="c-7", **{name: 1})
    assert caught.value.detail == f"The key {name!r} is reserved and cannot be sent."
    assert (caught.value.event_name, caught.value.request_id) == ({"n": 1}, "c-7")


@UNHURRIED
@given(st.dictionaries(st.text(), st.integers(), min_size=1))
def test_a_key_becomes_an_attribute_or_the_message_is_refused(extra):
    before = set(dir(Request))
    reserved = before | RESERVED_EXTRA_NAMES
    try:
        request = Request(
            **{name: value for name, value in extra.items() if name not in WIRE_KEYS}
        )
    except MalformedMessage:
        assert any(name.startswith("_") or name in reserved for name in extra)
    else:
        for name in request.extra_names:
            assert getattr(request, name) == extra[name]
    assert set(dir(Request)) == before


def test_nothing_is_set_when_one_of_the_keys_is_refused():
    request = Request()
    with pytest.raises(MalformedMessage):
        request.adopt({"colour": "red", "factory": 1})
    assert not hasattr(request, "colour")
    assert request.extra_names == ()


def test_a_long_key_is_cut_in_the_refusal():
    with pytest.raises(MalformedMessage) as caught:
        Request(**{"_" * 5000: 1})
    assert len(caught.value.detail) < 300


def test_the_server_sets_attributes():
    request = Request()
    request.connection = request.factory = request.user = request.token_payload = "set"
    assert request.connection == request.factory == request.user == "set"
    assert Request().connection is None
    assert not hasattr(Request(), "user")


@pytest.mark.parametrize("event_name", [None, "", 0, False, [1], {"n": None}])
def test_a_reply_repeats_the_event_name_and_the_id_if_there_is_one(event_name):
    assert Request(event_name=event_name).to_representation() == {"event_name": event_name}
    for given_id in (0, "", 7, "c-7"):
        representation = Request(event_name=event_name, id=given_id).to_representation()
        assert representation == {"event_name": event_name, "id": given_id}
        assert list(representation) == ["event_name", "id"]


def test_what_a_log_shows_of_a_request():
    request = Request("GET", "/users", {"password": "p-1"}, "d-1", "e-1", token="t-1", card="c-1")
    assert repr(request) == "<Request 'GET' '/users'>"
    assert repr(Request()) == "<Request 'NoneType' None>"
    assert repr(Request(["GET"], None)) == "<Request 'list' None>"
    assert repr(Request("GET", "/\n\x1b[0mé\u2028")) == (r"<Request 'GET' '/\n\x1b[0m\xe9\u2028'>")


def test_what_a_log_shows_is_short_and_one_line():
    shown = repr(Request("G\n" * 1000, "/é" * 5000))
    assert len(shown) < 300
    assert shown.isascii()
    assert shown.isprintable()
    assert shown.endswith("...>")


def test_a_request_is_equal_to_itself_only():
    first, second = Request("GET", "/"), Request("GET", "/")
    assert first != second
    assert len({first, second, first}) == 2


def test_a_shallow_copy_of_a_request_is_a_request():
    request = Request("GET", "/", {"a": 1}, colour="red")
    twin = copy.copy(request)
    twin.colour = "blue"
    assert (twin.method, twin.args, request.colour) == ("GET", {"a": 1}, "red")


def test_a_deep_copy_of_a_request_is_a_request():
    request = Request("GET", "/", {"a": [1]}, colour="red")
    twin = copy.deepcopy(request)
    twin.args["a"].append(2)
    assert (twin.method, request.args, twin.colour) == ("GET", {"a": [1]}, "red")


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_is_of_the_same_client(copied):
    request = Request("GET", "/", colour="red")
    request.connection, request.factory, request.user = object(), object(), "ada"
    twin = copied(request)
    assert twin.connection is request.connection
    assert twin.factory is request.factory
    assert (twin.user, twin.colour, twin.extra_names) == ("ada", "red", ("colour",))


def test_the_factory_of_a_request_is_that_of_its_connection():
    request = Request("GET", "/")
    assert (request.connection, request.factory) == (None, None)
    request.connection = SimpleNamespace(factory="factory")
    assert request.factory == "factory"
    request.factory = "another"
    assert request.factory == "another"


# Response


def test_an_empty_response():
    response = Response()
    assert response.content == {}
    assert response.status is None
    assert response.to_representation() == {}


@pytest.mark.parametrize("value", [None, 1, "text", [], {"detail": 1}])
def test_content_is_put_under_data(value):
    response = Response()
    response.content = value
    assert response.content == {"data": value}
    assert response.to_representation() == {"data": value}


def test_an_exception_becomes_a_failure():
    response = Response()
    response.content = "a success"
    response.wrap_exception(NotSpecifiedHandler())
    detail = "For URL, typed in request, handler not specified."
    assert response.content == {"detail": detail}
    assert response.status == 404
    assert response.to_representation() == {"detail": detail, "status": 404}


@pytest.mark.parametrize(
    ("exc", "status"),
    [
        (BaseAPIException("no"), 400),
        (BaseAPIException("no", status=418), 418),
        (InternalError("no"), 500),
        (type("Gone", (BaseAPIException,), {"status": 410})("no"), 410),
    ],
)
def test_the_status_is_the_exceptions(exc, status):
    response = Response()
    response.wrap_exception(exc)
    assert response.to_representation() == {"detail": "no", "status": status}


def test_a_failure_can_become_a_success_again():
    response = Response()
    response.wrap_exception(InternalError())
    response.append_request(Request(event_name="e"))
    response.content = 1
    assert response.status is None
    assert response.to_representation() == {"data": 1, "event_name": "e"}


def test_the_keys_have_an_order_of_their_own():
    response = Response()
    response.content["extra"] = True
    response.append_request(Request(event_name="e", id=7))
    response.content = {"x": 1}
    assert list(response.to_representation()) == ["data", "event_name", "id", "extra"]
    response.wrap_exception(BaseAPIException("no"))
    response.content["extra"] = True
    response.append_request(Request(event_name="e", id=7))
    assert list(response.to_representation()) == ["detail", "status", "event_name", "id", "extra"]


def test_what_goes_on_the_wire_is_a_copy():
    response = Response()
    response.content = 1
    response.to_representation()["data"] = 2
    assert response.content == {"data": 1}
