"""What views return, and a type that JSON cannot hold."""

import pathlib
from collections import deque

from aiorest_ws.app import Application
from aiorest_ws.decorators import endpoint
from aiorest_ws.routers import SimpleRouter


class Price:
    def __init__(self, cents):
        self.cents = cents


def encode(value):
    if isinstance(value, Price):
        return {"amount": value.cents / 100, "currency": "EUR"}
    raise TypeError


@endpoint("/orders/{number}", methods="GET")
def order(request, number):
    return {
        "number": number,
        "price": Price(1250),
        "bill": pathlib.PurePosixPath("bills") / number,
    }


@endpoint("/last", methods="GET")
def last(request):
    return deque([Price(5), Price(10)])


router = SimpleRouter()
router.register_endpoint(order)
router.register_endpoint(last)

app = Application(router=router, encoder=encode)
