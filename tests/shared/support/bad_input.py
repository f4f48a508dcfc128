"""Views, calls and expected replies for tests of bad input over a real socket."""

import json
from typing import Any

from twisted.internet.defer import Deferred

from aiorest_ws.routers import SimpleRouter
from aiorest_ws.views import MethodBasedView
from aiorest_ws.wrappers import Request

HANG_SECONDS = 60


GOOD = b'{"method":"GET","url":"/hello","event_name":"still there"}'
GOOD_REPLY = b'{"data":"Hello, world!","event_name":"still there"}'


NO_URL = "In query not specified `url` argument."


OUR_FAULT = "Internal server error."


class Hello(MethodBasedView):
    def get(self, request):
        return "Hello, world!"

    # Never registered.
    def put(self, request):
        return "put"


def hello_router():
    router = SimpleRouter()
    router.register("/hello", Hello, ["GET", "DELETE"])
    return router


def within_reason(waiting: Deferred[Any], client: Any) -> Deferred[Any]:
    """Fail, long after any machine would have been done, instead of hanging."""
    return waiting.addTimeout(HANG_SECONDS, client.factory.reactor)


def reply_to(client: Any, payload: bytes, binary: bool = False) -> Deferred[Any]:
    """Send a message; the (payload, is_binary) of its reply, an error if there will be none."""
    client.sendMessage(payload, binary)
    waiting = within_reason(client.replies.get(), client)
    client.is_closed.addCallback(lambda _: waiting.cancel())
    return waiting


def soon(request: Request) -> Deferred[None]:
    """Fire in another turn of the reactor."""
    waiting: Deferred[None] = Deferred()
    request.factory.reactor.callLater(0, waiting.callback, None)
    return waiting


def failure(status: int, detail: str, echo: str = '"event_name":null') -> bytes:
    text = json.dumps(detail, ensure_ascii=False)
    return f'{{"detail":{text},"status":{status},{echo}}}'.encode()


# What came as event_name and id comes back.
SENT = '"event_name":{"n":[1,null]},"id":"c-7"'
