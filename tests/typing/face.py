"""Programs of users with the names of the package itself; see api.py."""

import functools
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, assert_type

from msgspec import Struct
from twisted.internet.defer import Deferred, succeed

import aiorest_ws
from aiorest_ws import (
    Application,
    BaseAPIException,
    Data,
    DeclaredError,
    Depends,
    Limits,
    MethodBasedView,
    Request,
    RequestHandlerFactory,
    RequestHandlerProtocol,
    Response,
    SimpleRouter,
    ValidationError,
    endpoint,
)
from aiorest_ws.auth.permissions import IsAuthenticated
from aiorest_ws.exceptions import Conflict, Forbidden, NotFound
from aiorest_ws.registration import RouteOptions
from aiorest_ws.renderers import JSONRenderer
from aiorest_ws.topics import Position, Topic

from aiorest_ws import Aplication  # type: ignore[attr-defined] # noqa: F401 # isort: skip

aiorest_ws.SimpleRoutr  # type: ignore[attr-defined] # noqa: B018
assert_type(aiorest_ws.Limits(), Limits)
app = Application(limits=Limits(), factory=RequestHandlerFactory, protocol=RequestHandlerProtocol)
router = SimpleRouter("/api", auth_required=True, permission_classes=(IsAuthenticated,))
app.router.include(router, prefix="/v1")
assert_type(app.router, SimpleRouter)
app.router = router


@router.get("/orders/{id}")
def read(request: Request, id: str, *, limit: int = 10) -> list[int]:
    if not id:
        raise NotFound("No such order.")
    return [limit]


assert_type(read(Request(), "7", limit=1), list[int])
read(Request(), id=7)  # type: ignore[arg-type]
read(Request(), "7", limits=1)  # type: ignore[call-arg]


@router.post("/orders/{id}")
def change(request: Request, id: int, numbers: Data[list[int]]) -> list[int]:
    assert_type(numbers, list[int])
    return numbers


assert_type(change(Request(), 7, [1]), list[int])
change(Request(), 7, ["1"])  # type: ignore[list-item]


@app.router.post(
    "/orders",
    name="create",
    blocking=False,
    ordered=True,
    call_seconds=0.5,
    renderers=(JSONRenderer,),
    auth_required=False,
    permission_classes=[IsAuthenticated],
    injected=("session",),
    attributes={"cost": 3},
)
async def create(request: Request, session: object) -> dict[str, Any]:
    raise ValidationError(errors=[{"path": "data.name", "fault": "is missing"}])


async def use() -> None:
    assert_type(await create(Request(), object()), dict[str, Any])
    async for item in stream(Request()):
        assert_type(item, int)


@router.put("/stream")
@router.patch("/stream")
async def stream(request: Request) -> AsyncIterator[int]:
    yield 1


@router.delete("/x")
@router.head("/x")
@router.options("/x")
@router.trace("/x")
def later(request: Request) -> Deferred[int]:
    return succeed(1)


assert_type(later(Request()), Deferred[int])


@router.endpoint("/many", ["GET", "POST"], auth_required=None)
def many(request: Request) -> Response:
    raise Conflict


class Greeter:
    greeting = "Hello"

    def __call__(self, request: Request, name: str) -> str:
        return f"{self.greeting}, {name}!"


greeter = router.get("/hello/{name}")(Greeter())
assert_type(greeter, Greeter)
partial = router.get("/bye/{name}")(functools.partial(Greeter(), name="Ada"))
assert_type(partial(Request()), str)


class View(MethodBasedView):
    def get(self, request: Request) -> str:
        raise Forbidden


router.register("/view", View, "GET")
router.register_endpoint(endpoint("/old", "GET")(read))

router.get("/x", auth_requird=True)  # type: ignore[call-arg]
router.get("/x", blocking="yes")  # type: ignore[arg-type]
router.get(read)  # type: ignore[arg-type]
router.endpoint("/x")  # type: ignore[call-arg]
router.get("/x")(1)  # type: ignore[type-var]
SimpleRouter(prefx="/api")  # type: ignore[call-arg]
SimpleRouter("/api", True)  # type: ignore[call-arg]
ValidationError(errors=["name"])  # type: ignore[list-item]

options: RouteOptions = {"call_seconds": 5}
kept: Callable[[Request], Deferred[int]] = router.get("/x", **options)(later)
error: type[BaseAPIException] = ValidationError


class SoldOut(DeclaredError):
    status = 409
    item: str
    left: int = 0


SoldOut(item="x")
SoldOut(item="x", left=1, detail="No.")
SoldOut(itm="x")  # type: ignore[call-arg]
SoldOut(item=1)  # type: ignore[arg-type]
SoldOut("x")  # type: ignore[call-arg]


@router.get("/sold", raises=(SoldOut,), errors={KeyError: NotFound}, idempotent=True)
async def sold(request: Request, url: Annotated[str, Depends(lambda request: "x")]) -> str:
    assert_type(url, str)
    return url


router.get("/x", raises=(KeyError,))  # type: ignore[arg-type]
router.get("/x", errors={KeyError: KeyError})  # type: ignore[dict-item]


class Event(Struct):
    kind: str


orders = router.topic("orders/{id}", payload=Event, history=5)
assert_type(orders, Topic[Event])
assert_type(orders.publish(Event("made"), id=7), Deferred[Position])
orders.publish("made", id=7)  # type: ignore[arg-type]
router.topic("any").publish(object())
router.topic("orders", histroy=5)  # type: ignore[call-overload]
