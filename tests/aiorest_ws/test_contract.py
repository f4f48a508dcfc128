"""The public surface of 1.1: what programs written for it import, call and read.

The tables below are the contract; further parameters may follow those of 1.1 if they need not be
given. Each `test_fix_*` fails with the behaviour of 1.1.
"""

import base64
import hashlib
import hmac
import importlib
import inspect
import json
import logging
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from functools import reduce
from typing import Any

import jwt
import pytest
import pytest_twisted
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateResponseAccept
from twisted.internet.defer import Deferred

from aiorest_ws import exceptions, status
from aiorest_ws.abstract import (
    AbstractEndpoint,
    AbstractMiddleware,
    AbstractPermission,
    AbstractRouter,
)
from aiorest_ws.app import Application
from aiorest_ws.auth.exceptions import PermissionDeniedException
from aiorest_ws.auth.permissions import IsAuthenticated
from aiorest_ws.auth.token.exceptions import (
    InvalidSignatureException,
    ParsingTokenException,
    TokenExpiredException,
    TokenNotBeforeException,
    TokenNotProvidedException,
)
from aiorest_ws.auth.token.managers import JSONWebTokenManager
from aiorest_ws.auth.token.middlewares import JSONWebTokenMiddleware
from aiorest_ws.auth.user.abstractions import AbstractUser, User
from aiorest_ws.auth.user.models import UserSQLiteModel
from aiorest_ws.conf import settings
from aiorest_ws.decorators import endpoint
from aiorest_ws.endpoints import DynamicEndpoint, PlainEndpoint
from aiorest_ws.parsers import URLParser
from aiorest_ws.renderers import BaseRenderer, JSONRenderer, XMLRenderer
from aiorest_ws.request import RequestHandlerFactory, RequestHandlerProtocol
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.test.utils import override_settings
from aiorest_ws.urls.base import get_urlconf, set_urlconf
from aiorest_ws.urls.exceptions import NoMatch, NoReverseMatch
from aiorest_ws.urls.utils import RouteMatch, resolve, reverse
from aiorest_ws.validators import check_and_set_subclass
from aiorest_ws.views import MethodBasedView, View, http_methods
from aiorest_ws.wrappers import Request, Response

NAMES = {
    "abstract": "AbstractEndpoint AbstractMiddleware AbstractPermission AbstractRouter",
    "app": "Application",
    "auth.exceptions": "PermissionDeniedException",
    "auth.permissions": "IsAuthenticated",
    "auth.token.backends": "InMemoryTokenBackend",
    "auth.token.exceptions": "InvalidSignatureException ParsingTokenException "
    "TokenExpiredException TokenNotBeforeException TokenNotProvidedException",
    "auth.token.managers": "JSONWebTokenManager",
    "auth.token.middlewares": "JSONWebTokenMiddleware",
    "auth.user.abstractions": "AbstractUser User",
    "auth.user.models": "UserSQLiteModel",
    "command_line": "CommandLine",
    "conf": "settings",
    "decorators": "endpoint",
    "endpoints": "DynamicEndpoint PlainEndpoint",
    "exceptions": "BaseAPIException EndpointValueError ImproperlyConfigured "
    "IncorrectMethodNameType InvalidHandler InvalidPathArgument InvalidRenderer "
    "NotSpecifiedHandler NotSpecifiedMethodName NotSpecifiedURL NotSupportedArgumentType "
    "SerializerError",
    "parsers": "URLParser",
    "renderers": "BaseRenderer JSONRenderer XMLRenderer",
    "request": "RequestHandlerFactory RequestHandlerProtocol",
    "routers": "SimpleRouter",
    "status": "WS_NORMAL WS_GOING_AWAY WS_PROTOCOL_ERROR is_library is_not_used is_private "
    "is_reserved",
    "test.utils": "override_settings",
    "urls.base": "get_urlconf set_urlconf",
    "urls.exceptions": "NoMatch NoReverseMatch",
    "urls.utils": "RouteMatch resolve reverse",
    "utils.websocket": "deflate_offer_accept",
    "validators": "check_and_set_subclass",
    "views": "MethodBasedView View http_methods",
    "wrappers": "Request Response",
}


@pytest.mark.parametrize(
    ("module", "name"),
    [(module, name) for module, names in NAMES.items() for name in names.split()],
)
def test_a_name_of_the_contract_can_be_imported_from_its_path(module, name):
    assert hasattr(importlib.import_module(f"aiorest_ws.{module}"), name)


# The parameters of 1.1 and their defaults, as calls by position and by name see them.
SIGNATURES = {
    "abstract:AbstractEndpoint.match": "path",
    "abstract:AbstractMiddleware.process_request": "request handler",
    "abstract:AbstractPermission.check": "request handler",
    "app:Application": "factory=None protocol=None certificate=None key=None middlewares=()",
    "app:Application.generate_factory": "url",
    "app:Application.generate_url": "host port path=''",
    "app:Application.run": "host='127.0.0.1' port=8080 path='' log_level='info' router=None "
    "compress=False accept_function=deflate_offer_accept",
    "auth.token.backends:InMemoryTokenBackend.get": "token",
    "auth.token.backends:InMemoryTokenBackend.get_token_by_username": "token_name username",
    "auth.token.managers:JSONWebTokenManager.generate": "data",
    "auth.token.managers:JSONWebTokenManager.verify": "token",
    "auth.user.models:UserSQLiteModel.get_user_by_username": "username",
    "auth.user.models:UserSQLiteModel.get_user_by_token": "token",
    "command_line:CommandLine.define": "name default=None help=None type=None",
    "command_line:CommandLine.parse_command_line": "",
    "decorators:endpoint": "path methods name=None **attrs",
    "endpoints:DynamicEndpoint": "path handler methods name pattern",
    "endpoints:DynamicEndpoint.match": "path",
    "endpoints:PlainEndpoint": "path handler methods name",
    "endpoints:PlainEndpoint.match": "path",
    "exceptions:BaseAPIException": "detail=None",
    "parsers:URLParser.define_route": "path handler methods name=None",
    "renderers:BaseRenderer.render": "data",
    "renderers:JSONRenderer.render": "data",
    "renderers:XMLRenderer.render": "data",
    "request:RequestHandlerFactory": "*args **kwargs",
    "request:RequestHandlerProtocol._decode_message": "payload isBinary=False",
    "request:RequestHandlerProtocol._encode_message": "response isBinary=False",
    "request:RequestHandlerProtocol.onClose": "wasClean code reason",
    "request:RequestHandlerProtocol.onMessage": "payload isBinary",
    "routers:SimpleRouter": "",
    "routers:SimpleRouter.extract_url": "request",
    "routers:SimpleRouter.include": "router",
    "routers:SimpleRouter.process_request": "request",
    "routers:SimpleRouter.register": "path handler methods name=None",
    "routers:SimpleRouter.register_endpoint": "endpoint",
    "routers:SimpleRouter.reverse": "name *args **query",
    "routers:SimpleRouter.search_handler": "request url",
    "urls.base:get_urlconf": "default=None",
    "urls.base:set_urlconf": "data",
    "urls.utils:resolve": "path urlconf=None",
    "urls.utils:reverse": "view_name urlconf=None args=() kwargs=None relative=False",
    "validators:check_and_set_subclass": "instance attribute value subclasses",
    "views:MethodBasedView.dispatch": "request *args **kwargs",
    "views:MethodBasedView.get_renderer": "preferred_format *args **kwargs",
    "wrappers:Response": "",
    "wrappers:Response.append_request": "request",
    "wrappers:Response.wrap_exception": "exc",
    "wrappers:Request.get_argument": "name",
    "wrappers:Request.to_representation": "",
}


def parameters_of(target):
    module, _, path = target.partition(":")
    found = reduce(getattr, path.split("."), importlib.import_module(f"aiorest_ws.{module}"))
    parameters = list(inspect.signature(found).parameters.values())
    is_method = "." in path and not isinstance(
        inspect.getattr_static(
            getattr(sys.modules[f"aiorest_ws.{module}"], path.split(".")[0]), path.split(".")[1]
        ),
        staticmethod,
    )
    return parameters[1:] if is_method else parameters


def shown(parameter, expected):
    if "=" not in expected and not expected.startswith("*"):
        return parameter.name  # it may have got a default
    default = parameter.default
    if default is not parameter.empty and inspect.isfunction(default):
        return f"{parameter.name}={default.__name__}"
    return str(parameter.replace(annotation=parameter.empty))


@pytest.mark.parametrize("target", SIGNATURES)
def test_a_call_of_1_1_fits_the_signature(target):
    parameters = parameters_of(target)
    expected = SIGNATURES[target].split()
    assert list(map(shown, parameters, expected)) == expected
    for parameter in parameters[: len(expected)]:
        # A query may have a parameter `name` of its own.
        if target != "routers:SimpleRouter.reverse":
            assert parameter.kind is not parameter.POSITIONAL_ONLY
        assert parameter.kind is not parameter.KEYWORD_ONLY
    for added in parameters[len(expected) :]:
        assert added.default is not added.empty or added.kind in {
            added.VAR_POSITIONAL,
            added.VAR_KEYWORD,
        }


TEXTS = {
    "NotSpecifiedURL": "In query not specified `url` argument.",
    "NotSpecifiedHandler": "For URL, typed in request, handler not specified.",
    "NotSpecifiedMethodName": "In query not specified `method` argument.",
    "IncorrectMethodNameType": "Method name should be a string type.",
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_texts_of_errors_are_those_of_1_1(name):
    kind = getattr(exceptions, name)
    assert kind.default_detail == kind().detail == str(kind()) == TEXTS[name]
    assert kind("other").detail == "other"


def test_every_error_but_those_of_a_program_is_a_failure_on_the_wire():
    kinds = [getattr(exceptions, name) for name in exceptions.__all__]
    assert all(issubclass(kind, Exception) for kind in kinds)
    others = [kind for kind in kinds if not issubclass(kind, exceptions.BaseAPIException)]
    assert others == [exceptions.ImproperlyConfigured, exceptions.UnknownTopic]
    for kind in kinds:
        if kind not in others:
            assert isinstance(kind().detail, str)
            assert 1000 <= kind.status_code <= 1015


def test_close_codes_are_those_of_the_registry():
    codes = [value for name, value in vars(status).items() if name.startswith("WS_")]
    assert sorted(codes) == list(range(1000, 1016))
    assert (status.WS_NORMAL, status.WS_GOING_AWAY, status.WS_PROTOCOL_ERROR) == (1000, 1001, 1002)


@pytest.mark.parametrize(
    ("judge", "first", "last"),
    [
        (status.is_not_used, 0, 999),
        (status.is_reserved, 1000, 2999),
        (status.is_library, 3000, 3999),
        (status.is_private, 4000, 4999),
    ],
)
def test_ranges_of_close_codes(judge, first, last):
    expected = [False, True, True, False]
    assert [judge(code) for code in (first - 1, first, last, last + 1)] == expected


# aiorest_ws.request


class Hello(MethodBasedView):
    def get(self, request):
        return "Hello, world!"


def hello_router():
    router = SimpleRouter()
    router.register("/hello", Hello, "GET")
    return router


CALL = b'{"method":"GET","url":"/hello"}'
REPLY = b'{"data":"Hello, world!","event_name":null}'


# The example of the documentation of 1.1, its indentation and its decorator restored.
class CustomHandlerFactory(RequestHandlerFactory):
    """Factory, which also provide access to the cookies."""

    def __init__(self, *args, **kwargs):
        super(CustomHandlerFactory, self).__init__(*args, **kwargs)  # noqa: UP008  as written
        self._cookies = kwargs.get("cookies_dump", {})

    @property
    def cookies(self):
        return self._cookies


class Cookies(MethodBasedView):
    def get(self, request):
        return request.factory.cookies


def cookies_router():
    router = SimpleRouter()
    router.register("/cookies", Cookies, "GET")
    return router


def factories_with_cookies():
    factory = CustomHandlerFactory(cookies_dump={"a": "b"})
    factory.router = cookies_router()
    yield factory
    yield CustomHandlerFactory(cookies_dump={"a": "b"}, router=cookies_router())
    application = Application(factory=CustomHandlerFactory, router=cookies_router())
    yield application.generate_factory(None, cookies_dump={"a": "b"})


@pytest.mark.parametrize("number", range(3))
@pytest_twisted.ensureDeferred
async def test_fix_the_custom_factory_of_the_documentation_runs_as_written(network, number):
    factory = list(factories_with_cookies())[number]
    client = await network.connect(await network.serve(factory=factory))
    reply = await client.ask({"method": "GET", "url": "/cookies"})
    assert reply == b'{"data":{"a":"b"},"event_name":null}'


def test_the_custom_factory_needs_no_cookies():
    assert CustomHandlerFactory().cookies == {}


def test_protocol_and_factory_are_autobahns_and_need_no_arguments():
    assert isinstance(RequestHandlerProtocol(), WebSocketServerProtocol)
    factory = RequestHandlerFactory()
    assert isinstance(factory, WebSocketServerFactory)
    assert factory.protocol is RequestHandlerProtocol
    assert type(factory.router) is SimpleRouter
    assert RequestHandlerFactory().router is not factory.router


@pytest.mark.parametrize("router", [None, object(), SimpleRouter, "router", []])
def test_the_router_of_a_factory_is_an_abstract_router(router):
    factory = RequestHandlerFactory()
    before = factory.router
    with pytest.raises(TypeError):
        factory.router = router
    assert factory.router is before
    factory.router = replacement = SimpleRouter()
    assert factory.router is replacement


@pytest.mark.parametrize(("payload", "is_binary"), [(CALL, False), (base64.b64encode(CALL), True)])
def test_the_protocol_decodes_and_encodes_both_forms(payload, is_binary):
    protocol = RequestHandlerProtocol()
    request = protocol._decode_message(payload, is_binary)
    assert type(request) is Request
    assert (request.method, request.url, request.args) == ("GET", "/hello", {})
    expected = base64.b64encode(REPLY) if is_binary else REPLY
    assert protocol._encode_message(REPLY, is_binary) == expected
    assert protocol._encode_message(REPLY) == REPLY
    assert protocol._decode_message(CALL).url == "/hello"


@pytest_twisted.ensureDeferred
async def test_a_reply_is_byte_for_byte_that_of_the_contract_in_the_form_received(network):
    client = await network.connect(await network.serve(hello_router()))
    client.sendMessage(CALL, False)
    assert await client.replies.get() == (REPLY, False)
    client.sendMessage(base64.b64encode(CALL), True)
    assert await client.replies.get() == (base64.b64encode(REPLY), True)


class Overridden(RequestHandlerProtocol):
    """Override every point that 1.1 has, without super() where 1.1 needed none."""

    def _decode_message(self, payload, isBinary=False):
        return super()._decode_message(payload.replace(b"HELLO", b"hello"), isBinary)

    def _encode_message(self, response, isBinary=False):
        return super()._encode_message(response.replace(b"world", b"WORLD"), isBinary)

    def onMessage(self, payload, isBinary):
        if payload == b"ping":
            self.sendMessage(b"pong", isBinary)
        else:
            super().onMessage(payload, isBinary)

    def onClose(self, wasClean, code, reason):
        self.factory.closed.callback((self, wasClean, code, reason))


@pytest_twisted.ensureDeferred
async def test_the_override_points_of_the_protocol_work(network):
    factory = RequestHandlerFactory(router=hello_router())
    factory.protocol = Overridden
    factory.closed = Deferred()
    client = await network.connect(await network.serve(factory=factory))
    assert await client.ask(b"ping") == b"pong"
    shouted = REPLY.replace(b"world", b"WORLD")
    assert await client.ask(b'{"method":"GET","url":"/HELLO"}') == shouted
    assert await client.ask(CALL, binary=True) == shouted
    client.sendClose(4000, "enough")
    protocol, *seen = await factory.closed
    assert seen == [True, 4000, "enough"]
    record = protocol.close_reason
    assert [record.was_clean, record.code, record.reason] == seen


@pytest_twisted.ensureDeferred
async def test_one_client_may_hold_many_connections(network):
    port = await network.serve(hello_router())
    clients = [await network.connect(port) for _ in range(5)]
    for client in reversed(clients):
        assert await client.ask(CALL) == REPLY


# aiorest_ws.wrappers


def test_a_request_has_its_five_members_by_position():
    request = Request("GET", "/users", {"a": 1}, [1], "event")
    assert (request.method, request.url, request.args) == ("GET", "/users", {"a": 1})
    assert (request.data, request.event_name) == ([1], "event")
    assert (request.get_argument("a"), request.get_argument("b")) == (1, None)
    assert request.to_representation() == {"event_name": "event"}


def test_an_empty_request():
    request = Request()
    assert (request.method, request.url, request.data, request.event_name) == (None,) * 4
    assert request.args == {}
    assert request.get_argument("a") is None
    assert request.to_representation() == {"event_name": None}


def test_fix_an_extra_key_is_an_attribute_of_one_request():
    request = Request(method="GET", colour="red", token="secret")
    assert (request.colour, request.token) == ("red", "secret")
    for other in (Request(), Request(method="GET", url="/")):
        assert not hasattr(other, "colour")
        assert getattr(other, "token", None) is None
    assert not hasattr(Request, "colour")


@pytest.mark.parametrize("name", ["get_argument", "to_representation", "_method", "user"])
def test_fix_an_extra_key_shadows_no_member(name):
    with pytest.raises(exceptions.BaseAPIException):
        Request(**{name: 1})
    assert Request(args={"a": 1}).get_argument("a") == 1


def test_a_response_holds_data_an_exception_and_its_request():
    response = Response()
    response.content = [1]
    assert response.content == {"data": [1]}
    response.append_request(Request(event_name="event"))
    assert response.content == {"data": [1], "event_name": "event"}
    response = Response()
    response.wrap_exception(exceptions.BaseAPIException("no"))
    assert response.content == {"detail": "no"}


# Routing


class Anything(MethodBasedView):
    """Answer with what the view was called with."""

    def get(self, request, *args, **kwargs):
        return [list(args), kwargs]

    put = get


def processed(router, **message):
    reply = router.process_request(Request(**message))
    assert isinstance(reply, bytes)
    return json.loads(reply)


@pytest.mark.parametrize("registered", ["/a", "/a/", " /a ", " /a/\t"])
@pytest.mark.parametrize("requested", ["/a", "/a/", " /a ", "\n/a/ "])
def test_paths_are_stripped_and_end_in_a_slash(registered, requested):
    router = SimpleRouter()
    router.register(registered, Anything, "GET")
    assert router.extract_url(Request(url=requested)) == "/a/"
    assert processed(router, method="GET", url=requested)["data"] == [[], {}]


@pytest.mark.parametrize("url", ["a", "a/", "", None, "//a", "/b", "/a/b"])
def test_other_urls_find_no_handler(url):
    router = SimpleRouter()
    router.register("/a", Anything, "GET")
    reply = processed(router, method="GET", url=url)
    assert reply["detail"] == TEXTS["NotSpecifiedHandler" if url else "NotSpecifiedURL"]


def test_an_url_of_blanks_has_no_leading_slash():
    router = SimpleRouter()
    router.register("/", Anything, "GET")
    assert processed(router, method="GET", url="/")["data"] == [[], {}]
    assert processed(router, method="GET", url="  ")["status"] in {400, 404}


def test_search_handler_gives_a_view_the_path_values_and_the_args():
    router = SimpleRouter()
    router.register("/users/{id}/{tag}", Anything, "GET")
    request = Request(url="/users/7/x", args={"format": "json"})
    view, values, arguments = router.search_handler(request, "/users/7/x/")
    assert isinstance(view, Anything)
    assert (tuple(values), dict(arguments)) == (("7", "x"), {"format": "json"})
    assert router.search_handler(request, "/nowhere/")[0] is None


def test_path_parameters_are_positional_strings_and_args_keywords():
    router = SimpleRouter()
    router.register("/users/{id}/{tag}", Anything, "GET")
    reply = processed(router, method="GET", url="/users/7/x", args={"b": [1], "format": "json"})
    assert reply == {"data": [["7", "x"], {"b": [1], "format": "json"}], "event_name": None}


@pytest.mark.parametrize("methods", ["GET", ["GET"], ["PUT", "GET"], "get", [" Get "]])
def test_methods_are_a_list_or_a_str(methods):
    router = SimpleRouter()
    router.register("/a", Anything, methods)
    assert processed(router, method="GET", url="/a")["data"] == [[], {}]


@pytest.mark.parametrize("methods", [("GET",), {"GET"}, None, 1, type("Text", (str,), {})("GET")])
def test_methods_of_another_type_are_refused(methods):
    router = SimpleRouter()
    with pytest.raises(exceptions.NotSupportedArgumentType):
        router.register("/a", Anything, methods)

    @endpoint("/b", methods)
    def function(request):
        return 1

    with pytest.raises(exceptions.NotSupportedArgumentType):
        router.register_endpoint(function)


@pytest.mark.parametrize(
    ("path", "handler", "name", "error"),
    [
        ("a", Anything, None, exceptions.InvalidPathArgument),
        ("", Anything, None, exceptions.InvalidPathArgument),
        ("/a", object, None, exceptions.InvalidHandler),
        ("/a", Anything(), None, exceptions.InvalidHandler),
        ("/a", lambda request: 1, None, exceptions.InvalidHandler),
        ("/a", Anything, 1, exceptions.NotSupportedArgumentType),
        ("/{a", Anything, None, exceptions.EndpointValueError),
        ("/a}", Anything, None, exceptions.EndpointValueError),
        ("/{}", Anything, None, exceptions.EndpointValueError),
        ("/{{a}}", Anything, None, exceptions.EndpointValueError),
    ],
)
def test_a_wrong_registration_is_refused(path, handler, name, error):
    with pytest.raises(error):
        SimpleRouter().register(path, handler, "GET", name)


def test_a_duplicate_name_says_who_has_it():
    router = SimpleRouter()
    router.register("/a", Anything, "GET", name="first")
    with pytest.raises(exceptions.EndpointValueError) as refused:
        router.register("/b", Anything, "GET", name="first")
    assert refused.value.detail.startswith("Duplicate first, already handled by ")
    assert "PlainEndpoint" in refused.value.detail


def test_an_included_router_serves_too():
    inner, outer = hello_router(), SimpleRouter()
    outer.include(inner)
    assert outer.process_request(Request("GET", "/hello")) == REPLY


@pytest.mark.parametrize("router", [None, object(), SimpleRouter, []])
def test_only_an_abstract_router_can_be_included(router):
    with pytest.raises(TypeError):
        SimpleRouter().include(router)


def test_only_an_abstract_endpoint_can_be_a_route():
    inner = SimpleRouter()
    inner._urls.append(object())
    with pytest.raises(TypeError):
        SimpleRouter().include(inner)


def test_an_endpoint_of_a_foreign_class_is_served():
    class Suffix(AbstractEndpoint):
        def match(self, path):
            return (path.removesuffix(".txt/"),) if path.endswith(".txt/") else None

    inner, outer = hello_router(), SimpleRouter()
    inner._urls.append(Suffix("*.txt", Anything, ["GET"], "text"))
    outer.include(inner)
    assert processed(outer, method="GET", url="/notes.txt")["data"] == [["/notes"], {}]
    assert outer.process_request(Request("GET", "/hello")) == REPLY


def test_a_middleware_is_anything_with_process_request():
    seen = []

    class Duck:
        def process_request(self, request, handler):
            seen.append((request.url, type(handler)))

    router = hello_router()
    router.middlewares.append(Duck())
    assert bytes(router.process_request(Request("GET", "/hello"))) == REPLY
    assert seen == [("/hello", Hello)]


@pytest.mark.parametrize("method", ["PUT", "put", " PUT "])
def test_fix_a_method_that_is_not_registered_is_405(method):
    router = SimpleRouter()
    router.register("/a", Anything, ["GET"])
    reply = processed(router, method=method, url="/a")
    assert (reply["status"], reply["detail"]) == (405, TEXTS["NotSpecifiedHandler"])


@pytest.mark.parametrize("word", ["dispatch", "get_renderer", "__init__", "__class__", "secret"])
def test_fix_only_the_words_of_http_reach_a_view(word):
    called = []

    class Open(Anything):
        def dispatch(self, request, *args, **kwargs):
            called.append(request.method)
            return super().dispatch(request, *args, **kwargs)

        def secret(self, request):
            called.append("secret")

    router = SimpleRouter()
    router.register("/a", Open, ["GET"])
    assert processed(router, method=word, url="/a")["status"] == 405
    assert called == []
    with pytest.raises(exceptions.NotSpecifiedHandler):
        Anything().dispatch(Request(word, "/a"))


@pytest.mark.parametrize("name", ["id", "self", "request", "preferred_format"])
@pytest.mark.parametrize("overrides_dispatch", [False, True])
def test_fix_args_that_collide_are_400(name, overrides_dispatch):
    class Dispatches(Anything):
        def dispatch(self, request, *args, **kwargs):
            return super().dispatch(request, *args, **kwargs)

    router = SimpleRouter()
    router.register("/users/{id}", Dispatches if overrides_dispatch else Anything, "GET")
    reply = processed(router, method="GET", url="/users/7", args={name: 1}, event_name="e")
    assert (reply["status"], reply["event_name"]) == (400, "e")
    assert name in reply["detail"]


@pytest.mark.parametrize("plain_first", [False, True])
def test_fix_a_plain_path_wins_over_a_template(plain_first):
    class Me(Anything):
        def get(self, request):
            return "me"

    router = SimpleRouter()
    routes = [("/users/me", Me), ("/users/{id}", Anything)]
    for path, view in routes if plain_first else reversed(routes):
        router.register(path, view, "GET")
    assert processed(router, method="GET", url="/users/me")["data"] == "me"
    assert processed(router, method="GET", url="/users/you")["data"] == [["you"], {}]


def test_fix_an_endpoint_has_its_own_methods():
    methods = ["GET"]
    first = PlainEndpoint("/a/", Anything, methods, None)
    second = DynamicEndpoint("/{a}/", Anything, methods, None, "/(?P<a>[^/]+)/")
    third = PlainEndpoint("/b/", Anything, "PUT", None)
    first.methods.append("DELETE")
    assert (second.methods, third.methods, methods) == (["GET"], ["PUT"], ["GET"])


def test_endpoints_match_their_paths():
    plain = PlainEndpoint("/a/", Anything, "GET", None)
    assert (plain.match("/a/"), plain.match("/b/")) == ((), None)
    dynamic = URLParser().define_route("/users/{id}/v{n}/", Anything, "GET", "users")
    assert isinstance(dynamic, DynamicEndpoint)
    assert dynamic.match("/users/7/v2/") == ("7", "2")
    for path in ("/users/7/", "/users//v2/", "/users/7/8/v2/", "/users/7/v2/x/"):
        assert dynamic.match(path) is None
    assert isinstance(URLParser().define_route("/a/", Anything, "GET"), PlainEndpoint)


@pytest.mark.parametrize(
    "kind", [AbstractEndpoint, AbstractRouter, AbstractMiddleware, AbstractPermission]
)
def test_what_is_abstract_cannot_be_made(kind):
    with pytest.raises(TypeError):
        kind(*("/", Anything, "GET") if kind is AbstractEndpoint else ())


def test_check_and_set_subclass():
    class Holder:
        pass

    holder = Holder()
    check_and_set_subclass(holder, "view", Anything, MethodBasedView)
    assert holder.view is Anything
    for wrong in (object, object(), Holder):
        with pytest.raises(TypeError):
            check_and_set_subclass(holder, "view", wrong, (MethodBasedView, BaseRenderer))
    assert holder.view is Anything


@pytest.fixture
def urlconf():
    router = hello_router()
    router.register("/user/{id}", Anything, "GET", name="user")
    return {"path": "wss://host:8443", "urls": router._urls, "routes": router._routes}


def test_reverse_and_resolve(urlconf):
    full = reverse("user", urlconf, args=["1"], kwargs={"token": "123456"})
    assert full == "wss://host:8443/user/1/?token=123456"
    assert reverse("user", urlconf, args=[1], relative=True) == "/user/1/"
    for args in ([], ["1", "2"]):
        with pytest.raises(ValueError, match="1"):
            reverse("user", urlconf, args=args)
    with pytest.raises(NoReverseMatch):
        reverse("nobody", urlconf)
    match = resolve(full, urlconf)
    assert isinstance(match, RouteMatch)
    assert (match.view_name, tuple(match.args)) == ("user", ("1",))
    assert resolve("/user/2", urlconf).args == ("2",)
    for path in ("/nowhere", "wss://host:8443/user"):
        with pytest.raises(NoMatch):
            resolve(path, urlconf)


def test_the_urlconf_of_the_process_is_used_when_none_is_given(urlconf):
    before = get_urlconf()
    try:
        set_urlconf(urlconf)
        assert get_urlconf() is urlconf
        assert reverse("user", args=["1"]) == "wss://host:8443/user/1/"
        assert resolve("/user/1/").view_name == "user"
    finally:
        set_urlconf(before)


def test_a_router_has_a_reverse_of_its_own():
    router = SimpleRouter()
    router.register("/user/{id}", Anything, "GET", name="user")
    assert router.reverse("user", 7, token="a b") == "/user/7/?token=a+b"
    with pytest.raises(NoReverseMatch):
        router.reverse("nobody")


# Views


def test_a_view_knows_its_methods():
    class Child(Anything):
        def delete(self, request):
            pass

        def helper(self):
            pass

    assert issubclass(MethodBasedView, View)
    assert Anything.methods == ["get", "put"]
    assert Child.methods == ["delete", "get", "put"]
    expected = {"get", "post", "put", "patch", "delete", "head", "options", "trace"}
    assert set(http_methods) == expected


class ShoutingRenderer(BaseRenderer):
    format = "shout"

    def render(self, data):
        return json.dumps(data).upper().encode()


class Rendered(MethodBasedView):
    renderers = (XMLRenderer, JSONRenderer, ShoutingRenderer)

    def get(self, request):
        return "a"

    def put(self, request):
        raise exceptions.BaseAPIException("no")


@pytest.mark.parametrize(
    ("wanted", "reply"),
    [
        ("json", b'{"data":"a","event_name":null}'),
        ("shout", b'{"DATA": "A", "EVENT_NAME": NULL}'),
    ],
)
def test_the_format_of_args_chooses_the_renderer(wanted, reply):
    router = SimpleRouter()
    router.register("/a", Rendered, ["GET", "PUT"])
    assert router.process_request(Request("GET", "/a", {"format": wanted})) == reply


@pytest.mark.parametrize("args", [None, {"format": "nothing"}, {"format": None}])
def test_the_first_renderer_is_the_default(args):
    router = SimpleRouter()
    router.register("/a", Rendered, ["GET", "PUT"])
    reply = router.process_request(Request("GET", "/a", args))
    assert reply.endswith(b"<root><data>a</data><event_name></event_name></root>")
    failure = b'{"detail":"no","status":400,"event_name":null}'
    assert router.process_request(Request("PUT", "/a", args)) == failure


def test_renderers_are_a_list_or_a_tuple():
    class Wrong(Anything):
        renderers = {JSONRenderer}

    with pytest.raises(exceptions.InvalidRenderer):
        Wrong().get_renderer("json")
    assert type(Anything().get_renderer(None)) is JSONRenderer


def test_an_endpoint_function_is_a_view_with_attributes():
    @endpoint("/sum/{a}", methods=["GET", "PUT"], name="sum", renderers=(ShoutingRenderer,))
    def add(request, a, b=1):
        return int(a) + b

    router = SimpleRouter()
    router.register_endpoint(add)
    expected = b'{"DATA": 5, "EVENT_NAME": NULL}'
    assert router.process_request(Request("PUT", "/sum/2", {"b": 3})) == expected
    assert router.reverse("sum", 2) == "/sum/2/"
    assert add(None, "1") == 2


@pytest.mark.parametrize(
    ("compact", "ensure_ascii", "expected"),
    [
        (True, False, '{"a":[1,"é\\u2028\\u2029"],"b":null}'),
        (False, False, '{"a": [1, "é\\u2028\\u2029"], "b": null}'),
        (True, True, '{"a":[1,"\\u00e9\\u2028\\u2029"],"b":null}'),
        (False, True, '{"a": [1, "\\u00e9\\u2028\\u2029"], "b": null}'),
    ],
)
def test_the_json_renderer(compact, ensure_ascii, expected):
    assert (JSONRenderer.compact, JSONRenderer.ensure_ascii) == (True, False)
    kind = type("Kind", (JSONRenderer,), {"compact": compact, "ensure_ascii": ensure_ascii})
    assert kind().render({"a": [1, "é\u2028\u2029"], "b": None}) == expected.encode()
    assert JSONRenderer.format == "json"


def test_the_xml_renderer():
    expected = (
        b'<?xml version="1.0" encoding="utf-8"?>\n<root><a><list-item>1</list-item>'
        b"<list-item>&lt;&amp;</list-item></a><b></b></root>"
    )
    assert XMLRenderer().render({"a": [1, "<&"], "b": None}) == expected
    assert XMLRenderer.format == "xml"


@pytest.mark.parametrize("renderer", [JSONRenderer, XMLRenderer])
@pytest.mark.parametrize("data", [{"a": "\ud800"}, {"a": {object(): 1}}])
def test_what_cannot_be_rendered_is_a_serializer_error(renderer, data):
    with pytest.raises(exceptions.SerializerError):
        renderer().render(data)
    assert exceptions.SerializerError.status == 500


# Application, settings


def test_an_application_has_defaults():
    application = Application()
    assert application.factory is RequestHandlerFactory
    assert application.protocol is RequestHandlerProtocol
    assert (application.certificate, application.key) == (None, None)
    assert list(application.middlewares) == []
    assert application.isSecure is False
    assert application.generate_url("127.0.0.1", 8080) == "ws://127.0.0.1:8080/"
    assert application.generate_url("localhost", 1, "/chat") == "ws://localhost:1/chat"


def test_a_certificate_and_a_key_make_it_secure():
    application = Application(certificate="c.pem", key="k.pem")
    assert application.isSecure is True
    assert application.url.startswith("wss://")
    assert application.generate_url("127.0.0.1", 443) == "wss://127.0.0.1:443/"


@pytest.mark.parametrize("name", ["factory", "protocol"])
@pytest.mark.parametrize("wrong", [object, 1, RequestHandlerFactory.__init__, SimpleRouter])
def test_factory_and_protocol_are_classes_of_ours(name, wrong):
    with pytest.raises(TypeError):
        Application(**{name: wrong})
    application = Application()
    with pytest.raises(TypeError):
        setattr(application, name, wrong)


def test_an_instance_is_no_class():
    with pytest.raises(TypeError):
        Application(factory=RequestHandlerFactory())
    with pytest.raises(TypeError):
        Application(protocol=RequestHandlerProtocol())


class Tag(AbstractMiddleware):
    def process_request(self, request, handler):
        pass


def test_fix_middlewares_belong_to_one_application():
    first, second = Application(middlewares=(Tag,)), Application(middlewares=[Tag])
    assert [type(middleware) for middleware in first.middlewares] == [Tag]
    assert first.middlewares[0] is not second.middlewares[0]
    assert list(Application().middlewares) == []


@pytest.mark.parametrize("call", ["Application", "run", "generate_factory"])
def test_fix_an_unknown_option_is_refused_by_name(call):
    calls: dict[str, Any] = {
        "Application": Application,
        "run": Application(router=hello_router()).run,
        "generate_factory": Application(router=hello_router()).generate_factory,
    }
    with pytest.raises(TypeError, match="ip"):
        calls[call](ip="127.0.0.1")


def test_fix_no_router_is_a_clear_error():
    with pytest.raises(exceptions.ImproperlyConfigured, match="router"):
        Application().generate_factory("ws://127.0.0.1:8080/")


@pytest_twisted.ensureDeferred
async def test_own_classes_middlewares_and_compression_are_used(network):
    class Marked(RequestHandlerProtocol):
        def _encode_message(self, response, isBinary=False):
            return super()._encode_message(response[:-1] + b',"marked":true}', isBinary)

    class Factory(RequestHandlerFactory):
        pass

    application = Application(factory=Factory, protocol=Marked)
    factory = application.generate_factory(None, router=hello_router(), compress=True)
    assert type(factory) is Factory
    client = await network.connect(
        await network.serve(factory=factory),
        perMessageCompressionOffers=[PerMessageDeflateOffer()],
        perMessageCompressionAccept=PerMessageDeflateResponseAccept,
    )
    in_use = [type(extension).__name__ for extension in client.websocket_extensions_in_use]
    assert in_use == ["PerMessageDeflate"]
    assert await client.ask(CALL) == REPLY[:-1] + b',"marked":true}'


@pytest_twisted.ensureDeferred
async def test_compression_is_off_unless_asked_for(network):
    factory = Application(router=hello_router()).generate_factory(None)
    client = await network.connect(
        await network.serve(factory=factory),
        perMessageCompressionOffers=[PerMessageDeflateOffer()],
        perMessageCompressionAccept=PerMessageDeflateResponseAccept,
    )
    assert client.websocket_extensions_in_use == []


@pytest.mark.logs_errors
def test_the_logger_is_named_aiorest_ws(caplog):
    class Fails(MethodBasedView):
        def get(self, request):
            raise ValueError

    router = SimpleRouter()
    router.register("/fails", Fails, "GET")
    with caplog.at_level(logging.ERROR, logger="aiorest-ws"):
        assert processed(router, method="GET", url="/fails")["status"] == 500
    assert [record.name for record in caplog.records] == ["aiorest-ws"]


def test_settings_come_from_the_module_named_in_the_environment_on_first_use(tmp_path):
    (tmp_path / "shop_settings.py").write_text(
        "print('read')\nCOMPACT_JSON = False\nOWN = 7\n", encoding="utf-8"
    )
    program = (
        "import aiorest_ws.app, aiorest_ws.conf, aiorest_ws.renderers\n"
        "print('imported')\n"
        "from aiorest_ws.conf import settings\n"
        "print(settings.COMPACT_JSON, settings.UNICODE_JSON, settings.OWN)\n"
        "print(settings.MIDDLEWARE_CLASSES, settings.DATABASES, 'REST_CONFIG' in dir(settings))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **os.environ,
            "AIORESTWS_SETTINGS_MODULE": "shop_settings",
            "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)]),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["imported", "read", "False True 7", "() {} True"]


def test_fix_overridden_settings_are_restored():
    before = settings.COMPACT_JSON
    with override_settings(COMPACT_JSON=not before, SOMETHING_NEW=1):
        assert settings.COMPACT_JSON is not before
        assert settings.SOMETHING_NEW == 1
        assert JSONRenderer().render([1, 2]) == b"[1, 2]"

    assert settings.COMPACT_JSON is before
    assert not hasattr(settings, "SOMETHING_NEW")

    @override_settings(COMPACT_JSON=not before)
    def decorated():
        return settings.COMPACT_JSON

    assert decorated() is not before
    assert settings.COMPACT_JSON is before


# Tokens, permissions, users

SECRET = "0123456789abcdef" * 4
NOW = 1_700_000_000


@pytest.fixture
def manager():
    return JSONWebTokenManager(secret_key=SECRET, clock=lambda: NOW)


def later(seconds):
    return JSONWebTokenManager(secret_key=SECRET, clock=lambda: NOW + seconds)


@pytest.mark.parametrize("secret", ["secret_key", ""])
def test_fix_a_default_secret_is_refused_at_start(secret):
    with override_settings(SECRET_KEY=secret):
        with pytest.raises(exceptions.ImproperlyConfigured):
            JSONWebTokenManager()
        with pytest.raises(exceptions.ImproperlyConfigured):
            Application(middlewares=(JSONWebTokenMiddleware,))
    assert settings.SECRET_KEY != "secret_key"


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_fix_tokens_are_those_of_rfc_7519(algorithm):
    with override_settings(SECRET_KEY=SECRET, HASH_ALGORITHM=algorithm):
        manager = JSONWebTokenManager()
    token = manager.generate({"name": "Ada"})
    head, payload, signature = token.split(".")
    signed = hmac.digest(SECRET.encode(), f"{head}.{payload}".encode(), f"sha{algorithm[2:]}")
    assert base64.urlsafe_b64encode(signed).rstrip(b"=").decode() == signature
    assert jwt.decode(token, SECRET, algorithms=[algorithm]) == {"name": "Ada"}
    assert manager.verify(jwt.encode({"name": "Bob"}, SECRET, algorithm)) == {"name": "Bob"}


def test_fix_a_token_is_refused_before_nbf_and_taken_after(manager):
    token = manager.generate({}, nbf=10)
    with pytest.raises(TokenNotBeforeException):
        later(9).verify(token)
    assert later(10).verify(token) == {"nbf": NOW + 10}


def test_a_token_is_taken_before_exp_and_refused_after(manager):
    token = manager.generate({}, exp=10)
    assert later(9).verify(token) == {"exp": NOW + 10}
    with pytest.raises(TokenExpiredException):
        later(10).verify(token)


def test_a_token_of_somebody_else_is_refused(manager):
    head, payload, signature = manager.generate({"name": "Ada"}).split(".")
    other = jwt.encode({"name": "Ada"}, SECRET[::-1], "HS256")
    unsigned = jwt.encode({"name": "Ada"}, None, "none")
    for forged in (other, unsigned, f"{head}.{payload}.{signature[::-1]}", f"{head}.{payload}."):
        with pytest.raises(InvalidSignatureException):
            manager.verify(forged)
    for unreadable in ("", "a.b", "a.b.c.d"):
        with pytest.raises(ParsingTokenException):
            manager.verify(unreadable)


class Nobody(AbstractPermission):
    @staticmethod
    def check(request, handler):
        return False


class Guarded(MethodBasedView):
    auth_required = True
    permission_classes = (IsAuthenticated,)

    def get(self, request):
        return [request.user.username, request.token_payload]


class Forbidden(Guarded):
    permission_classes = (IsAuthenticated, Nobody)


def test_fix_permissions_are_obeyed():
    with override_settings(SECRET_KEY=SECRET):
        middleware = JSONWebTokenMiddleware()
    with closing(middleware.user_model), closing(middleware.storage_backend):
        middleware.user_model.create_user(username="ada", password="pw", is_user=True)
        user = middleware.user_model.get_user_by_username("ada", with_id=True)
        token = middleware.manager.generate({"n": 1}, sub="ada")
        middleware.storage_backend.save("access", token, user_id=user.id)
        stranger = middleware.manager.generate({"n": 2})
        router = SimpleRouter()
        router.register("/guarded", Guarded, "GET")
        router.register("/forbidden", Forbidden, "GET")
        router.middlewares.append(middleware)

        def ask(path, **extra):
            return json.loads(bytes(router.process_request(Request("GET", path, **extra))))

        assert ask("/guarded", token=token)["data"] == ["ada", {"n": 1, "sub": "ada"}]
        assert ask("/guarded")["status"] == 401
        assert ask("/guarded", token=stranger)["status"] == 403
        assert ask("/forbidden", token=token)["status"] == 403
        assert ask("/forbidden", token=token)["detail"] == PermissionDeniedException().detail
        assert ask("/guarded")["detail"] == TokenNotProvidedException().detail
        assert ask("/guarded", token=f"{token[:-4]}AAAA")["status"] == 401


def test_fix_passwords_are_salted_argon2():
    with closing(UserSQLiteModel()) as users:
        for name in ("ada", "bob"):
            users.create_user(username=name, password="the same")
        ada, bob = (users.get_user_by_username(name) for name in ("ada", "bob"))
        assert ada.password.startswith("$argon2id$")
        assert ada.password != bob.password
        assert ada.check_password("the same")
        assert not ada.check_password("another")


def test_fix_an_old_hash_is_replaced_on_login(tmp_path):
    path = tmp_path / "users.sqlite"
    old = hashlib.sha256(b"pw").hexdigest()
    with override_settings(DATABASES={"default": {"name": str(path)}}):
        with closing(UserSQLiteModel()) as users:
            users.create_user(username="ada", password="other")
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE aiorest_auth_user SET password = ?", (old,))
            connection.commit()
        with closing(UserSQLiteModel()) as users:
            assert not users.get_user_by_username("ada").check_password("wrong")
            assert users.get_user_by_username("ada").password == old
            assert users.get_user_by_username("ada").check_password("pw")
            assert users.get_user_by_username("ada").password.startswith("$argon2id$")
            assert users.get_user_by_username("ada").check_password("pw")


def test_fix_a_duplicate_username_is_refused():
    with closing(UserSQLiteModel()) as users:
        users.create_user(username="ada", password="first")
        with pytest.raises(exceptions.BaseAPIException):
            users.create_user(username="ada", password="second")
        assert users.get_user_by_username("ada").check_password("first")


def test_a_user_without_a_role_is_anonymous():
    assert issubclass(User, AbstractUser)
    assert not User().is_authenticated()
    assert User(username="ada", is_user=True).is_authenticated()
    assert IsAuthenticated.check(Request(), None) is False
