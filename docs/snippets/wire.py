"""The server for the exchanges on the wire protocol page."""

import datetime
import decimal
import enum
import uuid

from twisted.internet.defer import Deferred

from aiorest_ws import (
    Application,
    BaseAPIException,
    MethodBasedView,
    Request,
    SimpleRouter,
)


class Hello(MethodBasedView):
    def get(self, request: Request):
        return "Hello, world!"


class User(MethodBasedView):
    def get(self, request: Request, user_id, verbose=False):
        return {"id": user_id, "verbose": verbose}

    def put(self, request: Request, user_id, *, name):
        return name


class Echo(MethodBasedView):
    def post(self, request: Request):
        return request.data

    def get(self, request: Request):
        return getattr(request, "colour", None)


class Slow(MethodBasedView):
    def get(self, request: Request):
        return Deferred()  # which nothing ever fires


class Colour(enum.Enum):
    RED = "red"


values = {
    "nan": float("nan"),
    "infinity": [float("inf"), float("-inf")],
    "bytes": b"abc",
    "tuple": (1, 2),
    "set": {1},
    "int-keys": {7: "seven"},
    "datetime": datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.UTC),
    "decimal": decimal.Decimal("1.10"),
    "uuid": uuid.UUID(int=7),
    "enum": Colour.RED,
    "object": object(),
}


class Values(MethodBasedView):
    def get(self, request: Request, name):
        return values[name]


class Faults(MethodBasedView):
    def get(self, request: Request):
        raise KeyError("not for the eyes of a client")

    def post(self, request: Request):
        raise BaseAPIException("Only on weekdays.", status=403)


router = SimpleRouter()
router.register("/hello", Hello, methods="GET")
router.register("/users/{user_id}", User, methods=["GET", "PUT"])
router.register("/echo", Echo, methods=["GET", "POST"])
router.register("/values/{name}", Values, methods="GET")
router.register("/slow", Slow, methods="GET")
router.register("/faults", Faults, methods=["GET", "POST"])

app = Application(router=router)
