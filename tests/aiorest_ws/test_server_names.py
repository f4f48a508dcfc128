"""Parameters that the server fills: no client gives them, and none is asked for them."""

import functools
import inspect
import json

import pytest
import pytest_twisted

from aiorest_ws.decorators import endpoint
from aiorest_ws.exceptions import NotSupportedArgumentType
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.views import MethodBasedView


def report(request, tenant, page=1):
    return [tenant, page]


def report_any(request, **options):
    return [options.pop("tenant"), options.pop("page", 1)]


def report_keyword(request, *, tenant, page=1):
    return [tenant, page]


async def report_later(request, tenant="nobody", page=1):
    return [tenant, page]


def report_of(tenant, request, page=1):
    return [tenant, page]


def report_of_any(tenant, request, **options):
    return [tenant, options.pop("page", 1)]


def with_tenant(function):
    """Pass a keyword on, and tell nobody."""

    @functools.wraps(function)
    def inner(request, *args, **kwargs):
        kwargs.setdefault("tenant", "acme")
        return function(request, *args, **kwargs)

    return inner


def without_wraps(function):
    def inner(request, **kwargs):
        return function(request, **{"tenant": "acme", **kwargs})

    return inner


def with_signature(function):
    """As `with_tenant`, with a signature that leaves the tenant out."""
    inner = with_tenant(function)
    shown = inspect.signature(function)
    inner.__signature__ = shown.replace(
        parameters=[p for p in shown.parameters.values() if p.name != "tenant"]
    )
    return inner


def with_own_signature(function):
    """Shows less than it takes."""
    inner = with_signature(function)
    page = inspect.Parameter("page", inspect.Parameter.KEYWORD_ONLY, default=1)
    rest = inspect.Parameter("rest", inspect.Parameter.VAR_KEYWORD)
    request = inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    inner.__signature__ = inspect.Signature([request, page, rest])
    return inner


class Service:
    def __init__(self, tenant):
        self.tenant = tenant

    def report(service, request, **options):  # noqa: N805  a name that is not reserved
        return [service.tenant, options.pop("page", 1)]

    def __call__(service, request, **options):  # noqa: N805
        return service.report(request, **options)


def partial(function, *args):
    return functools.partial(function, *args, **({} if args else {"tenant": "acme"}))


FUNCTIONS = {
    "partial": partial(report),
    "partial of any": partial(report_any),
    "partial of keyword-only": partial(report_keyword),
    "partial of a coroutine": partial(report_later),
    "partial, positional": partial(report_of, "acme"),
    "partial, positional, of any": partial(report_of_any, "acme"),
    "partial of a partial": functools.partial(partial(report_any), page=1),
    "partial in a decorator": with_tenant(partial(report_any)),
    "staticmethod of a partial": staticmethod(partial(report)),
    "partial of a method": functools.partial(Service("acme").report, tenant="unused"),
    "method": Service("acme").report,
    "callable": Service("acme"),
    "signature": with_signature(report),
    "signature of any": with_own_signature(report),
    "decorated signature": with_tenant(with_signature(report)),
}
# `injected` names what these fill.
NAMED = {
    "wraps": with_tenant(report),
    "wraps of any": with_tenant(report_any),
    "wraps of a coroutine": with_tenant(report_later),
    "no wraps": without_wraps(report),
    "partial": partial(report),
    "signature": with_signature(report),
}
BOUND_NAME = {"method": "service", "callable": "service"}


async def reply_of(network, router, args):
    client = await network.connect(await network.serve(router))
    replies = [
        json.loads(await client.ask({"method": "GET", "url": "/x", "args": one})) for one in args
    ]
    return [reply.get("data", reply.get("status")) for reply in replies]


async def keeps(network, router, name="tenant", pages=True):
    """A call with the name is 400, again and again, and one without it gets the server's."""
    rival = {name: "rival"}
    page = {"page": 2} if pages else {}
    wanted = ["acme", 2 if pages else 1]
    asked = [{}, rival, page, {**page, **rival}] * 2
    assert await reply_of(network, router, asked) == [["acme", 1], 400, wanted, 400] * 2


@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.parametrize("options", [{}, {"blocking": True}, {"ordered": True}])
@pytest_twisted.ensureDeferred
async def test_what_a_function_has_bound_is_not_a_clients(network, kind, options):
    if kind == "partial of a coroutine" and options.get("blocking"):
        pytest.skip("a coroutine does not run in a thread")
    router = SimpleRouter()
    router.register_endpoint(endpoint("/x", "GET", **options)(FUNCTIONS[kind]))
    pages = kind != "partial of a partial"
    await keeps(network, router, BOUND_NAME.get(kind, "tenant"), pages)


@pytest.mark.parametrize("kind", NAMED)
@pytest_twisted.ensureDeferred
async def test_what_is_injected_is_not_a_clients(network, kind):
    router = SimpleRouter()
    router.register_endpoint(endpoint("/x", "GET", injected=("tenant",))(NAMED[kind]))
    await keeps(network, router)


def _report(self, request, tenant, page=1):
    return [tenant, page]


def _report_any(self, request, **options):
    return [options["tenant"], options.get("page", 1)]


class Bound(MethodBasedView):
    get = functools.partialmethod(_report, tenant="acme")


class BoundAny(MethodBasedView):
    get = functools.partialmethod(_report_any, tenant="acme")


class BoundTwice(MethodBasedView):
    _inner = functools.partialmethod(_report_any, tenant="nobody")
    get = functools.partialmethod(_inner, tenant="acme")


class BoundStatic(MethodBasedView):
    get = staticmethod(functools.partial(report, tenant="acme"))


class Inherited(BoundAny):
    pass


class Injecting(MethodBasedView):
    """Fills a parameter in its own `dispatch`."""

    injected = ["tenant"]

    def dispatch(self, request, *args, **kwargs):
        return super().dispatch(request, *args, tenant="acme", **kwargs)

    def get(self, request, tenant, page=1):
        return [tenant, page]


class Dispatching(MethodBasedView):
    """Calls the handler itself."""

    def dispatch(self, request, *args, **kwargs):
        return self.get(request, *args, **kwargs)

    get = functools.partialmethod(_report, tenant="acme")


@pytest.mark.parametrize(
    "view", [Bound, BoundAny, BoundTwice, BoundStatic, Inherited, Injecting, Dispatching]
)
@pytest_twisted.ensureDeferred
async def test_what_a_class_has_bound_or_injects_is_not_a_clients(network, view):
    router = SimpleRouter()
    router.register("/x", view, "GET")
    await keeps(network, router)


@pytest_twisted.ensureDeferred
async def test_other_methods_of_a_class_may_take_the_name(network):
    class Both(MethodBasedView):
        get = functools.partialmethod(_report, tenant="acme")
        put = _report

    router = SimpleRouter()
    router.register("/x", Both, ["GET", "PUT"])
    client = await network.connect(await network.serve(router))
    call = {"method": "PUT", "url": "/x", "args": {"tenant": "mine"}}
    assert json.loads(await client.ask(call))["data"] == ["mine", 1]


@pytest_twisted.ensureDeferred
async def test_values_in_the_path_go_around_what_is_injected(network):
    def with_user(function):
        @functools.wraps(function)
        def inner(request, *args, **kwargs):
            return function(request, "ann", *args, **kwargs)

        return inner

    @endpoint("/x/{number}/{kind}", "GET", injected=("user",))
    @with_user
    def order(request, user, number, kind, size=0):
        return [user, number, kind, size]

    router = SimpleRouter()
    router.register_endpoint(order)
    client = await network.connect(await network.serve(router))

    async def ask(**args):
        call = {"method": "GET", "url": "/x/7/a", "args": args}
        reply = json.loads(await client.ask(call))
        return reply.get("data", reply.get("status"))

    assert await ask() == ["ann", "7", "a", 0]
    assert await ask(size=1) == ["ann", "7", "a", 1]
    assert [await ask(**{name: "x"}) for name in ("user", "number", "kind", "other")] == [400] * 4


@pytest.mark.parametrize("injected", ["user", (1,), [None], {"user": 1}.keys() | {2}])
def test_injected_must_be_names(injected):
    router = SimpleRouter()
    view = endpoint("/x", "GET", injected=injected)(report)
    with pytest.raises(NotSupportedArgumentType, match="injected"):
        router.register_endpoint(view)
