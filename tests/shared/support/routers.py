"""Views, requests and middlewares for tests that ask a router without a server."""

import json

from twisted.internet.defer import Deferred, DeferredQueue

from aiorest_ws.exceptions import BaseAPIException
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.transports import install_reactor
from aiorest_ws.views import MethodBasedView
from aiorest_ws.wrappers import Request

NO_URL = "In query not specified `url` argument."
NO_HANDLER = "For URL, typed in request, handler not specified."
NO_METHOD = "In query not specified `method` argument."
METHOD_TYPE = "Method name should be a string type."
OUR_FAULT = "Internal server error."
UNRENDERABLE = "The reply cannot be rendered."


def view_of(function, *methods, **attributes):
    """A view class that answers with `function(request, *values, **arguments)`."""
    methods = methods or ("get",)
    handlers = {name: staticmethod(function) for name in methods}
    return type("View", (MethodBasedView,), {**attributes, **handlers})


def router_of(function, path="/x", methods="GET", middlewares=(), **attributes):
    router = SimpleRouter()
    router.register(path, view_of(function, **attributes), methods)
    router.middlewares.extend(middlewares)
    return router


def ask(router, method="GET", url="/x", args=None, **keys):
    """Make a call that is answered at once; return the reply."""
    reply = router.process_request(Request(method, url, args, **keys))
    assert isinstance(reply, bytes)
    return json.loads(reply)


def success(data, event_name=None):
    return {"data": data, "event_name": event_name}


def failure(status, detail, event_name=None):
    return {"detail": detail, "status": status, "event_name": event_name}


def lines(caplog):
    return [record for record in caplog.records if record.name == "aiorest-ws"]


def raising(exc):
    def view(request, *values, **arguments):
        raise exc

    return view


class Teapot(BaseAPIException):
    status = 418
    default_detail = "I'm a teapot."


def to(status):
    return lambda request, exc: BaseAPIException(f"{request.url} {exc!r}", status=status)


class Passing:
    """Has what a middleware must have, and nothing else."""

    def process_request(self, request, handler):
        """Let everything through."""


async def ask_later(router, method="GET", url="/x", args=None, **keys):
    """Make a call that is answered at once or later; return the reply."""
    reply = router.process_request(Request(method, url, args, **keys))
    return json.loads(reply if isinstance(reply, bytes) else await reply)


class Fires:
    """A view whose answers are Deferreds that the test fires; `called` gives them one by one."""

    def __init__(self):
        self.waiting = []
        self.called = DeferredQueue()

    def __call__(self, request):
        answer = Deferred()
        self.waiting.append(answer)
        # In a turn of its own, so that the test does not go on inside the call.
        install_reactor().callLater(0, self.called.put, (request.event_name, answer))
        return answer
