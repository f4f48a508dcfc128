"""aiorest_ws as its users run it: a default server, nothing left out."""

import argparse
from typing import Any

from aiorest_ws.app import Application
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.views import MethodBasedView

PATH = "/users/{user}/orders/{order}"


class Order(MethodBasedView):
    def get(self, _request: Any, user: str, order: str, limit: int) -> Any:
        return {"user": user, "order": order, "limit": limit}


class CoroutineOrder(MethodBasedView):
    async def get(self, _request: Any, user: str, order: str, limit: int) -> Any:
        return {"user": user, "order": order, "limit": limit}


class Echo(MethodBasedView):
    def post(self, request: Any) -> Any:
        return request.data


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


def make_router(routes: int | None, *, coroutine: bool) -> SimpleRouter:
    """Return a router; with `routes`, that many plain and dynamic ones before the one measured."""
    router = SimpleRouter()
    if routes is None:
        router.register("/echo", Echo, "POST")
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
    parser.add_argument("--routes", type=int)
    parser.add_argument("--middlewares", choices=[name for name in MIDDLEWARES if name])
    given = parser.parse_args()
    router = make_router(given.routes, coroutine=given.coroutine)
    application = Application(
        certificate=given.certificate,
        key=given.key,
        middlewares=MIDDLEWARES[given.middlewares],
        router=router,
    )
    application.run(port=0)


if __name__ == "__main__":
    main()
