"""The router with bare requests: which view answers, and what becomes of its answer."""

import asyncio
import inspect
import json
import logging
import re
import threading

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, DeferredQueue, fail, succeed

from aiorest_ws.abstract import AbstractEndpoint, AbstractMiddleware, AbstractRouter
from aiorest_ws.decorators import endpoint
from aiorest_ws.dispatch.routes import MAX_REMEMBERED_ARGUMENTS, BoundHandler
from aiorest_ws.endpoints import DynamicEndpoint, PlainEndpoint
from aiorest_ws.exceptions import (
    BaseAPIException,
    EndpointValueError,
    InvalidHandler,
    InvalidPathArgument,
    MethodNotAllowed,
    NotSpecifiedHandler,
    NotSpecifiedURL,
    NotSupportedArgumentType,
    SerializerError,
    ServiceUnavailable,
)
from aiorest_ws.parsers import URLParser
from aiorest_ws.renderers import BaseRenderer, JSONRenderer, XMLRenderer
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.transports import install_reactor
from aiorest_ws.views import MethodBasedView
from aiorest_ws.wrappers import Request, Response

NO_URL = "In query not specified `url` argument."
NO_HANDLER = "For URL, typed in request, handler not specified."
NO_METHOD = "In query not specified `method` argument."
METHOD_TYPE = "Method name should be a string type."
OUR_FAULT = "Internal server error."
UNRENDERABLE = "The reply cannot be rendered."


def view_of(function, *methods, **attributes):
    """A view class that answers with `function(request, *values, **arguments)`."""
    methods = methods or ("get",)
    handlers = {name: staticmethod(function) for name in methods}
    return type("View", (MethodBasedView,), {**attributes, **handlers})


def router_of(function, path="/x", methods="GET", middlewares=(), **attributes):
    router = SimpleRouter()
    router.register(path, view_of(function, **attributes), methods)
    router.middlewares.extend(middlewares)
    return router


def answering(value):
    return view_of(lambda request, *values, **arguments: value)


def ask(router, method="GET", url="/x", args=None, **keys):
    """Make a call that is answered at once; return the reply."""
    reply = router.process_request(Request(method, url, args, **keys))
    assert isinstance(reply, bytes)
    return json.loads(reply)


def success(data, event_name=None):
    return {"data": data, "event_name": event_name}


def failure(status, detail, event_name=None):
    return {"detail": detail, "status": status, "event_name": event_name}


def lines(caplog):
    return [record for record in caplog.records if record.name == "aiorest-ws"]


def raising(exc):
    def view(request, *values, **arguments):
        raise exc

    return view


# Registration


@pytest.mark.parametrize(
    ("path", "handler", "methods", "name", "error"),
    [
        ("users", MethodBasedView, "GET", None, InvalidPathArgument),
        (" users", MethodBasedView, "GET", None, InvalidPathArgument),
        (None, MethodBasedView, "GET", None, InvalidPathArgument),
        (b"/users", MethodBasedView, "GET", None, InvalidPathArgument),
        ("/users", dict, "GET", None, InvalidHandler),
        ("/users", MethodBasedView(), "GET", None, InvalidHandler),
        ("/users", MethodBasedView, ("GET",), None, NotSupportedArgumentType),
        ("/users", MethodBasedView, None, None, NotSupportedArgumentType),
        ("/users", MethodBasedView, "FETCH", None, NotSupportedArgumentType),
        ("/users", MethodBasedView, "GET", 1, NotSupportedArgumentType),
        ("/users/{id", MethodBasedView, "GET", None, EndpointValueError),
        ("/users/{id}/{id}", MethodBasedView, "GET", None, EndpointValueError),
    ],
)
def test_a_wrong_registration_is_refused_and_leaves_nothing_behind(
    path, handler, methods, name, error
):
    router = SimpleRouter()
    with pytest.raises(error):
        router.register(path, handler, methods, name)
    for url in ("/users", "users", "/users/1"):
        assert ask(router, url=url) == failure(404, NO_HANDLER)


@pytest.mark.parametrize("path", ["", "  "])
def test_an_empty_path_is_refused(path):
    with pytest.raises(InvalidPathArgument):
        SimpleRouter().register(path, answering(1), "GET")


@pytest.mark.parametrize("path", ["/x", "/x/", "  /x", "/x \n", " /x/ "])
@pytest.mark.parametrize("url", ["/x", "/x/", "  /x", "/x \n", " /x/ "])
def test_blanks_and_the_slash_at_the_end_do_not_matter(path, url):
    router = SimpleRouter()
    router.register(path, answering("found"), "GET")
    assert ask(router, url=url) == success("found")


@pytest.mark.parametrize("url", ["x", "x/", "//x", "/x//", "/X", "/x/y", "/x?a=1", "/"])
def test_other_urls_are_not_found(url):
    assert ask(router_of(lambda request: "found"), url=url) == failure(404, NO_HANDLER)


@pytest.mark.parametrize("methods", ["get", "GET", " Get ", ["GET"], ["PUT", " get "]])
def test_methods_are_registered_in_any_case(methods):
    router = router_of(lambda request: "found", methods=methods)
    assert ask(router) == success("found")
    assert ask(router, " gET ") == success("found")


def test_a_method_answers_only_where_it_is_registered_and_defined():
    router = router_of(lambda request: "found", methods=["PUT"])
    assert ask(router, "GET") == failure(405, NO_HANDLER)  # defined, not registered
    assert ask(router, "PUT") == failure(405, NO_HANDLER)  # registered, not defined


def test_methods_are_registered_for_one_path():
    router = SimpleRouter()
    view, methods = answering("found"), ["GET"]
    router.register("/x", view, methods)
    methods.append("POST")
    router.register("/y", view_of(lambda request: "y", "get", "post"), methods)
    assert ask(router, "POST", "/x") == failure(405, NO_HANDLER)
    assert ask(router, "POST", "/y") == success("y")


def several(path, other):
    """A router with several views for one path, or for two templates of one shape."""
    router = SimpleRouter()
    router.register(path, answering("first"), "GET")
    router.register(other, view_of(lambda request, *v, **a: ["second", v, a], "post"), ["POST"])
    router.register(path, view_of(lambda request, *v, **a: "third", "get", "put"), ["GET", "PUT"])
    return router


@pytest.mark.parametrize(("path", "other"), [("/x", "/x/"), ("/{a}", "/{b}/")])
def test_a_path_registered_again_answers_the_methods_that_were_free(path, other):
    router = several(path, other)
    assert ask(router, "GET") == success("first")
    assert ask(router, " post ")["data"][0] == "second"
    assert ask(router, "PUT") == success("third")
    assert ask(router, "DELETE") == failure(405, NO_HANDLER)
    assert ask(router, None) == failure(400, NO_METHOD)
    assert ask(router, 1) == failure(400, METHOD_TYPE)


def test_each_template_of_a_shape_keeps_its_own_names():
    router = several("/{a}", "/{b}/")
    assert ask(router, "POST", args={"a": 1}) == success(["second", ["x"], {"a": 1}])
    assert ask(router, "POST", args={"b": 1}) == failure(
        400, "The argument 'b' is already given by the URL."
    )
    assert ask(router, "GET", args={"a": 1}) == failure(
        400, "The argument 'a' is already given by the URL."
    )


def test_values_in_the_path_are_strings_in_order():
    router = router_of(
        lambda request, *values, **arguments: [*values, arguments],
        "/v{major}.{minor}/x-{id}.json",
    )
    assert ask(router, url="/v1.2/x-07.json", args={"a": 1}) == success(["1", "2", "07", {"a": 1}])


def test_a_plain_path_wins_over_a_template_then_the_first_registered():
    router = SimpleRouter()
    router.register("/{a}/b", answering("first template"), "GET")
    router.register("/a/{b}", answering("second template"), "GET")
    router.register("/a/c", answering("first plain"), "GET")
    router.register("/a/c", answering("second plain"), "GET")
    assert ask(router, url="/a/b") == success("first template")
    assert ask(router, url="/a/d") == success("second template")
    assert ask(router, url="/a/c") == success("first plain")


def test_the_winner_answers_even_if_only_the_other_takes_the_method():
    router = SimpleRouter()
    router.register("/{a}", view_of(lambda request, a: a, "post"), "POST")
    router.register("/a", answering("plain"), "GET")
    assert ask(router, "POST", "/a") == failure(405, NO_HANDLER)


class Foreign(AbstractEndpoint):
    def match(self, path):
        return (path,) if path.startswith(self.path.rstrip("/")) else None


class OwnPlain(PlainEndpoint):
    """Matches in any case."""

    def match(self, path):
        return super().match(path.lower())


class ForeignParser(URLParser):
    def define_route(self, path, handler, methods, name=None):
        if path.startswith("/ours"):
            return super().define_route(path, handler, methods, name)
        return Foreign(path, handler, methods, name)


class ForeignRouter(SimpleRouter):
    url_parser = ForeignParser()


def test_endpoints_of_other_classes_come_after_ours_in_their_order():
    router = ForeignRouter()
    router.register("/o", view_of(lambda request, path: f"wide {path}"), "GET", "wide")
    router.register("/ot", view_of(lambda request, path: f"narrow {path}"), "GET", "narrow")
    router.register("/ours/{id}", answering("template"), "GET")
    router.register("/ours/plain", answering("plain"), "GET")
    assert ask(router, url="/ours/1") == success("template")
    assert ask(router, url="/ours/plain") == success("plain")
    assert ask(router, url="/ours") == success("wide /ours/")
    assert ask(router, url="/other") == success("wide /other/")
    assert ask(router, url="/none") == failure(404, NO_HANDLER)
    assert ask(router, "POST", url="/other") == failure(405, NO_HANDLER)


def test_a_subclass_of_our_endpoints_matches_in_its_own_way():
    class Parser(URLParser):
        def define_route(self, path, handler, methods, name=None):
            return OwnPlain(path, handler, methods, name)

    class Router(SimpleRouter):
        url_parser = Parser()

    router = Router()
    router.register("/x", answering("found"), "GET")
    assert ask(router, url="/X") == success("found")


@pytest.mark.parametrize("route", [None, object(), "/x", PlainEndpoint])
def test_a_parser_must_make_endpoints(route):
    class Router(SimpleRouter):
        url_parser = type("Parser", (), {"define_route": lambda *arguments: route})()

    with pytest.raises(TypeError, match="AbstractEndpoint"):
        Router().register("/x", answering(1), "GET")


# Names and included routers


def test_a_name_is_taken_once():
    router = SimpleRouter()
    router.register("/x", answering("first"), "GET", "name")
    with pytest.raises(EndpointValueError, match="Duplicate name, already handled by ") as caught:
        router.register("/y", answering("second"), "GET", "name")
    assert "PlainEndpoint" in caught.value.detail
    assert ask(router, url="/x") == success("first")
    assert ask(router, url="/y") == failure(404, NO_HANDLER)
    assert router.reverse("name") == "/x/"


def test_endpoints_without_a_name_do_not_collide():
    router = SimpleRouter()
    for path, name in (("/a", None), ("/b", None), ("/c", ""), ("/d", "")):
        router.register(path, answering(path), "GET", name)
    assert ask(router, url="/d") == success("/d")


def test_an_included_router_is_served_too():
    outer, inner = SimpleRouter(), SimpleRouter()
    outer.register("/x", answering("outer"), "GET", "outer")
    inner.register("/x", answering("inner"), "GET")
    inner.register("/y", answering("plain"), "GET", "plain")
    inner.register("/y/{id}", view_of(lambda request, value: value), "GET", "template")
    outer.include(inner)
    inner.register("/z", answering("too late"), "GET")
    assert ask(outer, url="/x") == success("outer")
    assert ask(outer, url="/y") == success("plain")
    assert ask(outer, url="/y/7") == success("7")
    assert ask(outer, url="/z") == failure(404, NO_HANDLER)
    assert outer.reverse("template", 7) == "/y/7/"
    assert ask(inner, url="/x") == success("inner")


def test_a_router_can_include_itself():
    router = router_of(lambda request: "found")
    router.include(router)
    assert ask(router) == success("found")


def test_the_names_of_an_included_router_must_be_free():
    outer, inner = SimpleRouter(), SimpleRouter()
    outer.register("/x", answering("outer"), "GET", "name")
    inner.register("/y", answering("inner"), "GET", "name")
    with pytest.raises(EndpointValueError, match="Duplicate name"):
        outer.include(inner)
    assert ask(outer, url="/y") == failure(404, NO_HANDLER)


@pytest.mark.parametrize("router", [None, object(), SimpleRouter, {"/x": MethodBasedView}])
def test_only_routers_are_included(router):
    with pytest.raises(TypeError, match="AbstractRouter"):
        SimpleRouter().include(router)


class Bare(AbstractRouter):
    def process_request(self, request):
        return b""


def test_any_router_is_included():
    bare, router = Bare(), SimpleRouter()
    bare._urls.append(Foreign("/f", view_of(lambda request, path: path), "GET", "f"))
    router.include(bare)
    assert ask(router, url="/fx") == success("/fx/")
    bare._urls.append("no endpoint")
    with pytest.raises(TypeError, match="AbstractEndpoint"):
        SimpleRouter().include(bare)


def test_routers_share_nothing():
    first, second = SimpleRouter(), SimpleRouter()
    first.register("/x", answering(1), "GET", "name")
    first.middlewares.append(object())
    first.error_handlers[KeyError] = lambda request, exc: BaseAPIException()
    assert ask(second) == failure(404, NO_HANDLER)
    assert second.middlewares == []
    assert second.error_handlers == {}


# Functions


def test_a_decorated_function_is_served():
    @endpoint("/hello/{name}", methods=["GET", "POST"], name="hello", renderers=(XMLRenderer,))
    def hello(request, name, greeting="Hello"):
        return f"{greeting}, {name}!"

    router = SimpleRouter()
    router.register_endpoint(hello)
    reply = router.process_request(Request("POST", "/hello/Ada", {"greeting": "Good day"}))
    assert b"<data>Good day, Ada!</data>" in reply
    assert router.reverse("hello", "Ada") == "/hello/Ada/"
    assert ask(router, "POST", "/hello/Ada", {"name": "Bob"}) == failure(
        400, "The argument 'name' is already given by the URL."
    )


@pytest.mark.parametrize("function", [None, answering(1), lambda request: 1])
def test_an_undecorated_function_is_refused(function):
    with pytest.raises(TypeError, match="not decorated with @endpoint"):
        SimpleRouter().register_endpoint(function)


@pytest.mark.parametrize(
    ("path", "methods", "error"),
    [
        ("/x", ("GET",), NotSupportedArgumentType),
        ("x", "GET", InvalidPathArgument),
        ("/{x", "GET", EndpointValueError),
    ],
)
def test_a_wrongly_decorated_function_is_refused_when_it_is_registered(path, methods, error):
    decorated = endpoint(path, methods)(lambda request: 1)
    with pytest.raises(error):
        SimpleRouter().register_endpoint(decorated)


# The order of judgement


def test_judgement_goes_from_the_url_to_the_method_to_the_arguments():
    router = router_of(lambda request: "found", "/x")
    assert ask(router, url=None, method=1) == failure(400, NO_URL)
    assert ask(router, url="", method=None) == failure(400, NO_URL)
    assert ask(router, url="/y", method=1) == failure(404, NO_HANDLER)
    assert ask(router, url="/y", method="dispatch") == failure(404, NO_HANDLER)
    assert ask(router, None, args={"a": 1}) == failure(400, NO_METHOD)
    assert ask(router, "", args={"a": 1}) == failure(400, NO_METHOD)
    assert ask(router, 1, args={"a": 1}) == failure(400, METHOD_TYPE)
    assert ask(router, "POST", args={"a": 1}) == failure(405, NO_HANDLER)
    assert ask(router, "GET", args={"a": 1}) == failure(400, "The argument 'a' is not taken here.")
    assert ask(router, "GET", event_name=["e"]) == success("found", ["e"])


@pytest.mark.parametrize(
    "word", ["dispatch", "__init__", "get_renderer", "_route", " ", "CONNECT"]
)
def test_no_other_attribute_of_a_view_can_be_called(word):
    assert ask(router_of(lambda request: "found"), word) == failure(405, NO_HANDLER)


@pytest.mark.parametrize("word", ["CANCEL", " cancel "])
@pytest.mark.parametrize("url", [None, "", "/x", "/nowhere"])
def test_to_cancel_is_not_for_a_router(word, url):
    assert ask(router_of(lambda request: "found"), word, url) == failure(405, NO_HANDLER)


@pytest.mark.parametrize("word", ["SUBSCRIBE", "UNSUBSCRIBE", " subscribe\n", "UnSubscribe"])
def test_only_what_was_registered_as_a_topic_can_be_subscribed_to(word):
    router = router_of(lambda request: "found")
    router.register_topic("topic")
    no_url = ask(router, None, None)["status"]
    assert no_url == 400
    for url in (None, ""):
        assert ask(router, word, url)["status"] == no_url
    for url in ("/x", "x", "/nowhere", "/topic", "topic/", " topic"):
        assert ask(router, word, url) == failure(404, "There is no such topic.")
    # Nobody is there who could be sent anything.
    assert ask(router, word, "topic") == failure(405, NO_HANDLER)


@pytest.mark.parametrize("url", [" ", "\t\n"])
def test_a_url_of_blanks_has_no_slash_at_its_beginning(url):
    router = router_of(lambda request: "root", "/")
    assert ask(router, url=url).get("status") in {400, 404}


def test_a_url_is_a_string():
    assert ask(router_of(lambda request: 1), url=["/x"]) == failure(400, "`url` must be a string.")


def test_a_reply_repeats_id_and_event_name_in_the_order_of_the_wire():
    router = router_of(lambda request: {"z": 1})
    good = router.process_request(Request("GET", "/x", event_name={"b": 1, "a": 2}, id="c-7"))
    assert good == b'{"data":{"z":1},"event_name":{"b":1,"a":2},"id":"c-7"}'
    bad = router.process_request(Request("PUT", "/x", event_name=0, id=0))
    assert bad == f'{{"detail":"{NO_HANDLER}","status":405,"event_name":0,"id":0}}'.encode()


# Arguments


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


# Renderers


def test_a_format_chooses_the_renderer_of_a_success():
    router = router_of(lambda request: "found", renderers=(JSONRenderer, XMLRenderer))
    assert ask(router, args={"format": "json"}) == success("found")
    assert ask(router, args={"format": "yaml"}) == success("found")
    assert ask(router, args={"format": ["xml"]}) == success("found")
    reply = router.process_request(Request("GET", "/x", {"format": "xml"}, event_name="e"))
    assert b"<root><data>found</data><event_name>e</event_name></root>" in reply


def test_a_failure_is_always_json():
    router = router_of(raising(BaseAPIException("no")), renderers=(XMLRenderer,))
    assert ask(router, args={"format": "xml"}) == failure(400, "no")


def test_a_view_that_takes_format_gets_it_too():
    def view(request, format):  # noqa: A002  the wire's name
        return format

    router = router_of(view, renderers=(JSONRenderer, XMLRenderer))
    assert b"<data>xml</data>" in router.process_request(Request("GET", "/x", {"format": "xml"}))
    assert ask(router, args={"format": 7}) == success(7)


def test_get_renderer_of_a_view_gets_the_values_and_the_arguments():
    seen = []

    def get_renderer(view, preferred_format, *args, **kwargs):
        seen.append((preferred_format, args, kwargs))
        return JSONRenderer()

    router = router_of(lambda request, value, **arguments: 1, "/x/{id}", get_renderer=get_renderer)
    assert ask(router, url="/x/1", args={"format": "xml", "a": 2}) == success(1)
    assert seen == [("xml", ("1",), {"format": "xml", "a": 2})]


@pytest.mark.logs_errors
@pytest.mark.parametrize("middlewares", [0, 1])
@pytest.mark.parametrize("value", [object(), {"a": 1j}, "\ud800", (item for item in ())])
def test_what_cannot_be_rendered_is_our_fault(value, middlewares, caplog):
    router = router_of(lambda request: value, middlewares=[Passing()] * middlewares)
    assert ask(router, event_name="e") == failure(500, UNRENDERABLE, "e")
    (line,) = lines(caplog)
    assert line.exc_info[0] is SerializerError


@pytest.mark.logs_errors
@pytest.mark.parametrize("middlewares", [0, 1])
def test_renderers_that_are_no_list_are_our_fault(middlewares):
    router = router_of(
        lambda request: 1, renderers=JSONRenderer, middlewares=[Passing()] * middlewares
    )
    reply = ask(router, event_name="e")
    assert reply == failure(500, UNRENDERABLE, "e")


@pytest.mark.logs_errors
def test_a_renderer_that_breaks_is_our_fault():
    class Broken(BaseRenderer):
        def render(self, data):
            raise ZeroDivisionError

    assert ask(router_of(lambda request: 1, renderers=[Broken])) == failure(500, OUR_FAULT)


@pytest.mark.logs_errors
@pytest.mark.parametrize("rendered", ["text", None, {"data": 1}])
def test_a_renderer_that_gives_no_bytes_is_our_fault(rendered):
    class Wordy(BaseRenderer):
        def render(self, data):
            return rendered

    assert ask(router_of(lambda request: 1, renderers=[Wordy])) == failure(500, OUR_FAULT)


# What subclasses may override


def test_an_overridden_extract_url_decides_what_is_looked_for():
    class Router(SimpleRouter):
        def extract_url(self, request):
            return super().extract_url(request).replace("/api/v1/", "/")

    router = Router()
    router.register("/x", answering("found"), "GET")
    assert ask(router, url="/api/v1/x") == success("found")
    assert ask(router, url=None) == failure(400, NO_URL)


def test_an_overridden_search_handler_decides_who_answers():
    class Router(SimpleRouter):
        def search_handler(self, request, url):
            if url == "/own/":
                return view_of(lambda request, *v, **a: [v, a])(), ("value",), {"a": 1}
            if url == "/gone/":
                raise BaseAPIException("gone", status=410)
            return super().search_handler(request, url)

    router = Router()
    router.register("/x", answering("found"), "GET")
    assert ask(router, url="/own", args={"ignored": 1}) == success([["value"], {"a": 1}])
    assert ask(router, "POST", "/own") == failure(405, NO_HANDLER)
    assert ask(router, url="/gone") == failure(410, "gone")
    assert ask(router, url="/x") == success("found")
    assert ask(router, url="/y") == failure(404, NO_HANDLER)


def test_search_handler_and_extract_url_can_be_asked():
    router = router_of(lambda request, value: value, "/x/{id}")
    request = Request("GET", " /x/7 ", {"a": 1})
    url = router.extract_url(request)
    assert url == "/x/7/"
    view, values, arguments = router.search_handler(request, url)
    assert isinstance(view, MethodBasedView)
    assert (tuple(values), dict(arguments)) == (("7",), {"a": 1})
    assert router.search_handler(request, "/y/") == (None, (), {})
    with pytest.raises(NotSpecifiedURL):
        router.extract_url(Request("GET"))


def test_every_call_has_a_view_of_its_own():
    seen = []

    class Keeping(MethodBasedView):
        def get(self, request):
            seen.append(self)
            return hasattr(self, "kept") or setattr(self, "kept", True)

    router = SimpleRouter()
    router.register("/x", Keeping, "GET")
    assert ask(router) == ask(router) == success(None)
    assert seen[0] is not seen[1]


@pytest.mark.logs_errors
def test_a_view_that_cannot_be_made_is_our_fault():
    class Needy(MethodBasedView):
        def __init__(self, needed):
            pass

        def get(self, request): ...

    router = SimpleRouter()
    router.register("/x", Needy, "GET")
    assert ask(router) == failure(500, OUR_FAULT)


# Failures and their log


class Teapot(BaseAPIException):
    status = 418
    default_detail = "I'm a teapot."


@pytest.mark.parametrize(
    ("exc", "reply"),
    [
        (BaseAPIException("no"), failure(400, "no")),
        (BaseAPIException(), failure(400, "A server error occurred.")),
        (BaseAPIException({"a": ["b"]}, status=422), failure(422, {"a": ["b"]})),
        (Teapot, failure(418, "I'm a teapot.")),
        (Teapot("short and stout"), failure(418, "short and stout")),
        (NotSpecifiedHandler(), failure(404, NO_HANDLER)),
        (MethodNotAllowed(), failure(405, NO_HANDLER)),
        (ServiceUnavailable(), failure(503, "The server is busy, try again later.")),
        (CancelledError(), failure(499, "The call was cancelled.")),
        (asyncio.CancelledError(), failure(499, "The call was cancelled.")),
    ],
)
def test_what_a_client_can_mend_is_no_error_in_the_log(exc, reply, caplog):
    caplog.set_level(logging.DEBUG, "aiorest-ws")
    assert ask(router_of(raising(exc))) == reply
    assert not [record for record in lines(caplog) if record.levelno >= logging.WARNING]
    assert not [record for record in lines(caplog) if record.exc_info]


@pytest.mark.logs_errors
@pytest.mark.parametrize(
    ("exc", "detail"),
    [
        (ValueError("secret"), OUR_FAULT),
        (TypeError("secret"), OUR_FAULT),
        (KeyError, OUR_FAULT),
        (RecursionError("secret"), OUR_FAULT),
        (StopIteration("secret"), OUR_FAULT),
        (StopAsyncIteration("secret"), OUR_FAULT),
        (SystemExit(3), OUR_FAULT),
        (GeneratorExit("secret"), OUR_FAULT),
        (BaseExceptionGroup("secret", [ValueError()]), OUR_FAULT),
        (SerializerError("the view says"), "the view says"),
        (BaseAPIException("the view says", status=500), "the view says"),
    ],
)
def test_our_fault_is_in_the_log_with_its_traceback_and_not_in_the_reply(exc, detail, caplog):
    assert ask(router_of(raising(exc)), token="t-1", data="d-1") == failure(500, detail)
    (line,) = lines(caplog)
    assert line.levelname == "ERROR"
    assert re.match("request [0-9a-f]{12}: <Request 'GET' '/x'> failed", line.getMessage())
    assert line.exc_info[1] is exc or line.exc_info[0] is exc
    assert line.exc_info[2] is not None
    assert "t-1" not in caplog.text
    assert "d-1" not in caplog.text


def test_a_success_leaves_nothing_in_the_log(caplog):
    caplog.set_level(logging.DEBUG, "aiorest-ws")
    assert ask(router_of(lambda request: 1)) == success(1)
    assert lines(caplog) == []


def test_a_mistake_of_a_client_is_a_debug_line_without_traceback(caplog):
    caplog.set_level(logging.DEBUG, "aiorest-ws")
    ask(router_of(raising(BaseAPIException("no"))))
    assert [(line.levelname, line.exc_info) for line in lines(caplog)] == [("DEBUG", None)]


@pytest.mark.logs_errors
def test_a_detail_that_cannot_be_rendered_is_our_fault():
    reply = ask(router_of(raising(BaseAPIException(object()))), event_name="e", id=7)
    assert (reply["status"], reply["event_name"], reply.get("id")) == (500, "e", 7)


@pytest.mark.logs_errors
def test_two_kinds_of_a_detail_that_cannot_be_rendered_are_both_in_the_log(caplog):
    assert ask(router_of(raising(BaseAPIException(object()))))["status"] == 500
    assert [record.exc_info[0] for record in lines(caplog)] == [SerializerError]


# Error handlers


class Missing(LookupError):
    pass


def with_handlers(exc, handlers, **options):
    router = router_of(raising(exc), **options)
    router.error_handlers.update(handlers)
    return router


def to(status):
    return lambda request, exc: BaseAPIException(f"{request.url} {exc!r}", status=status)


@pytest.mark.parametrize(
    ("exc", "status"),
    [(Missing(), 404), (KeyError("k"), 410), (LookupError(), 410), (OSError(), 418)],
)
@pytest.mark.parametrize("middlewares", [0, 1])
def test_the_handler_of_the_nearest_class_is_asked(exc, status, middlewares, caplog):
    handlers = {Exception: to(418), LookupError: to(410), Missing: to(404)}
    router = with_handlers(exc, handlers, middlewares=[Passing()] * middlewares)
    assert ask(router, event_name="e") == failure(status, f"/x {exc!r}", "e")
    assert lines(caplog) == []


@pytest.mark.logs_errors
def test_what_no_handler_is_for_is_our_fault():
    assert ask(with_handlers(ValueError(), {LookupError: to(404)})) == failure(500, OUR_FAULT)
    assert ask(with_handlers(SystemExit(), {Exception: to(404)})) == failure(500, OUR_FAULT)


def test_a_handler_of_all_exceptions_is_not_asked_for_failures():
    router = with_handlers(Teapot(), {Exception: to(400), BaseException: to(400)})
    assert ask(router) == failure(418, "I'm a teapot.")
    assert ask(router, url="/y") == failure(404, NO_HANDLER)


def test_a_handler_of_a_failure_is_asked_for_it():
    router = with_handlers(Teapot(), {Teapot: to(400)})
    assert ask(router)["status"] == 400
    router = with_handlers(Teapot(), {BaseAPIException: to(451)})
    assert ask(router)["status"] == 451
    assert ask(router, url="/y")["status"] == 451


def test_a_handler_may_raise_the_failure():
    def handler(request, exc):
        raise Teapot("raised") from exc

    assert ask(with_handlers(KeyError(), {KeyError: handler})) == failure(418, "raised")


@pytest.mark.logs_errors
@pytest.mark.parametrize("returned", [None, "text", 404, BaseAPIException, Response()])
def test_a_handler_that_returns_no_failure_is_our_fault(returned, caplog):
    router = with_handlers(KeyError(), {KeyError: lambda request, exc: returned})
    assert ask(router) == failure(500, OUR_FAULT)
    assert "an error handler must return a BaseAPIException" in caplog.text


@pytest.mark.logs_errors
def test_a_handler_that_breaks_is_our_fault(caplog):
    def handler(request, exc):
        raise ZeroDivisionError

    assert ask(with_handlers(KeyError(), {KeyError: handler})) == failure(500, OUR_FAULT)
    (line,) = lines(caplog)
    assert line.exc_info[0] is ZeroDivisionError


def test_a_handler_may_take_a_cancelled_call():
    router = with_handlers(asyncio.CancelledError(), {asyncio.CancelledError: to(503)})
    assert ask(router)["status"] == 503


# Middlewares


class Passing:
    """Has what a middleware must have, and nothing else."""

    def process_request(self, request, handler):
        """Let everything through."""


class Recording(AbstractMiddleware):
    """Writes down what it sees."""

    def __init__(self, name, seen, refusal=None, replacement=None, error=None):
        self.name = name
        self.seen = seen
        self.refusal = refusal
        self.replacement = replacement
        self.error = error

    def process_request(self, request, handler):
        self.seen.append(f"{self.name} in")
        if self.refusal is not None:
            raise self.refusal

    def process_response(self, request, response):
        self.seen.append(f"{self.name} out {response.status or response.content['data']}")
        if self.error is not None:
            raise self.error
        return self.replacement


class RecordingLater(Recording):
    """The same, in two coroutines that suspend."""

    async def process_request(self, request, handler):
        await asyncio.sleep(0)
        super().process_request(request, handler)

    async def process_response(self, request, response):
        await asyncio.sleep(0)
        return super().process_response(request, response)


async def ask_later(router, method="GET", url="/x", args=None, **keys):
    """Make a call that is answered at once or later; return the reply."""
    reply = router.process_request(Request(method, url, args, **keys))
    return json.loads(reply if isinstance(reply, bytes) else await reply)


both_kinds = pytest.mark.parametrize(
    "kind", [Recording, pytest.param(RecordingLater, marks=pytest.mark.asyncio_reactor)]
)


@both_kinds
@pytest_twisted.ensureDeferred
async def test_middlewares_see_a_request_in_order_and_its_reply_in_reverse(kind):
    seen = []

    def view(request):
        seen.append("view")
        return 1

    router = router_of(view, middlewares=[kind("a", seen), Passing(), kind("b", seen)])
    assert await ask_later(router, event_name="e") == success(1, "e")
    assert seen == ["a in", "b in", "view", "b out 1", "a out 1"]


@both_kinds
@pytest_twisted.ensureDeferred
async def test_a_middleware_that_refuses_keeps_the_view_from_running(kind):
    seen = []
    middlewares = [kind("a", seen), kind("b", seen, refusal=Teapot("no")), kind("c", seen)]
    router = router_of(lambda request: seen.append("view"), middlewares=middlewares)
    assert await ask_later(router, event_name="e", id=1) == {**failure(418, "no", "e"), "id": 1}
    assert seen == ["a in", "b in", "b out 418", "a out 418"]


@both_kinds
@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_a_middleware_that_breaks_is_our_fault(kind, caplog):
    seen = []
    middlewares = [kind("a", seen), kind("b", seen, refusal=KeyError("secret"))]
    router = router_of(lambda request: seen.append("view"), middlewares=middlewares)
    assert await ask_later(router) == failure(500, OUR_FAULT)
    assert seen == ["a in", "b in", "b out 500", "a out 500"]
    (line,) = lines(caplog)
    assert line.exc_info[0] is KeyError


@both_kinds
@pytest_twisted.ensureDeferred
async def test_middlewares_see_failures_of_the_view_too(kind):
    seen = []
    router = router_of(raising(Teapot()), middlewares=[kind("a", seen), kind("b", seen)])
    assert await ask_later(router) == failure(418, "I'm a teapot.")
    assert await ask_later(router, None) == failure(400, NO_METHOD)
    assert await ask_later(router, "PUT") == failure(405, NO_HANDLER)
    assert await ask_later(router, args={"self": 1}) == failure(
        400, "The argument 'self' is reserved."
    )
    assert seen == [
        event
        for status in (418, 400, 405, 400)
        for event in ("a in", "b in", f"b out {status}", f"a out {status}")
    ]


def test_middlewares_do_not_see_what_has_no_view():
    seen = []
    router = router_of(lambda request: 1, middlewares=[Recording("a", seen, refusal=Teapot())])
    assert ask(router, url="/y") == failure(404, NO_HANDLER)
    assert ask(router, url=None) == failure(400, NO_URL)
    assert seen == []
    # With a view they come before the method is judged.
    assert ask(router, None) == failure(418, "I'm a teapot.")
    assert seen == ["a in", "a out 418"]


def test_a_middleware_gets_the_view_that_will_answer():
    seen = []

    class Looking:
        def process_request(self, request, handler):
            seen.append((request.url, handler.colour))
            request.user = "Ada"

    router = router_of(lambda request: request.user, middlewares=[Looking()], colour="red")
    assert ask(router) == success("Ada")
    assert seen == [("/x", "red")]


def response_of(data=None, failure=None, **more):
    response = Response()
    response.content.update(more)
    response.content = data
    if failure is not None:
        response.wrap_exception(failure)
    return response


@both_kinds
@pytest_twisted.ensureDeferred
async def test_a_middleware_may_replace_the_response(kind):
    seen = []
    replacement = response_of("other", extra=1)
    middlewares = [kind("a", seen), kind("b", seen, replacement=replacement)]
    router = router_of(lambda request: "view", middlewares=middlewares)
    reply = await ask_later(router, event_name="e", id=1)
    assert list(reply.items()) == [("data", "other"), ("event_name", "e"), ("id", 1), ("extra", 1)]
    assert seen == ["a in", "b in", "b out view", "a out other"]


def test_a_middleware_may_turn_a_failure_into_a_success_and_back():
    forgiving = Recording("a", [], replacement=response_of("fine"))
    assert ask(router_of(raising(Teapot()), middlewares=[forgiving])) == success("fine")
    strict = Recording("a", [], replacement=response_of(failure=Teapot("no")))
    reply = ask(router_of(lambda request: 1, middlewares=[strict], renderers=(XMLRenderer,)))
    assert reply == failure(418, "no")


def test_a_middleware_may_change_the_response_in_place():
    class Wrapping(Passing):
        def process_response(self, request, response):
            response.content = [response.content["data"]]
            response.content["took"] = 0

    router = router_of(lambda request: 1, middlewares=[Wrapping(), Wrapping()])
    reply = router.process_request(Request("GET", "/x", event_name="e"))
    assert reply == b'{"data":[[1]],"event_name":"e","took":0}'


def test_a_replaced_response_is_rendered_as_the_view_renders():
    router = router_of(
        lambda request: 1,
        middlewares=[Recording("a", [], replacement=response_of("other"))],
        renderers=(XMLRenderer,),
    )
    assert b"<data>other</data>" in router.process_request(Request("GET", "/x"))


@both_kinds
@pytest.mark.logs_errors
@pytest.mark.parametrize("replacement", ["text", {"data": 1}, b"{}", 0, Response])
@pytest_twisted.ensureDeferred
async def test_a_replacement_that_is_no_response_is_our_fault(kind, replacement, caplog):
    seen = []
    middlewares = [kind("a", seen), kind("b", seen, replacement=replacement)]
    router = router_of(lambda request: 1, middlewares=middlewares)
    assert await ask_later(router, event_name="e") == failure(500, OUR_FAULT, "e")
    assert seen == ["a in", "b in", "b out 1", "a out 500"]
    assert "process_response must return a Response or None" in caplog.text


@both_kinds
@pytest_twisted.ensureDeferred
async def test_a_middleware_may_refuse_a_reply(kind):
    seen = []
    middlewares = [kind("a", seen), kind("b", seen, error=Teapot("too late"))]
    router = router_of(lambda request: 1, middlewares=middlewares)
    assert await ask_later(router, event_name="e") == failure(418, "too late", "e")
    assert seen == ["a in", "b in", "b out 1", "a out 418"]


@both_kinds
@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_every_middleware_that_ran_sees_the_reply_whatever_another_does(kind):
    seen = []
    middlewares = [
        kind("a", seen),
        kind("b", seen, error=KeyError()),
        kind("c", seen, error=OSError()),
    ]
    router = router_of(lambda request: 1, middlewares=middlewares)
    assert await ask_later(router) == failure(500, OUR_FAULT)
    assert seen[3:] == ["c out 1", "b out 500", "a out 500"]


@pytest.mark.logs_errors
def test_a_middleware_without_process_request_is_our_fault():
    router = router_of(lambda request: 1, middlewares=[object()])
    assert ask(router) == failure(500, OUR_FAULT)


@pytest.mark.logs_errors
def test_a_detail_of_a_middleware_that_cannot_be_rendered_is_our_fault():
    router = router_of(
        lambda request: 1, middlewares=[Recording("a", [], refusal=BaseAPIException(object()))]
    )
    assert ask(router, event_name="e") == failure(500, UNRENDERABLE, "e")


class Naming(Passing):
    request_attributes = ("shop", "cart")


@pytest.mark.parametrize("name", ["shop", "cart"])
@pytest.mark.parametrize("url", ["/x", "/nowhere", None])
def test_what_a_middleware_sets_cannot_be_sent(name, url):
    router = router_of(lambda request: 1, middlewares=[Passing(), Naming()])
    detail = f"The key '{name}' is reserved and cannot be sent."
    request = {"url": url, "event_name": "e", name: 1}
    assert ask(router, **request) == failure(400, detail, "e")


def test_other_keys_can_be_sent_and_read():
    router = router_of(lambda request: request.colour, middlewares=[Naming()])
    assert ask(router, colour="red") == success("red")
    assert ask(router_of(lambda request: request.shop), shop="mine") == success("mine")


# Views that answer later


class Fires:
    """A view whose answers are Deferreds that the test fires; `called` gives them one by one."""

    def __init__(self):
        self.waiting = []
        self.called = DeferredQueue()

    def __call__(self, request):
        answer = Deferred()
        self.waiting.append(answer)
        # In a turn of its own, so that the test does not go on inside the call.
        install_reactor().callLater(0, self.called.put, (request.event_name, answer))
        return answer


@pytest.mark.parametrize("middlewares", [0, 1])
@pytest.mark.parametrize(
    ("answer", "reply"),
    [(lambda: succeed(1), success(1, "e")), (lambda: fail(Teapot("no")), failure(418, "no", "e"))],
)
def test_a_deferred_that_has_fired_is_answered_at_once(answer, reply, middlewares):
    router = router_of(lambda request: answer(), middlewares=[Passing()] * middlewares)
    assert ask(router, event_name="e") == reply


@pytest.mark.parametrize("middlewares", [0, 1])
@pytest_twisted.ensureDeferred
async def test_a_deferred_is_answered_when_it_fires(middlewares):
    view = Fires()
    router = router_of(view, middlewares=[Passing()] * middlewares)
    replies = [
        router.process_request(Request("GET", "/x", event_name=name)) for name in ("a", "b", "c")
    ]
    assert not any(isinstance(reply, bytes) for reply in replies)
    view.waiting[1].callback([2])
    assert json.loads(await replies[1]) == success([2], "b")
    view.waiting[2].errback(Teapot("no"))
    assert json.loads(await replies[2]) == failure(418, "no", "c")
    view.waiting[0].callback(None)
    assert json.loads(await replies[0]) == success(None, "a")


@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_a_deferred_that_fails_is_our_fault(caplog):
    view = Fires()
    reply = router_of(view).process_request(Request("GET", "/x", event_name="e"))
    view.waiting[0].errback(ValueError("secret"))
    assert json.loads(await reply) == failure(500, OUR_FAULT, "e")
    (line,) = lines(caplog)
    assert line.exc_info[0] is ValueError


# On other reactors a coroutine can catch the cancellation, and the router answers with 499.
@pytest.mark.asyncio_reactor
@pytest.mark.parametrize("middlewares", [0, 1])
@pytest_twisted.ensureDeferred
async def test_a_call_that_is_cancelled_cancels_what_it_waits_for(middlewares):
    cancelled, answer = Deferred(), Deferred()
    answer.addErrback(lambda failure: cancelled.callback(failure.type) or failure)
    router = router_of(lambda request: answer, middlewares=[Passing()] * middlewares)
    reply = router.process_request(Request("GET", "/x", event_name="e"))
    reply.cancel()
    if middlewares:  # which hear of it
        assert json.loads(await reply)["status"] == 499
    else:
        with pytest.raises(CancelledError):
            await reply
    assert await cancelled is CancelledError


@pytest_twisted.ensureDeferred
async def test_a_call_whose_view_was_cancelled_is_answered_with_499():
    view = Fires()
    reply = router_of(view).process_request(Request("GET", "/x", event_name="e"))
    view.waiting[0].cancel()
    assert json.loads(await reply) == failure(499, "The call was cancelled.", "e")


def test_a_coroutine_that_does_not_suspend_is_answered_at_once():
    async def view(request):
        return await succeed(1) + 1

    assert ask(router_of(view)) == success(2)


@pytest_twisted.ensureDeferred
async def test_what_is_answered_at_once_can_be_awaited_too():
    async def view(request):
        return 1

    for middlewares in ([], [Passing()]):
        reply = router_of(view, middlewares=middlewares).process_request(Request("GET", "/x"))
        assert isinstance(reply, bytes)
        assert json.loads(await reply) == success(1)


@pytest.mark.parametrize(
    ("exc", "status"), [(Teapot("no"), 418), (ValueError("no"), 500), (StopIteration(), 500)]
)
@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_a_coroutine_fails_as_a_function_does(exc, status):
    waiting = Deferred()

    async def at_once(request):
        raise exc

    async def later(request):
        await waiting
        raise exc

    assert ask(router_of(at_once))["status"] == status
    reply = router_of(later).process_request(Request("GET", "/x"))
    waiting.callback(None)
    assert json.loads(await reply)["status"] == status


@pytest.mark.asyncio_reactor
@pytest.mark.parametrize("middlewares", [0, 1])
@pytest_twisted.ensureDeferred
async def test_a_coroutine_awaits_deferreds_and_asyncio(middlewares):
    waiting = Deferred()

    async def view(request):
        first = await waiting
        second = await asyncio.wait_for(asyncio.sleep(0, "slept"), 60)
        task = asyncio.current_task()
        async with asyncio.TaskGroup() as group:
            third = group.create_task(asyncio.sleep(0, "grouped"))
        return [first, second, third.result(), await succeed("fired"), task is not None]

    router = router_of(view, middlewares=[Passing()] * middlewares)
    reply = router.process_request(Request("GET", "/x"))
    assert not isinstance(reply, bytes)
    waiting.callback("waited")
    assert json.loads(await reply) == success(["waited", "slept", "grouped", "fired", True])


@pytest.mark.asyncio_reactor
@pytest_twisted.ensureDeferred
async def test_any_awaitable_is_an_answer():
    future = asyncio.get_running_loop().create_future()

    class Later:
        def __await__(self):
            return (yield from future)

    for answer in (lambda request: future, lambda request: Later()):
        reply = router_of(answer).process_request(Request("GET", "/x"))
        if not future.done():
            future.set_result("done")
        assert json.loads(reply if isinstance(reply, bytes) else await reply) == success("done")


@pytest_twisted.ensureDeferred
async def test_an_error_handler_is_asked_for_what_fails_later():
    view = Fires()
    router = router_of(view)
    router.error_handlers[KeyError] = to(404)
    reply = router.process_request(Request("GET", "/x"))
    view.waiting[0].errback(KeyError("k"))
    assert json.loads(await reply) == failure(404, "/x KeyError('k')")


@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_rendered_later_is_our_fault():
    view = Fires()
    reply = router_of(view).process_request(Request("GET", "/x", event_name="e"))
    view.waiting[0].callback(object())
    assert json.loads(await reply) == failure(500, UNRENDERABLE, "e")


# Blocking views


def elsewhere(request):
    return threading.get_ident() != request.data


@pytest_twisted.ensureDeferred
async def test_a_blocking_view_runs_in_another_thread():
    router = router_of(elsewhere, blocking=True)
    assert await ask_later(router, data=threading.get_ident()) == success(True)
    assert await ask_later(router_of(elsewhere), data=threading.get_ident()) == success(False)


# Without a loop of asyncio's a router that has no factory waits for its thread.
@pytest.mark.asyncio_reactor
@pytest_twisted.ensureDeferred
async def test_a_blocking_view_holds_nobody_up():
    go_on = threading.Event()

    def view(request):
        return go_on.wait(60)

    router = router_of(view, blocking=True)
    reply = router.process_request(Request("GET", "/x"))
    assert not isinstance(reply, bytes)
    go_on.set()
    assert json.loads(await reply) == success(True)


@pytest.mark.logs_errors
@pytest.mark.parametrize(("exc", "status"), [(Teapot("no"), 418), (ValueError("secret"), 500)])
@pytest_twisted.ensureDeferred
async def test_a_blocking_view_fails_as_others_do(exc, status):
    assert (await ask_later(router_of(raising(exc), blocking=True)))["status"] == status


# Without a loop of asyncio's a router that has no factory waits for its thread.
@pytest.mark.asyncio_reactor
@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_a_blocking_view_that_raises_stop_iteration_is_our_fault():
    reply = router_of(raising(StopIteration()), blocking=True).process_request(
        Request("GET", "/x")
    )
    reply.addTimeout(30, install_reactor())
    assert json.loads(await reply) == failure(500, OUR_FAULT)


def without_a_loop(call):
    """Call in a thread, where no loop runs; return what came of it."""
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(call()))
    thread.start()
    thread.join()
    return outcome[0]


@pytest.mark.logs_errors
def test_a_blocking_view_without_a_loop_is_answered_at_once():
    def view(request):
        if request.data is None:
            raise Teapot("no")
        return threading.get_ident() not in {request.data, threading.main_thread().ident}

    router = router_of(view, blocking=True)
    assert without_a_loop(lambda: ask(router, data=threading.get_ident())) == success(True)
    assert without_a_loop(lambda: ask(router)) == failure(418, "no")
    broken = router_of(raising(StopIteration()), blocking=True)
    assert without_a_loop(lambda: ask(broken)) == failure(500, OUR_FAULT)


class Pool:
    """What a factory offers to blocking views."""

    def __init__(self):
        self.calls = []
        self.answer = Deferred()

    def run_blocking(self, call):
        if len(self.calls) >= 1:
            raise ServiceUnavailable
        self.calls.append(call)
        return self.answer


@pytest_twisted.ensureDeferred
async def test_a_blocking_view_runs_in_the_pool_of_its_factory():
    pool, seen = Pool(), []
    router = router_of(lambda request: seen.append(request) or 1, blocking=True)
    request = Request("GET", "/x")
    request.factory = pool
    reply = router.process_request(request)
    assert not isinstance(reply, bytes)
    assert seen == []
    pool.answer.callback(pool.calls[0]())
    assert seen == [request]
    assert json.loads(await reply) == success(1)


def test_a_pool_that_is_full_refuses():
    pool = Pool()
    pool.calls.append(None)
    request = Request("GET", "/x", event_name="e")
    request.factory = pool
    reply = router_of(lambda request: 1, blocking=True).process_request(request)
    assert json.loads(reply) == failure(503, "The server is busy, try again later.", "e")


def test_a_call_that_is_refused_never_reaches_the_pool():
    request = Request("GET", "/x", {"a": 1})
    request.factory = Pool()
    reply = router_of(lambda request: 1, blocking=True).process_request(request)
    assert json.loads(reply) == failure(400, "The argument 'a' is not taken here.")
    assert request.factory.calls == []


# Ordered views


class Connection:
    pass


def ordered_call(router, connection, url="/x", **keys):
    request = Request("GET", url, **keys)
    request.connection = connection
    return router.process_request(request)


@pytest_twisted.ensureDeferred
async def test_calls_of_one_connection_to_an_ordered_view_take_turns():
    view, connection = Fires(), Connection()
    router = router_of(view, ordered=True)
    replies = [ordered_call(router, connection, event_name=name) for name in "abc"]
    for turn, (name, reply) in enumerate(zip("abc", replies, strict=True)):
        called, answer = await view.called.get()
        assert called == name
        assert len(view.waiting) == turn + 1
        answer.callback(turn)
        assert json.loads(await reply) == success(turn, name)


@pytest_twisted.ensureDeferred
async def test_connections_and_views_do_not_wait_for_each_other():
    view, other, connection = Fires(), Fires(), Connection()
    router = router_of(view, ordered=True)
    router.register("/other", view_of(other, ordered=True), "GET")
    calls = [
        ordered_call(router, connection),
        ordered_call(router, Connection()),
        ordered_call(router, connection, "/other"),
        ordered_call(router, None),
    ]
    assert (len(view.waiting), len(other.waiting)) == (3, 1)
    for waiting in view.waiting + other.waiting:
        waiting.callback(1)
    for call in calls:
        assert json.loads(await call) == success(1)


@pytest_twisted.ensureDeferred
async def test_a_view_that_is_not_ordered_does_not_wait():
    view, connection = Fires(), Connection()
    router = router_of(view)
    calls = [ordered_call(router, connection) for _ in range(3)]
    assert len(view.waiting) == 3
    for waiting in view.waiting:
        waiting.callback(1)
    for call in calls:
        assert json.loads(await call) == success(1)


# On other reactors a coroutine can catch the cancellation, and the router answers with 499.
@pytest.mark.asyncio_reactor
@pytest_twisted.ensureDeferred
async def test_a_turn_ends_with_a_failure_or_a_cancellation():
    view, connection = Fires(), Connection()
    router = router_of(view, ordered=True)
    failing, cancelled, cancelled_early, last = (
        ordered_call(router, connection, event_name=name)
        for name in ("failing", "cancelled", "cancelled early", "last")
    )
    cancelled_early.cancel()
    with pytest.raises(CancelledError):
        await cancelled_early
    name, answer = await view.called.get()
    assert name == "failing"
    answer.errback(Teapot("no"))
    assert json.loads(await failing) == failure(418, "no", "failing")
    name, answer = await view.called.get()
    assert name == "cancelled"
    cancelled.cancel()
    assert json.loads(await cancelled)["status"] == 499
    name, answer = await view.called.get()
    assert name == "last"
    answer.callback("answered")
    assert json.loads(await last) == success("answered", "last")


def test_an_ordered_view_whose_turn_it_is_answers_at_once():
    router, connection = router_of(lambda request: 1, ordered=True), Connection()
    for _ in range(3):
        assert json.loads(ordered_call(router, connection)) == success(1)
    refused = router_of(raising(Teapot("no")), ordered=True)
    for _ in range(2):
        assert json.loads(ordered_call(refused, connection)) == failure(418, "no")


@pytest_twisted.ensureDeferred
async def test_a_view_may_be_blocking_and_ordered():
    running, seen = threading.Semaphore(1), []

    def view(request):
        alone = running.acquire(blocking=False)
        seen.append(request.event_name)
        if alone:
            running.release()
        return alone

    router, connection = router_of(view, blocking=True, ordered=True), Connection()
    calls = [ordered_call(router, connection, event_name=n) for n in range(5)]
    for n, call in enumerate(calls):
        assert json.loads(await call) == success(True, n)
    assert seen == [0, 1, 2, 3, 4]


def test_a_dynamic_endpoint_of_our_own_class_goes_into_the_tree():
    router, bare = SimpleRouter(), Bare()
    endpoint_ = URLParser().define_route("/y/{id}/", view_of(lambda request, value: value), "GET")
    assert type(endpoint_) is DynamicEndpoint
    bare._urls.append(endpoint_)
    router.include(bare)
    assert ask(router, url="/y/7") == success("7")


@pytest_twisted.ensureDeferred
async def test_the_failure_of_a_coroutine_can_be_awaited_too():
    async def view(request):
        raise Teapot

    reply = router_of(view).process_request(Request("GET", "/x"))
    assert json.loads(await reply) == failure(418, "I'm a teapot.")
