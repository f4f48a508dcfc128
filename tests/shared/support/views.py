"""Routers made of functions."""

import json

from aiorest_ws.abstract import AbstractRouter
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.views import MethodBasedView
from support.hello import Hello


def router_of(**views):
    router = SimpleRouter()
    router.register("/hello", Hello, "GET")
    for name, view in views.items():
        router.register(f"/{name}", view, view.methods)
    return router


def view(function, **attributes):
    """A view class that answers GET with `function(request)`."""
    return type("TestView", (MethodBasedView,), {"get": staticmethod(function), **attributes})


class ForeignRouter(AbstractRouter):
    """A router that is not ours and answers what it was made with."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def process_request(self, request):
        return self.answer()


async def data_of(client):
    """What the next reply holds."""
    reply, _ = await client.replies.get()
    return json.loads(reply)["data"]
