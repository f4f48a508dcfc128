"""The application under load, and what it tells of itself: `aiorest-ws run soak.app:application`.

AIOREST_WS_SOAK_LIMITS holds its Limits as JSON, AIOREST_WS_SOAK_COMPRESS has it compress.
"""

import asyncio
import gc
import json
import os
import time
from collections import Counter

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from aiorest_ws.app import Application
from aiorest_ws.decorators import endpoint
from aiorest_ws.routers import SimpleRouter
from soak.wire import tell

HOUR = 3600

connected = Counter()


@endpoint("/plain/{number}", "GET")
def plain(request, number):
    return int(number) + 1


@endpoint("/awaited/{number}", "GET")
async def awaited(request, number, seconds=0):
    await asyncio.sleep(seconds)
    return int(number) + 2


@endpoint("/deferred/{number}", "GET")
def deferred(request, number, seconds=0):
    answer = Deferred()
    timer = request.factory.reactor.callLater(seconds, answer.callback, int(number) + 3)
    answer.addErrback(lambda failure: (timer.active() and timer.cancel(), failure)[1])
    return answer


@endpoint("/big/{size}", "GET")
def big(request, size):
    return "x" * int(size)


@endpoint("/items/{count}", "GET")
async def items(request, count):
    for number in range(int(count)):
        connected["items"] += 1
        yield {"number": number, "text": "x" * 100}


@endpoint("/never", "GET")
def never(request):
    connected["begun"] += 1
    return Deferred(_cancel)


def _cancel(call):
    connected["cancelled"] += 1


@endpoint("/never-awaited", "GET")
async def never_awaited(request):
    connected["begun"] += 1
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        connected["cancelled"] += 1
        raise


@endpoint("/block", "GET")
def block(request):
    tell("blocks")
    time.sleep(HOUR)


@endpoint("/to-thread", "GET")
async def to_thread(request):
    await asyncio.to_thread(time.sleep, HOUR)


@endpoint("/defer-to-thread", "GET")
def defer_to_thread(request):
    return deferToThread(time.sleep, HOUR)


@endpoint("/blocking", "GET", blocking=True)
def blocking(request):
    time.sleep(HOUR)


@endpoint("/census", "GET")
def census(request):
    """How many objects of each type there are after a collection. What was there before the
    first connection is frozen, so that the collector does not see it."""
    gc.collect()
    types = Counter(map(type, gc.get_objects()))
    by_name = Counter()
    for kind, count in types.items():
        by_name[f"{kind.__module__}.{kind.__qualname__}"] += count
    return by_name


@endpoint("/state", "GET")
def state(request):
    return {
        "connections": len(request.factory.connections),
        "octets": sum(
            connection.trafficStats.incomingOctetsWireLevel
            for connection in request.factory.connections
        ),
        "limit_hits": dict(getattr(request.factory, "limit_hits", {})),
        "connected": dict(connected),
    }


def make_application() -> Application:
    router = SimpleRouter()
    for function in (
        plain,
        awaited,
        deferred,
        big,
        items,
        never,
        never_awaited,
        block,
        to_thread,
        defer_to_thread,
        blocking,
        census,
        state,
    ):
        router.register_endpoint(function)
    options = {}
    limits = os.environ.get("AIOREST_WS_SOAK_LIMITS")
    if limits:
        from aiorest_ws.limits import Limits

        options["limits"] = Limits(**json.loads(limits))
    application = Application(router=router, **options)

    @application.on_disconnect
    def leave(connection):
        connected["left"] += 1
        connected["read"] += connection.trafficStats.incomingWebSocketMessages

    @application.on_shutdown
    def sum_up(factory):
        tell(connected)

    return application


application = make_application()
