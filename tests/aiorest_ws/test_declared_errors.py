"""Errors in the contract of a route: `DeclaredError`, `raises`, `errors`."""

import asyncio
import copy
import json
import pickle
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

import pytest
import pytest_twisted

from aiorest_ws import Application, DeclaredError, MethodBasedView, Request, SimpleRouter, endpoint
from aiorest_ws.abstract import AbstractMiddleware
from aiorest_ws.exceptions import (
    BaseAPIException,
    Conflict,
    Forbidden,
    NotFound,
    NotSupportedArgumentType,
)
from support.routers import ask, failure, success

SOME_ID = UUID("12345678-1234-5678-1234-567812345678")


class SoldOut(DeclaredError):
    status = 409
    default_detail = "Sold out."
    item: str
    left: int = 0


class SoldOutForever(SoldOut):
    since: str = "1.1."


class Empty(DeclaredError):
    known: ClassVar[int] = 1
    other: "ClassVar[dict[str, int]]" = {}


class Rich(DeclaredError):
    price: Decimal
    id: UUID
    more: Any = None


class OwnInit(DeclaredError):
    item: str

    def __init__(self, item):
        super().__init__(item=item.upper(), detail=f"No {item}.")


def raising(exc, *, how="function", **options):
    """Return a router whose view raises `exc`."""
    router = SimpleRouter()
    if how == "function":

        @router.get("/a", **options)
        def view(request: Request):
            raise exc

    elif how == "coroutine":

        @router.get("/a", **options)
        async def view(request: Request):
            await asyncio.sleep(0)
            raise exc

    elif how == "endpoint":

        @endpoint("/a", "GET", **options)
        def view(request):
            raise exc

        router.register_endpoint(view)
    else:

        class View(MethodBasedView):
            def get(self, request):
                raise exc

        for name, value in options.items():
            setattr(View, name, value)
        router.register("/a", View, "GET")
    return router


HOWS = ["function", "class", "endpoint"]

DECLARED = [
    (SoldOut(item="x"), "SoldOut", {"item": "x", "left": 0}, 409, "Sold out."),
    (SoldOut(item="x", left=2, detail="No."), "SoldOut", {"item": "x", "left": 2}, 409, "No."),
    (SoldOutForever(item="x"), "SoldOut", {"item": "x", "left": 0}, 409, "Sold out."),
    (Empty(), "Empty", {}, 400, BaseAPIException.default_detail),
    (
        Rich(price=Decimal("0.10"), id=SOME_ID, more=[1, {"a": None}]),
        "Rich",
        {"price": "0.10", "id": str(SOME_ID), "more": [1, {"a": None}]},
        400,
        BaseAPIException.default_detail,
    ),
    (OwnInit("x"), "OwnInit", {"item": "X"}, 400, "No x."),
]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(("exc", "name", "info", "status", "detail"), DECLARED)
def test_a_declared_error_is_sent_with_its_name_and_fields(how, exc, name, info, status, detail):
    router = raising(exc, how=how, raises=(SoldOut, Empty, Rich, OwnInit))
    assert ask(router, "GET", "/a") == {**failure(status, detail), "error": name, "info": info}


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(("exc", "name", "info", "status", "detail"), DECLARED)
def test_one_that_is_not_declared_is_sent_as_any_other(how, exc, name, info, status, detail):
    ask(raising(exc, how=how, raises=(SoldOut, Empty, Rich, OwnInit)), "GET", "/a")
    assert ask(raising(exc, how=how, raises=(NotFound,)), "GET", "/a") == failure(status, detail)


@pytest.mark.asyncio_reactor
@pytest.mark.parametrize("stage", [True, False])
@pytest_twisted.ensureDeferred
async def test_over_a_socket_and_with_a_middleware(network, stage):
    class Middleware(AbstractMiddleware):
        def process_request(self, request, handler):
            """Go on."""

    router = raising(SoldOut(item="x"), how="coroutine", raises=(SoldOut,))
    if stage:
        router.middlewares.append(Middleware())
    app = Application(router=router)
    client = await network.connect(await network.serve(factory=app.service().factory))
    reply = json.loads(await client.ask({"method": "GET", "url": "/a", "id": 1}))
    assert (reply["error"], reply["info"]) == ("SoldOut", {"item": "x", "left": 0})


@pytest.mark.asyncio_reactor
@pytest_twisted.ensureDeferred
async def test_in_a_task_group_and_a_stream(network):
    router = SimpleRouter()

    @router.get("/group", raises=(SoldOut,))
    async def group(request: Request):
        async def fails():
            raise SoldOut(item="x")

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fails())

    @router.get("/stream", raises=(SoldOut,))
    async def stream(request: Request):
        yield 1
        raise SoldOut(item="x")

    app = Application(router=router)
    client = await network.connect(await network.serve(factory=app.service().factory))
    assert json.loads(await client.ask({"method": "GET", "url": "/group"}))["error"] == "SoldOut"
    client.send({"method": "GET", "url": "/stream"})
    assert json.loads(await client.receive())["data"] == 1
    assert json.loads(await client.receive())["error"] == "SoldOut"


class Missing(LookupError):
    """Of the program's domain."""


MAPPED = [
    (KeyError("secret"), {KeyError: NotFound}, NotFound),
    (KeyError("secret"), {LookupError: NotFound}, NotFound),
    (Missing("secret"), {Missing: Conflict, LookupError: NotFound}, Conflict),
    (PermissionError("secret"), {OSError: NotFound, PermissionError: Forbidden}, Forbidden),
    (ValueError("secret"), {Exception: Conflict}, Conflict),
]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(("exc", "errors", "target"), MAPPED)
def test_an_exception_of_the_program_becomes_the_error_of_its_route(how, exc, errors, target):
    router = raising(exc, how=how, errors=errors)
    router.error_handlers[type(exc)] = lambda request, exc: BaseAPIException("of the router")
    assert ask(router, "GET", "/a") == failure(target.status, target.default_detail)


@pytest.mark.parametrize("how", HOWS)
def test_an_error_of_a_route_is_declared_if_it_raises_it(how):
    router = raising(KeyError("secret"), how=how, errors={KeyError: Empty}, raises=(Empty,))
    assert ask(router, "GET", "/a")["error"] == "Empty"


@pytest.mark.parametrize("how", HOWS)
def test_what_is_an_error_already_is_left_alone(how):
    router = raising(Conflict("mine"), how=how, errors={Exception: NotFound})
    assert ask(router, "GET", "/a") == failure(409, "mine")


def test_a_route_of_an_included_router_keeps_its_own():
    outer = SimpleRouter()
    outer.include(raising(SoldOut(item="x"), raises=(SoldOut,)), "/in")
    assert ask(outer, "GET", "/in/a")["error"] == "SoldOut"


def test_two_methods_of_a_path_have_their_own():
    router = SimpleRouter()

    @router.get("/a", errors={KeyError: NotFound})
    @router.post("/a", errors={KeyError: Conflict})
    def view(request: Request):
        raise KeyError

    assert ask(router, "GET", "/a")["status"] == 404
    assert ask(router, "POST", "/a")["status"] == 409


# The classes


@pytest.mark.parametrize(
    "make",
    [
        SoldOut,
        lambda: SoldOut(itm="x"),
        lambda: SoldOut("x"),
        lambda: SoldOut(item="x", known=1),
        lambda: Empty(known=2),
        lambda: SoldOut(item="x", status=400),
    ],
)
def test_fields_are_checked(make):
    with pytest.raises(TypeError):
        make()


@pytest.mark.parametrize("exc", [SoldOut(item="x", detail="No."), OwnInit("x")])
def test_one_can_be_copied_and_pickled(exc):
    for other in (copy.copy(exc), pickle.loads(pickle.dumps(exc))):
        assert (type(other), str(other), vars(other)) == (type(exc), str(exc), vars(exc))


class NeedsFields(DeclaredError):
    item: str


WRONG = [
    {"raises": SoldOut},
    {"raises": (KeyError,)},
    {"raises": (SoldOut(item="x"),)},
    {"raises": ("SoldOut",)},
    {"errors": (KeyError, NotFound)},
    {"errors": {"KeyError": NotFound}},
    {"errors": {KeyError: KeyError}},
    {"errors": {KeyError: NotFound()}},
    {"errors": {KeyError: lambda request, exc: NotFound()}},
    {"errors": {KeyError: NeedsFields}},
    {"idempotent": "yes"},
]


@pytest.mark.parametrize("options", WRONG)
def test_what_cannot_work_is_refused_at_registration(options):
    [name] = options
    with pytest.raises(NotSupportedArgumentType, match=name):
        raising(KeyError(), **options)


@pytest.mark.parametrize("options", WRONG[:-1])
@pytest.mark.parametrize("how", ["class", "endpoint"])
def test_it_is_refused_for_classes_too(options, how):
    [name] = options
    with pytest.raises(NotSupportedArgumentType, match=name):
        raising(KeyError(), how=how, **options)


@pytest.mark.parametrize("option", ["raise", "erors", "idempotnt"])
def test_a_misspelt_option_is_named(option):
    with pytest.raises(TypeError, match="did you mean"):
        SimpleRouter().get("/a", **{option: ()})


def test_a_view_that_returns_is_not_concerned():
    router = SimpleRouter()

    @router.get("/a", raises=(SoldOut,), errors={KeyError: NotFound}, idempotent=True)
    def view(request: Request):
        return 1

    assert ask(router, "GET", "/a") == success(1)
