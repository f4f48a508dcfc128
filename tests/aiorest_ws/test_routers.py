"""Routers: registration, names, inclusion, and what subclasses override."""

import pytest

from aiorest_ws.abstract import AbstractEndpoint, AbstractRouter
from aiorest_ws.decorators import endpoint
from aiorest_ws.endpoints import DynamicEndpoint, PlainEndpoint
from aiorest_ws.exceptions import (
    BaseAPIException,
    EndpointValueError,
    InvalidHandler,
    InvalidPathArgument,
    NotSpecifiedURL,
    NotSupportedArgumentType,
)
from aiorest_ws.parsers import URLParser
from aiorest_ws.renderers import XMLRenderer
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.views import MethodBasedView
from aiorest_ws.wrappers import Request
from support.routers import (
    METHOD_TYPE,
    NO_HANDLER,
    NO_METHOD,
    NO_URL,
    OUR_FAULT,
    ask,
    failure,
    router_of,
    success,
    view_of,
)


def answering(value):
    return view_of(lambda request, *values, **arguments: value)


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


@pytest.mark.parametrize("url", ["x", "x/", "//x", "/x//", "/X", "/x/y", "/y?a=1", "/x%3Fa", "/"])
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


# Ordered views


def test_a_dynamic_endpoint_of_our_own_class_goes_into_the_tree():
    router, bare = SimpleRouter(), Bare()
    endpoint_ = URLParser().define_route("/y/{id}/", view_of(lambda request, value: value), "GET")
    assert type(endpoint_) is DynamicEndpoint
    bare._urls.append(endpoint_)
    router.include(bare)
    assert ask(router, url="/y/7") == success("7")
