"""What a router puts before its paths and demands of callers, also of included routers."""

import json

import pytest
import pytest_twisted

from aiorest_ws import MethodBasedView, Request, SimpleRouter, endpoint
from aiorest_ws.abstract import AbstractEndpoint
from aiorest_ws.endpoints import DynamicEndpoint
from aiorest_ws.exceptions import (
    EndpointValueError,
    InvalidHandler,
    InvalidPathArgument,
    NotSupportedArgumentType,
)
from support.routers import NO_HANDLER, ask, failure, success, view_of

NEEDS_TOKEN = failure(401, "This call needs a token.")
DENIED = failure(403, "Permission denied.")


class Allowing:
    @staticmethod
    def check(request, handler):
        return True


class Denying:
    @staticmethod
    def check(request, handler):
        return False


class User:
    is_authenticated = True


class Login:
    """Knows the callers that send a token."""

    def process_request(self, request, handler):
        request.user = User() if request.token else None


def hello(request):
    return "hello"


class Shout(MethodBasedView):
    def get(self, request):
        return "HELLO"


# Prefixes


@pytest.mark.parametrize("prefix", ["/api", "/api/", "/api/ "])
def test_a_prefix_comes_before_every_path(prefix):
    router = SimpleRouter(prefix)
    router.get("/hello", name="hello")(hello)
    router.get("/")(lambda request: "root")
    router.register("/shout", Shout, "GET")
    router.register_endpoint(endpoint("/other", "GET")(hello))
    asked = {"/api/hello": "hello", "/api": "root", "/api/shout": "HELLO", "/api/other/": "hello"}
    for url, answer in asked.items():
        assert ask(router, url=url) == success(answer)
    assert ask(router, url="/hello") == failure(404, NO_HANDLER)
    assert router.reverse("hello") == "/api/hello/"


@pytest.mark.parametrize("prefix", ["", "/"])
def test_a_prefix_may_be_nothing(prefix):
    router = SimpleRouter(prefix)
    router.get("/hello")(hello)
    assert ask(router, url="/hello") == success("hello")


def test_prefixes_of_included_routers_add_up():
    inner, middle, outer = SimpleRouter("/c"), SimpleRouter("/b"), SimpleRouter(prefix="/a")
    inner.get("/hello", name="hello")(hello)
    inner.register("/shout/{name}", view_of(lambda request, name: name), "GET", name="shout")
    middle.include(inner, prefix="/x/")
    outer.include(middle)
    assert ask(outer, url="/a/b/x/c/hello") == success("hello")
    assert ask(outer, url="/a/b/x/c/shout/Ada") == success("Ada")
    assert outer.reverse("shout", "Ada") == "/a/b/x/c/shout/Ada/"
    assert ask(middle, url="/b/x/c/hello") == success("hello")
    assert ask(inner, url="/c/hello") == success("hello")


def test_a_router_may_be_included_under_two_prefixes():
    inner, outer = SimpleRouter(), SimpleRouter()
    inner.get("/hello")(hello)
    outer.include(inner, "/a")
    outer.include(inner, "/b")
    assert [ask(outer, url=url)["data"] for url in ("/a/hello", "/b/hello")] == ["hello"] * 2


def test_middlewares_of_an_included_router_stay_with_its_routes_under_a_prefix():
    inner, outer = SimpleRouter(), SimpleRouter()
    inner.middlewares.append(Login())
    inner.get("/user")(lambda request: request.user is not None)
    outer.include(inner, "/inner")
    outer.get("/user")(lambda request: hasattr(request, "user"))
    assert ask(outer, url="/inner/user", token="t") == success(True)
    assert ask(outer, url="/user", token="t") == success(False)


def by_name(request, order, *, shop):
    return [shop, order]


@pytest.mark.parametrize("is_included", [False, True])
def test_a_prefix_may_have_path_values(is_included):
    prefix = "/shops/{shop}"
    router = SimpleRouter("" if is_included else prefix)
    if is_included:
        routes = SimpleRouter()
        # Each view takes what its path names when it is registered.
        routes.get("/all")(lambda request, shop="any": [shop])
        routes.register("/first/{order}", view_of(lambda request, *values: values), "GET")
        router.include(routes, prefix)
    else:
        router.get("/orders/{order}")(by_name)
        router.get("/all")(lambda request, shop: [shop])
        router.register("/first/{order}", view_of(lambda request, *values: values), "GET")
        assert ask(router, url="/shops/s/orders/7") == success(["s", "7"])
    assert ask(router, url="/shops/s/all") == success(["s"])
    assert ask(router, url="/shops/s/first/7") == success(["s", "7"])


@pytest.mark.parametrize(
    ("prefix", "error"),
    [
        ("api", InvalidPathArgument),
        ("/api?a=1", InvalidPathArgument),
        (None, InvalidPathArgument),
        (1, InvalidPathArgument),
        ("/{shop", EndpointValueError),
        ("/{shop}/{shop}", EndpointValueError),
    ],
)
def test_a_wrong_prefix_is_refused(prefix, error):
    with pytest.raises(error):
        SimpleRouter(prefix=prefix)
    router = SimpleRouter()
    with pytest.raises(error):
        router.include(SimpleRouter(), prefix=prefix)


class Suffix(AbstractEndpoint):
    def match(self, path):
        return () if path.endswith(self.path) else None


@pytest.mark.parametrize(
    "own",
    [
        Suffix("/x", Shout, "GET"),
        DynamicEndpoint("/{a}/", Shout, "GET", None, r"/(?P<a>\d+)/"),
    ],
)
def test_a_prefix_cannot_come_before_an_endpoint_that_matches_in_its_own_way(own):
    inner = SimpleRouter()
    inner.urls.append(own)
    with pytest.raises(EndpointValueError, match="prefix '/api' cannot come before"):
        SimpleRouter().include(inner, "/api")
    SimpleRouter().include(inner)


def test_a_view_that_lacks_a_value_of_the_prefix_is_refused():
    inner = SimpleRouter()
    inner.get("/hello")(hello)
    with pytest.raises(InvalidHandler, match=r"no parameter 'shop', which '/\{shop\}/hello/' "):
        SimpleRouter().include(inner, "/{shop}")
    with pytest.raises(InvalidHandler, match="no parameter 'shop'"):
        SimpleRouter("/{shop}").get("/hello")(hello)


# The order of path values in the ways of 1.1


def swapped(request, order, shop):
    """Takes the values of /{shop}/{order} in another order."""


class Swapped(MethodBasedView):
    def get(self, request, order, shop):
        return None


class HalfSwapped(MethodBasedView):
    def get(self, request, shop, order):
        return None

    def put(self, request, other, shop, order=None):
        return None


class OwnDispatch(MethodBasedView):
    def dispatch(self, request, order, shop):
        return None


def register_view(view, methods="GET"):
    return lambda router: router.register("/{shop}/{order}", view, methods)


@pytest.mark.parametrize(
    "register",
    [
        lambda router: router.register_endpoint(endpoint("/{shop}/{order}", "GET")(swapped)),
        register_view(Swapped),
        register_view(HalfSwapped, ["GET", "PUT"]),
        register_view(view_of(swapped)),
        register_view(OwnDispatch),
        register_view(view_of(lambda request, x, shop: 1)),
        register_view(view_of(lambda request, order, y: 1)),
    ],
)
def test_the_names_of_the_path_in_another_order_are_refused(register):
    router = SimpleRouter()
    with pytest.raises(InvalidHandler, match="path values come in the order of the path"):
        register(router)
    assert router.urls == []


@pytest.mark.parametrize(
    "view",
    [
        view_of(lambda request, shop, order: [shop, order]),
        view_of(lambda request, shop_id, order_id: [shop_id, order_id]),
        view_of(lambda request, shop, number: [shop, number]),
        view_of(lambda request, *values: list(values)),
        view_of(lambda request, shop, *values: [shop, *values]),
    ],
)
def test_path_values_come_in_order_in_the_ways_of_1_1(view):
    router = SimpleRouter()
    register_view(view)(router)
    assert ask(router, url="/s/7") == success(["s", "7"])


def test_an_own_dispatch_may_pass_path_values_in_another_order():
    class Turning(Swapped):
        def dispatch(self, request, *values, **arguments):
            return super().dispatch(request, *reversed(values), **arguments)

        def get(self, request, order, shop):
            return [shop, order]

    router = SimpleRouter()
    register_view(Turning)(router)
    assert ask(router, url="/s/7") == success(["s", "7"])


# Who may call


def guarded_router(**demands):
    router = SimpleRouter(**demands)
    router.middlewares.append(Login())
    return router


REGISTRATIONS = {
    "get": lambda router, **own: router.get("/x", **own)(hello),
    "endpoint": lambda router, **own: router.register_endpoint(
        endpoint("/x", "GET", **own)(hello)
    ),
    "class": lambda router, **own: router.register("/x", view_of(hello, **own), "GET"),
}


@pytest.fixture(params=REGISTRATIONS)
def register(request):
    return REGISTRATIONS[request.param]


@pytest.fixture(params=["own", "included", "including"])
def make(request, register):
    """Return a router that demands something of the callers of a view."""

    def make_router(demands, **own):
        if request.param == "own":
            router = guarded_router(**demands)
            register(router, **own)
            return router
        outer, inner = SimpleRouter(), SimpleRouter(**demands)
        if request.param == "including":
            outer, inner = SimpleRouter(**demands), SimpleRouter()
        outer.middlewares.append(Login())
        register(inner, **own)
        outer.include(inner)
        return outer

    return make_router


@pytest_twisted.ensureDeferred
async def test_a_router_demands_a_login_for_its_views(make):
    router = make({"auth_required": True})
    assert await replies(router) == [NEEDS_TOKEN, success("hello")]


@pytest_twisted.ensureDeferred
async def test_the_answer_of_a_view_wins(make):
    router = make({"auth_required": True}, auth_required=False)
    assert await replies(router) == [success("hello")] * 2
    router = make({"auth_required": False}, auth_required=True)
    assert await replies(router) == [NEEDS_TOKEN, success("hello")]


@pytest_twisted.ensureDeferred
async def test_permissions_of_a_router_come_before_those_of_a_view(make):
    router = make({"permission_classes": (Denying,)}, permission_classes=[Allowing])
    assert await replies(router) == [DENIED] * 2
    router = make({"permission_classes": [Allowing]}, permission_classes=(Denying,))
    assert await replies(router) == [DENIED] * 2
    router = make({"permission_classes": [Allowing]}, permission_classes=(Allowing,))
    assert await replies(router) == [success("hello")] * 2


async def replies(router):
    """The replies to a caller without a token, and with one."""
    answers = [router.process_request(Request("GET", "/x", token=t)) for t in (None, "t")]
    return [json.loads(one if isinstance(one, bytes) else await one) for one in answers]


@pytest_twisted.ensureDeferred
async def test_the_answer_of_an_included_router_wins():
    outer, inner = guarded_router(auth_required=True), SimpleRouter(auth_required=False)
    inner.get("/x")(hello)
    outer.include(inner)
    assert await replies(outer) == [success("hello")] * 2


@pytest_twisted.ensureDeferred
async def test_permissions_that_an_instance_sets_do_not_replace_the_routers():
    class Setting(MethodBasedView):
        def __init__(self):
            self.permission_classes = [Allowing]

        def get(self, request):
            return "hello"

    router = guarded_router(permission_classes=[Denying])
    router.register("/x", Setting, "GET")
    assert await replies(router) == [DENIED] * 2


@pytest_twisted.ensureDeferred
async def test_a_view_that_two_routers_have_is_guarded_in_one():
    guarded, other = guarded_router(auth_required=True), guarded_router()
    for router in (guarded, other):
        router.register("/x", Shout, "GET")
    assert (await replies(guarded))[0] == NEEDS_TOKEN
    assert (await replies(other))[0] == success("HELLO")
    assert not Shout.auth_required


@pytest.mark.parametrize(
    "demands",
    [
        {"auth_required": "yes"},
        {"auth_required": 1},
        {"permission_classes": Allowing},
        {"permission_classes": (object,)},
        {"permission_classes": None},
    ],
)
def test_wrong_demands_are_refused(demands):
    with pytest.raises(NotSupportedArgumentType, match=next(iter(demands))):
        SimpleRouter(**demands)


def test_a_view_that_a_router_cannot_guard_is_refused():
    inner = SimpleRouter()
    inner.urls.append(Suffix("/x", hello, "GET"))
    with pytest.raises(InvalidHandler, match="is not a view class"):
        SimpleRouter(auth_required=True).include(inner)


@pytest.mark.parametrize("is_included", [False, True])
@pytest.mark.parametrize(
    ("demands", "statuses"),
    [
        ({}, [None, None]),
        ({"auth_required": True}, [401, None]),
        ({"auth_required": False}, [None, None]),
        ({"permission_classes": [Denying]}, [403, 403]),
    ],
)
@pytest_twisted.ensureDeferred
async def test_topics_of_a_router_are_guarded_too(network, demands, statuses, is_included):
    router = guarded_router(**demands)
    inner = SimpleRouter("/api") if is_included else router
    inner.register_topic("orders", permission_classes=[Allowing])
    if is_included:
        router.include(inner)
    client = await network.connect(await network.serve(router))
    message = {"method": "SUBSCRIBE", "url": "orders"}
    asked = [message, {**message, "token": "t"}]
    assert [json.loads(await client.ask(one)).get("status") for one in asked] == statuses
