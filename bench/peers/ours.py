"""aiorest_ws as its users run it: a default server, nothing left out."""

import argparse
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec

from aiorest_ws.app import Application
from aiorest_ws.contract import Data
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.views import MethodBasedView

PATH = "/users/{user}/orders/{order}"


class Order(MethodBasedView):
    def get(self, _request: Any, user: str, order: str, limit: Any) -> Any:
        return {"user": user, "order": order, "limit": limit}


class CoroutineOrder(MethodBasedView):
    async def get(self, _request: Any, user: str, order: str, limit: Any) -> Any:
        return {"user": user, "order": order, "limit": limit}


class Echo(MethodBasedView):
    def post(self, request: Any) -> Any:
        return request.data


class Kind(Enum):
    NEW = "new"
    USED = "used"


class Place(msgspec.Struct):
    street: str
    city: str


class Sale(msgspec.Struct):
    id: UUID
    kind: Kind
    at: datetime
    place: Place
    article: str
    count: int
    price: float
    is_paid: bool
    tags: list[str]
    note: str | None = None


class Record(msgspec.Struct):
    id: int
    name: str
    price: float
    paid: bool


class Taking(MethodBasedView):
    """Takes data and has no use for it."""

    def post(self, _request: Any) -> Any:
        return 1


class TakingSale(MethodBasedView):
    def post(self, _request: Any, _sale: Data[Sale]) -> Any:
        return 1


class TakingSales(MethodBasedView):
    def post(self, _request: Any, _sales: Data[list[Sale]]) -> Any:
        return 1


class TakingRecords(MethodBasedView):
    def post(self, _request: Any, _records: Data[list[Record]]) -> Any:
        return 1


class Other(MethodBasedView):
    def get(self, _request: Any, *values: str) -> Any:
        return values


class Passing:
    def process_request(self, _request: Any, _handler: Any) -> None:
        pass


class PassingBack(Passing):
    def process_response(self, _request: Any, _response: Any) -> None:
        pass


class PassingLater:
    async def process_request(self, _request: Any, _handler: Any) -> None:
        pass


MIDDLEWARES: dict[str | None, tuple[type[Any], ...]] = {
    None: (),
    "one": (Passing,),
    "three": (Passing, Passing, Passing),
    "response": (PassingBack,),
    "asynchronous": (PassingLater,),
}


def make_router(
    routes: int | None, *, coroutine: bool = False, typed: bool = False
) -> SimpleRouter:
    """Return a router; with `routes`, that many plain and dynamic ones before the one measured."""
    router = SimpleRouter()
    if routes is None:
        router.register("/echo", Echo, "POST")
        router.register("/sale", TakingSale if typed else Taking, "POST")
        router.register("/sales", TakingSales if typed else Taking, "POST")
        router.register("/records", TakingRecords if typed else Taking, "POST")
    for number in range(routes or 0):
        router.register(f"/plain/{number}", Other, "GET")
        # Half of them share the first segments with the one that is measured.
        start = "/users/{user}" if number % 2 else "/shops/{shop}"
        router.register(f"{start}/kind{number}/{{item}}", Other, "GET")
    router.register(PATH, CoroutineOrder if coroutine else Order, "GET")
    return router


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("--coroutine", action="store_true")
    parser.add_argument("--typed", action="store_true")
    parser.add_argument("--routes", type=int)
    parser.add_argument("--middlewares", choices=[name for name in MIDDLEWARES if name])
    given = parser.parse_args()
    router = make_router(given.routes, coroutine=given.coroutine, typed=given.typed)
    application = Application(
        certificate=given.certificate,
        key=given.key,
        middlewares=MIDDLEWARES[given.middlewares],
        router=router,
    )
    application.run(port=0)


if __name__ == "__main__":
    main()
