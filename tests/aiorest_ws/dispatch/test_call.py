"""How a call binds its arguments to a view."""

import inspect

import pytest

from aiorest_ws.dispatch.routes import MAX_REMEMBERED_ARGUMENTS, BoundHandler
from aiorest_ws.endpoints import DynamicEndpoint
from aiorest_ws.parsers import URLParser
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.views import MethodBasedView
from aiorest_ws.wrappers import Request
from support.routers import (
    NO_HANDLER,
    NO_METHOD,
    OUR_FAULT,
    ask,
    failure,
    router_of,
    success,
    view_of,
)


def test_arguments_of_a_template_cannot_be_sent():
    router = router_of(lambda request, *values, **arguments: [values, arguments], "/x/{id}")
    assert ask(router, url="/x/1", args={"a": 2}) == success([["1"], {"a": 2}])
    assert ask(router, url="/x/1", args={"id": 2}) == failure(
        400, "The argument 'id' is already given by the URL."
    )


@pytest.mark.parametrize("name", ["self", "request", "preferred_format"])
def test_reserved_arguments_cannot_be_sent(name):
    router = router_of(lambda request, **arguments: arguments)
    assert ask(router, args={name: 1}) == failure(400, f"The argument '{name}' is reserved.")


@pytest.mark.logs_errors
def test_a_type_error_inside_the_view_is_our_fault():
    router = router_of(lambda request: len(5))
    assert ask(router) == failure(500, OUR_FAULT)


def two_limits(_request, first=1, second=2, *, großes=0):
    return [first, second, großes]


@pytest.mark.parametrize(
    ("args", "answer"),
    [
        ({"first": 5}, [5, 2, 0]),
        ({"second": 5}, [1, 5, 0]),
        ({"großes": 5}, [1, 2, 5]),
        ({"first": 5, "second": 6}, [5, 6, 0]),
        ({"second": 5, "großes": 6}, [1, 5, 6]),
        ({}, [1, 2, 0]),
        (None, [1, 2, 0]),
        ({"first": 5, "format": "json"}, [5, 2, 0]),
        ({"format": "json"}, [1, 2, 0]),
    ],
)
def test_calls_are_bound_by_the_names_of_their_arguments_whatever_came_before(args, answer):
    router = router_of(two_limits)
    others = ({"first": 7}, {"first": 7, "second": 8}, None, {"second": 7, "großes": 8})
    for earlier in (*others, *others):
        ask(router, args=earlier)
    assert ask(router, args=args) == success(answer)
    assert ask(router, args=args) == success(answer)


@pytest.mark.parametrize(
    ("args", "detail"),
    [
        ({"other": 5}, "The argument 'other' is not taken here."),
        ({"first": 5, "other": 6}, "The argument 'other' is not taken here."),
        ({"request": 5}, "The argument 'request' is reserved."),
    ],
)
def test_wrong_arguments_are_refused_whatever_came_before(args, detail):
    router = router_of(two_limits)
    for earlier in (None, {"first": 7}, {"first": 7, "second": 8}):
        assert "data" in ask(router, args=earlier)
    assert ask(router, args=args) == failure(400, detail)
    assert ask(router, args={"first": 7}) == success([7, 2, 0])


def test_a_call_without_values_changes_nothing_for_calls_with_them():
    class Optional(URLParser):
        def define_route(self, path, handler, methods, name=None):
            return DynamicEndpoint(path, handler, methods, name, r"/v(?P<major>\d+)/")

    class Router(SimpleRouter):
        url_parser = Optional()

    class Version(MethodBasedView):
        def get(self, _request, major="none"):
            return major

    router = Router()
    router.register("/v{major}", Version, "GET")
    for _ in range(2):
        assert ask(router, url="/vx") == success("none")
        assert ask(router, url="/v1") == success("1")


def test_a_signature_that_is_made_up_is_bound_as_ever():
    def get(_request, **given):
        return given

    parameters = [
        inspect.Parameter("_request", inspect.Parameter.POSITIONAL_OR_KEYWORD),
        inspect.Parameter("__debug__", inspect.Parameter.KEYWORD_ONLY),
    ]
    get.__signature__ = inspect.Signature(parameters)
    router = router_of(get)
    for _ in range(3):
        assert ask(router, args={"__debug__": 1}) == success({"__debug__": 1})


HOSTILE_NAMES = ("a b", "x=1); raise SystemExit(", "limit=1, other", "\n", "'", "lambda", "")


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_names_that_a_client_makes_up_are_never_code(name):
    router = router_of(lambda _request, **arguments: arguments)
    for _ in range(3):
        assert ask(router, args={name: 1}) == success({name: 1})
        assert ask(router, args={name: 1, "other": 2}) == success({name: 1, "other": 2})
    router = router_of(lambda _request, limit=0: limit)
    for _ in range(3):
        assert ask(router, args={name: 1})["status"] == 400
        assert ask(router, args={name: 1, "limit": 2})["status"] == 400


def test_what_is_remembered_of_calls_does_not_grow_with_what_clients_send():
    handler = BoundHandler(view_of(lambda _request, **arguments: len(arguments)), "get")
    for count in range(200):
        names = [f"name{number}" for number in range(count)]
        assert handler.call(Request("GET"), (), dict.fromkeys(names))[1] == count
    assert len(handler.calls) == MAX_REMEMBERED_ARGUMENTS


@pytest.mark.logs_errors
@pytest.mark.parametrize("error", [KeyError, TypeError])
def test_an_error_of_a_view_is_its_own_in_each_call_and_it_is_called_once(error):
    calls = []

    def fail_at(_request, limit):
        calls.append(limit)
        raise error("limit")

    router = router_of(fail_at)
    for number in range(3):
        assert ask(router, args={"limit": number}) == failure(500, OUR_FAULT)
    assert calls == [0, 1, 2]


def test_a_handler_that_is_replaced_in_its_class_is_called():
    class Old(MethodBasedView):
        def get(self, _request, limit):
            return f"old {limit}"

    router = SimpleRouter()
    router.register("/x", Old, "GET")
    assert [ask(router, args={"limit": 1})["data"] for _ in range(2)] == ["old 1", "old 1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Old, "get", lambda self, request, limit: f"new {limit}")
        assert ask(router, args={"limit": 1}) == success("new 1")
    assert ask(router, args={"limit": 1}) == success("old 1")


def test_a_view_is_not_made_for_arguments_that_it_does_not_take():
    made = []

    class Counted(MethodBasedView):
        def __init__(self):
            made.append(self)

        def get(self, _request, limit):
            return limit

    router = SimpleRouter()
    router.register("/x", Counted, "GET")
    for _ in range(2):
        assert ask(router, args={"limit": 1}) == success(1)
        assert ask(router, args={"other": 1})["status"] == 400
    assert len(made) == 2


@pytest.mark.parametrize("event_name", [None, "\u2028"])
@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ("Zürich", '"Zürich"'),
        ("100 €", '"100 €"'),  # begins with the byte that U+2028 begins with
        ("a\u2028b\u2029", '"a\\u2028b\\u2029"'),
    ],
)
def test_a_reply_outside_of_ascii_is_valid_javascript(value, encoded, event_name):
    router = router_of(lambda _request: value)
    for _ in range(2):
        reply = router.process_request(Request("GET", "/x", event_name=event_name))
        echo = "null" if event_name is None else '"\\u2028"'
        assert reply.decode() == f'{{"data":{encoded},"event_name":{echo}}}'


@pytest.mark.logs_errors
def test_a_template_with_more_values_than_the_view_takes_is_our_fault(caplog):
    assert ask(router_of(lambda request: 1, "/x/{id}"), url="/x/1") == failure(500, OUR_FAULT)
    assert "the path has 1 values, the view takes 0" in caplog.text


class Dispatching(MethodBasedView):
    """Counts calls, and hands them on or answers them itself."""

    def dispatch(self, request, *args, **kwargs):
        if request.data == "own":
            return [args, kwargs]
        return super().dispatch(request, *args, **kwargs)

    def get(self, request, value, a=0):
        return [value, a]


@pytest.fixture
def dispatching():
    router = SimpleRouter()
    router.register("/d/{id}", Dispatching, ["GET", "POST"])
    return router


def test_an_overridden_dispatch_gets_every_call(dispatching):
    assert ask(dispatching, url="/d/1", args={"a": 2}) == success(["1", 2])
    assert ask(dispatching, url="/d/1", args={"b": 2}, data="own") == success([["1"], {"b": 2}])
    assert ask(dispatching, "POST", "/d/1", data="own") == success([["1"], {}])


def test_what_an_overridden_dispatch_hands_on_is_bound_as_ever(dispatching):
    assert ask(dispatching, url="/d/1", args={"format": "json"}) == success(["1", 0])
    assert ask(dispatching, url="/d/1", args={"b": 2}) == failure(
        400, "The argument 'b' is not taken here."
    )
    assert ask(dispatching, "POST", url="/d/1") == failure(405, NO_HANDLER)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("id", "already given by the URL"),
        ("self", "reserved"),
        ("request", "reserved"),
        ("preferred_format", "reserved"),
    ],
)
def test_an_overridden_dispatch_is_not_sent_what_is_reserved(dispatching, name, reason):
    reply = ask(dispatching, url="/d/1", args={name: 1}, data="own")
    assert reply == failure(400, f"The argument '{name}' is {reason}.")


def test_an_overridden_dispatch_gets_registered_methods_only(dispatching):
    for method in ("PUT", "dispatch", "get_renderer"):
        assert ask(dispatching, method, "/d/1", data="own") == failure(405, NO_HANDLER)
    assert ask(dispatching, None, "/d/1", data="own") == failure(400, NO_METHOD)


@pytest.mark.parametrize(
    ("args", "status"), [({"a": 1}, 400), ({"format": "json"}, None), ({"b": 1, "c": 2}, 400)]
)
def test_arguments_that_an_overridden_dispatch_does_not_take(args, status):
    class Narrow(MethodBasedView):
        def dispatch(self, request):
            return "found"

    router = SimpleRouter()
    router.register("/x", Narrow, "GET")
    assert ask(router, args=args).get("status") == status
