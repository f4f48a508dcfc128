"""Views that answer with streams, and clients that read them."""

import asyncio
import gc
import json
import weakref

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from aiorest_ws.decorators import endpoint
from aiorest_ws.limits import Limits
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.transports import install_reactor
from aiorest_ws.views import MethodBasedView
from support.waiting import until

LATER = 60


def sleep(seconds):
    return deferLater(install_reactor(), seconds)


class Iterator:
    """An async iterator that is no generator."""

    def __init__(self, *items):
        self.items = list(items)
        self.closed = 0

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.items:
            raise StopAsyncIteration
        return self.items.pop(0)

    async def aclose(self):
        self.closed += 1


@endpoint("/hello", "GET")
def hello(request):
    return "hello"


def router_of(*endpoints):
    router = SimpleRouter()
    for one in endpoints:
        router.register_endpoint(one)
    return router


async def whole(client, request_id=None):
    """Return the replies to one request up to its last."""
    replies = []
    while not replies or replies[-1].get("stream") == "next":
        replies.append(json.loads(await client.receive()))
        assert replies[-1].get("id") == request_id
    return replies


class Endless(MethodBasedView):
    """A view that yields until it is told to stop, and tells how it has ended."""

    item = "x"
    given: list
    ended: list
    alive: list

    async def get(self, request):
        self.alive.append(weakref.ref(self))
        try:
            async for item in self.items(request):
                self.given.append(item)
                yield item
        except GeneratorExit:
            self.ended.append("closed")
            raise
        except (CancelledError, asyncio.CancelledError):
            self.ended.append("cancelled")
            raise
        finally:
            await sleep(0.01)
            self.ended.append("done")

    async def items(self, request):
        while True:
            yield f"{len(self.given)} {self.item}"


class Waiting(Endless):
    """One that gives one item and then waits."""

    async def items(self, request):
        yield "first"
        await self.wait()

    def wait(self):
        return sleep(LATER)


class WaitingOnAsyncio(Waiting):
    def wait(self):
        return asyncio.sleep(LATER)


class Stubborn(Endless):
    """One that is cancelled and goes on, to wait and to yield."""

    go_on: Deferred

    async def items(self, request):
        yield "first"
        while not self.go_on.called:
            try:
                await sleep(0.01)
            except (CancelledError, asyncio.CancelledError):
                self.ended.append("cancelled")
        yield "late"


def fresh(kind, **members):
    """Return a view class of its own."""
    return type(kind.__name__, (kind,), {"given": [], "ended": [], "alive": [], **members})


async def served(network, kind, limits=None, **options):
    """Return a client of a server with a view, and the connection."""
    router = router_of(hello)
    router.register("/view", kind, "GET")
    factory = RequestHandlerFactory(router=router, limits=limits or Limits(), **options)
    client = await network.connect(await network.serve(factory=factory))
    await until(lambda: factory.connections)
    [connection] = factory.connections
    return client, connection


def ask(client, request_id=1, **members):
    client.send({"method": "GET", "url": "/view", "id": request_id, **members})


async def last(client):
    """Return the reply that ends a stream."""
    while json.loads(reply := await client.receive()).get("stream") == "next":
        pass
    return json.loads(reply)


def is_idle(connection):
    return not connection.calls_in_flight


KINDS = [
    Endless,
    Waiting,
    Stubborn,
    pytest.param(WaitingOnAsyncio, marks=pytest.mark.asyncio_reactor),
]


def has_ended(view):
    """Tell whether all has run that is to run at the end, once, and nothing is left of it."""
    if view.ended.count("done") != 1:
        return False
    gc.collect()
    return all(reference() is None for reference in view.alive)
