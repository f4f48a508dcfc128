"""`router.get` and its kin: functions that stay as they are, with path values by name."""

import functools
import inspect
import json

import pytest
import pytest_twisted
from twisted.internet.defer import succeed

from aiorest_ws import MethodBasedView, Request, SimpleRouter, endpoint
from aiorest_ws.exceptions import (
    EndpointValueError,
    InvalidHandler,
    InvalidPathArgument,
    NotSupportedArgumentType,
)
from support.routers import NO_HANDLER, Passing, ask, ask_later, failure, success

METHODS = ("get", "post", "put", "patch", "delete", "head", "options", "trace")
TEMPLATE = "/shops/{shop}/orders/{order}"
URL = "/shops/s/orders/7"


@pytest.mark.parametrize("method", METHODS)
def test_each_method_has_a_decorator_that_registers_at_once(method):
    router = SimpleRouter()

    def view(request):
        return request.method

    assert getattr(router, method)("/x")(view) is view
    assert ask(router, method.upper()) == success(method.upper())
    other = "GET" if method == "post" else "POST"
    assert ask(router, other) == failure(405, NO_HANDLER)


def test_endpoint_registers_several_methods():
    router = SimpleRouter()

    @router.endpoint("/x", ["GET", " post "], name="x")
    def view(request):
        """Answer."""
        return 1

    assert (view(None), view.__doc__) == (1, "Answer.")
    assert [ask(router, method)["data"] for method in ("GET", "POST")] == [1, 1]
    assert ask(router, "PUT") == failure(405, NO_HANDLER)
    assert router.reverse("x") == "/x/"


def test_a_function_may_be_registered_twice():
    router = SimpleRouter()

    @router.get("/a/{id}")
    @router.put("/b/{id}")
    def view(request, id):
        return f"{request.method} {id}"

    assert ask(router, "GET", "/a/1") == success("GET 1")
    assert ask(router, "PUT", "/b/2") == success("PUT 2")


def test_a_router_that_registers_in_its_own_way_does_so_for_functions():
    class Shouting(SimpleRouter):
        def register(self, path, handler, methods, name=None):
            super().register(path.upper(), handler, methods, name)

    router = Shouting()
    router.get("/x")(lambda request: 1)
    assert ask(router, url="/X") == success(1)


def in_order(request, shop, order, limit=1):
    return [shop, order, limit]


def swapped(request, order, shop, limit=1):
    return [shop, order, limit]


def arguments_first(request, limit=1, order="none", shop="none"):
    return [shop, order, limit]


def keyword_only(request, *, limit=1, order, shop):
    return [shop, order, limit]


def half_keyword_only(request, order, *, shop, limit=1):
    return [shop, order, limit]


def positional_only(request, order, shop, /, limit=1):
    return [shop, order, limit]


def half_positional_only(request, order, /, shop, *, limit=1):
    return [shop, order, limit]


def any_keywords(request, order, shop, **more):
    return [shop, order, more.pop("limit", 1)]


def any_positions(*args, order, shop, limit=1):
    return [shop, order, limit]


def another_name_for_the_request(req, order, shop, limit=1):
    return [shop, order, limit]


async def coroutine(request, order, shop, limit=1):
    return [shop, order, limit]


def deferred(request, order, shop, limit=1):
    return succeed([shop, order, limit])


def with_session(function):
    @functools.wraps(function)
    def inner(request, *args, **kwargs):
        return function(request, *args, session="session", **kwargs)

    return inner


@with_session
def wrapped(request, session, order, shop, limit=1):
    assert session == "session"
    return [shop, order, limit]


def of_partial(currency, request, order, shop, limit=1, *, session):
    assert (currency, session) == ("EUR", "session")
    return [shop, order, limit]


class Callable:
    def __call__(self, request, order, shop, limit=1):
        return [shop, order, limit]

    def method(self, request, order, shop, limit=1):
        return [shop, order, limit]


def signed(request, *args, **kwargs):
    return swapped(request, *args, **kwargs)


signed.__signature__ = inspect.signature(swapped)

FUNCTIONS = [
    in_order,
    swapped,
    arguments_first,
    keyword_only,
    half_keyword_only,
    positional_only,
    half_positional_only,
    any_keywords,
    any_positions,
    another_name_for_the_request,
    coroutine,
    deferred,
    Callable(),
    Callable().method,
    functools.partial(of_partial, "EUR", session="session"),
    functools.partial(swapped, limit=1),
    signed,
    staticmethod(swapped),
    lambda request, order, shop, limit=1: [shop, order, limit],
]


@pytest.mark.parametrize("middlewares", [(), (Passing(),)])
@pytest.mark.parametrize("options", [{}, {"ordered": True}, {"attributes": {"colour": "red"}}])
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest_twisted.ensureDeferred
async def test_path_values_are_bound_by_name(function, options, middlewares):
    router = SimpleRouter()
    router.middlewares.extend(middlewares)
    assert router.get(TEMPLATE, **options)(function) is function
    takes_a_limit = not isinstance(function, functools.partial) or function.args
    asked = {"limit": 5} if takes_a_limit else {}
    for _ in range(2):  # the second call is compiled
        assert await ask_later(router, url=URL) == success(["s", "7", 1])
        reply = await ask_later(router, url=URL, args=asked)
        assert reply == success(["s", "7", asked.get("limit", 1)])
    assert (await ask_later(router, url=URL, args={"order": 8}))["status"] == 400
    assert (await ask_later(router, url=f"{URL}?shop=t"))["status"] == 400


@pytest.mark.parametrize("options", [{}, {"blocking": True}])
@pytest_twisted.ensureDeferred
async def test_what_a_decorator_injects_does_not_move_path_values(network, options):
    router = SimpleRouter()
    assert router.get(TEMPLATE, injected=("session",), **options)(wrapped) is wrapped
    client = await network.connect(await network.serve(router))
    for args, expected in [({}, ["s", "7", 1]), ({"limit": 2}, ["s", "7", 2])] * 2:
        reply = await client.ask({"method": "GET", "url": URL, "args": args})
        assert json.loads(reply) == success(expected)
    refused = await client.ask({"method": "GET", "url": URL, "args": {"session": "mine"}})
    assert json.loads(refused)["status"] == 400


@pytest.mark.parametrize("function", [swapped, keyword_only, positional_only])
@pytest_twisted.ensureDeferred
async def test_path_values_of_a_blocking_view_are_bound_by_name(network, function):
    router = SimpleRouter()
    router.get(TEMPLATE, blocking=True)(function)
    client = await network.connect(await network.serve(router))
    assert json.loads(await client.ask({"method": "GET", "url": URL})) == success(["s", "7", 1])


@pytest_twisted.ensureDeferred
async def test_path_values_of_a_stream_are_bound_by_name(network):
    router = SimpleRouter()

    @router.get(TEMPLATE)
    async def stream(request, *, order, shop):
        yield shop
        yield order

    client = await network.connect(await network.serve(router))
    client.sendMessage(json.dumps({"method": "GET", "url": URL}).encode())
    items = [json.loads((await client.replies.get())[0]) for _ in range(3)]
    assert [item.get("data") for item in items] == ["s", "7", None]


@pytest.mark.parametrize("parameter", ["order", "shop"])
@pytest.mark.parametrize("function", [in_order, swapped, keyword_only, any_keywords])
def test_a_value_of_the_path_is_not_an_argument(function, parameter):
    router = SimpleRouter()
    router.get(TEMPLATE)(function)
    assert ask(router, url=URL, args={parameter: 1}) == failure(
        400, f"The argument {parameter!r} is already given by the URL."
    )


def test_arguments_of_a_view_are_checked_as_those_of_others():
    router = SimpleRouter()
    router.get("/x/{id}")(lambda request, limit, *, id, sort="up": [id, limit, sort])
    assert ask(router, url="/x/1", args={"limit": 2}) == success(["1", 2, "up"])
    assert ask(router, url="/x/1") == failure(400, "The argument 'limit' is missing.")
    assert ask(router, url="/x/1", args={"limit": 2, "page": 1}) == failure(
        400, "The argument 'page' is not taken here."
    )
    assert ask(router, url="/x/1", args={"limit": 2, "request": 1}) == failure(
        400, "The argument 'request' is reserved."
    )


def test_options_reach_the_view():
    class Renderer:
        format = "json"

        def render(self, data):
            return b"rendered"

    router = SimpleRouter()
    seen = []

    class Watching:
        def process_request(self, request, handler):
            seen.append(handler)

    router.middlewares.append(Watching())
    router.get("/x", renderers=(Renderer,), call_seconds=5, ordered=True, attributes={"cost": 3})(
        lambda request: 1
    )
    assert router.process_request(Request("GET", "/x")) == b"rendered"
    assert [(view.cost, view.call_seconds, view.ordered) for view in seen] == [(3, 5, True)]


# Misuses: each is refused with one sentence, and nothing is registered


def no_request():
    """Lacks the request."""


def keyword_request(*, request):
    """Takes the request by name only."""


def method(self, request):
    """Belongs into a class."""


async def generator(request):
    yield 1


def two_requests(request, preferred_format):
    """Has a parameter that is reserved."""


def needs_position(request, limit, /, id):
    """Has a parameter that nobody can give."""


def position_before(request, limit=1, id=2, /):
    """Has a parameter that cannot be left out."""


def reads(request, id):
    """Is fine for /x/{id}."""


WRONG_FUNCTIONS = [
    (no_request, "/x", {}, "no_request must take the request as its first parameter."),
    (keyword_request, "/x", {}, "keyword_request must take the request as its first parameter."),
    (lambda **more: 1, "/x", {}, "must take the request as its first parameter."),
    (method, "/x", {}, "method is a method of a class, and a router needs one of an instance."),
    (dict, "/x", {}, "dict is a class; router.register(path, dict, methods) registers view"),
    (MethodBasedView, "/x", {}, "MethodBasedView is a class; router.register(path, MethodBased"),
    ("reads", "/x", {}, "A function answers a request, and 'reads' is none."),
    (None, "/x", {}, "A function answers a request, and None is none."),
    (endpoint("/y", "GET")(reads), "/x/{id}", {}, "is decorated with @endpoint already"),
    (coroutine, TEMPLATE, {"blocking": True}, "coroutine is `blocking`: it runs in a thread"),
    (generator, "/x", {"blocking": True}, "generator is `blocking`: it runs in a thread"),
    (two_requests, "/x", {}, "needs 'preferred_format', which no client can give"),
    (needs_position, "/x/{id}", {}, "needs 'limit', which no client can give because it is pos"),
    (position_before, "/x/{id}", {}, "needs 'limit', which no client can give because it is pos"),
    (reads, "/x/{idx}", {}, "no parameter 'idx', which '/x/{idx}/' names; did you mean 'id'?"),
    (reads, "/x/{id}/{page}", {}, "reads has no parameter 'page', which '/x/{id}/{page}/' names."),
    (reads, "/x/{request}", {}, "reads gets the request as 'request', its first parameter"),
    (lambda id: 1, "/x/{id}", {}, "gets the request as 'id', its first parameter, and needs"),
    (lambda request, *values: 1, "/x/{id}", {}, "has no parameter 'id', which '/x/{id}/' names."),
    (lambda request, **named: 1, "/x/{id}", {}, "has no parameter 'id', which '/x/{id}/' names."),
    (lambda request, *id: 1, "/x/{id}", {}, "has no parameter 'id', which '/x/{id}/' names."),
    (functools.partial(reads, id=1), "/x/{id}", {}, "gets 'id' from the server"),
    (reads, "/x/{id}", {"injected": ("id",)}, "reads gets 'id' from the server, so '/x/{id}/' c"),
    (reads, "/x/{id}", {"injected": ("session",)}, "reads has no parameter 'session', which `inj"),
    (wrapped, TEMPLATE, {"injected": ["sesion"]}, "names; did you mean 'session'?"),
]


@pytest.mark.parametrize(("function", "path", "options", "sentence"), WRONG_FUNCTIONS)
def test_a_function_that_cannot_answer_is_refused(function, path, options, sentence):
    router = SimpleRouter()
    register = router.get(path, **options)
    with pytest.raises(InvalidHandler) as caught:
        register(function)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert router.urls == []


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("x", InvalidPathArgument),
        ("", InvalidPathArgument),
        (None, InvalidPathArgument),
        (reads, InvalidPathArgument),
        ("/x?a=1", InvalidPathArgument),
        ("/x/{id", EndpointValueError),
        ("/x/{id}/{id}", EndpointValueError),
        ("/x/{1}", EndpointValueError),
        ("/x/{}", EndpointValueError),
    ],
)
def test_a_wrong_path_is_refused(path, error):
    router = SimpleRouter()
    with pytest.raises(error):
        router.get(path)(reads)
    assert router.urls == []


@pytest.mark.parametrize("methods", ["FETCH", ["GET", "dispatch"], ("GET",), [], None])
def test_wrong_methods_are_refused_before_the_function_is_known(methods):
    with pytest.raises(NotSupportedArgumentType):
        SimpleRouter().endpoint("/x", methods)


def test_a_name_that_is_taken_is_refused():
    router = SimpleRouter()
    router.get("/x", name="x")(lambda request: 1)
    with pytest.raises(EndpointValueError, match="Duplicate x"):
        router.get("/y", name="x")(lambda request: 1)


def test_a_function_without_a_signature_is_refused():
    class Unsigned:
        __signature__ = "none"

        def __call__(self, request):
            return 1

    with pytest.raises(InvalidHandler, match="has no signature that Python can tell"):
        SimpleRouter().get("/x")(Unsigned())
