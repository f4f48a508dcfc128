"""A server closes a connection with a code and a reason of its choice."""

import asyncio
import json

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater

from aiorest_ws.decorators import endpoint
from aiorest_ws.limits import Limits
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.transports import install_reactor
from support.reactors import asyncio_test
from support.routers import Passing
from support.waiting import until

SENT = [1000, 1001, 1003, 1008, 1009, 1011, 1012, 1013, 3000, 4999]
NOT_SENT = [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 70_000, -1, True]


def factory_of(*views, middlewares=(), **limits):
    router = SimpleRouter()
    router.middlewares.extend(middlewares)
    for view in views:
        router.register_endpoint(view)
    return RequestHandlerFactory(router=router, limits=Limits(**limits))


class Slow:
    """A view whose calls end when the test says so."""

    def __init__(self):
        self.calls = {}
        self.cancelled = []
        self.view = endpoint("/slow/{name}", "GET")(self.wait)

    def wait(self, request, name):
        self.calls[name] = Deferred(lambda _: self.cancelled.append(name))
        return self.calls[name]


def call(client, url, name=None):
    client.send({"method": "GET", "url": url, "id": name or url})


async def with_a_slow_call(network):
    """Return the view of a call that runs, its client and its connection."""
    slow = Slow()
    factory = factory_of(slow.view, drain_seconds=60)
    client = await network.connect(await network.serve(factory=factory))
    call(client, "/slow/a")
    await until(lambda: slow.calls)
    [connection] = factory.connections
    return slow, client, connection


async def received(client):
    return json.loads(await client.receive())


async def closed(client):
    """The code and the reason of the close frame, and what came before it."""
    await client.closed
    return client.remoteCloseCode, client.remoteCloseReason


# With any code


@pytest.mark.parametrize("code", SENT)
@pytest_twisted.ensureDeferred
async def test_a_view_closes_with_the_code_that_it_names(network, code):
    @endpoint("/bye", "GET")
    def bye(request):
        request.connection.sendClose(code, f"because of {code}")

    client = await network.connect(await network.serve(factory=factory_of(bye)))
    call(client, "/bye")
    assert await closed(client) == (code, f"because of {code}")


@pytest.mark.logs_errors
@pytest.mark.parametrize("code", NOT_SENT)
@pytest_twisted.ensureDeferred
async def test_a_code_that_no_endpoint_sends_is_a_fault_of_the_view(network, code):
    caught = []

    @endpoint("/{how}", "GET")
    def bye(request, how):
        try:
            getattr(request.connection, how)(code)
        except ValueError as exc:
            caught.append(str(exc))
            raise

    client = await network.connect(await network.serve(factory=factory_of(bye)))
    for how in ("sendClose", "close"):
        call(client, f"/{how}")
        assert (await received(client))["status"] == 500
    assert all(str(code) in one for one in caught)
    assert (await client.ask({})) is not None  # it is open


@pytest.mark.parametrize(
    ("reason", "told"),
    [(None, None), ("", ""), ("é" * 100, "é" * 61), ("x" * 200, "x" * 123), ("\ud800", "?")],
)
@pytest_twisted.ensureDeferred
async def test_a_reason_is_cut_to_what_a_frame_holds(network, reason, told):
    @endpoint("/bye", "GET")
    def bye(request):
        request.connection.sendClose(1008, reason)

    client = await network.connect(await network.serve(factory=factory_of(bye)))
    call(client, "/bye")
    assert await closed(client) in ((1008, told), (1008, told or None))


# When the calls are answered


async def at_once(request):
    await request.connection.close(1013, "later")
    return "own"


async def after_a_pause(request):
    await deferLater(install_reactor(), 0)
    await request.connection.close(1013, "later")
    return "own"


async def after_sleeping_in_a_task(request):
    await asyncio.sleep(0)
    await asyncio.create_task(_awaited(request.connection.close(1013, "later")))
    return "own"


async def with_a_timeout(request):
    await asyncio.wait_for(request.connection.close(1013, "later"), 30)
    return "own"


async def in_a_group(request):
    async with asyncio.TaskGroup() as group:
        group.create_task(_awaited(request.connection.close(1013, "later")))
        group.create_task(_awaited(request.connection.close(4000, "second")))
    return "own"


async def without_waiting(request):
    request.connection.close(1013, "later")
    return "own"


async def twice(request):
    await request.connection.close(1013, "later")
    await request.connection.close(4000, "second")
    return "own"


def in_its_place(request):
    return request.connection.close(1013, "later").addCallback(lambda _: "own")


@inlineCallbacks
def as_a_deferred(request):
    yield request.connection.close(1013, "later")
    return "own"


async def _awaited(awaitable):
    return await awaitable


WAYS = [
    *(at_once, after_a_pause, after_sleeping_in_a_task, with_a_timeout, in_a_group),
    *(without_waiting, twice, in_its_place, as_a_deferred),
]


@pytest.mark.parametrize("middlewares", [(), (Passing(),)])
@pytest.mark.parametrize("way", WAYS)
@asyncio_test
async def test_other_calls_are_answered_and_then_the_own_one(network, way, middlewares):
    slow = Slow()
    factory = factory_of(
        slow.view, endpoint("/close", "GET")(way), middlewares=middlewares, drain_seconds=60
    )
    client = await network.connect(await network.serve(factory=factory))
    call(client, "/slow/a")
    call(client, "/slow/b")
    await until(lambda: len(slow.calls) == 2)
    call(client, "/close")
    if way is without_waiting:
        assert (await received(client))["data"] == "own"
    # New calls are refused meanwhile, and the connection stays open for the others.
    await until(lambda: not next(iter(factory.connections)).accepts_calls)
    call(client, "/slow/late")
    assert (await received(client))["status"] == 503
    for name in ("b", "a"):
        slow.calls[name].callback(name)
        assert (await received(client))["data"] == name
    if way is not without_waiting:
        assert (await received(client))["data"] == "own"
    assert await closed(client) == (1013, "later")
    assert sorted(slow.calls) == ["a", "b"]


@pytest.mark.parametrize("way", [at_once, after_a_pause, in_its_place])
@asyncio_test
async def test_two_calls_that_close_do_not_wait_for_each_other(network, way):
    view = endpoint("/close/{name}", "GET")(lambda request, name: way(request))
    gate = Deferred()

    @endpoint("/first", "GET")
    async def first(request):
        await gate
        await request.connection.close(4001, "first")
        return "first"

    factory = factory_of(view, first, drain_seconds=60)
    client = await network.connect(await network.serve(factory=factory))
    call(client, "/first")
    await client.ask({})
    [connection] = factory.connections
    call(client, "/close/a")
    await until(lambda: not connection.accepts_calls)
    gate.callback(None)
    assert {(await received(client))["data"] for _ in range(2)} == {"first", "own"}
    assert await closed(client) == (1013, "later")


@pytest_twisted.ensureDeferred
async def test_from_elsewhere_it_returns_when_the_close_frame_is_written(network):
    slow, client, connection = await with_a_slow_call(network)
    closing = connection.close(4001, "enough")
    assert not closing.called
    slow.calls["a"].callback(1)
    await closing
    assert connection.state != connection.STATE_OPEN
    assert (await received(client))["data"] == 1
    assert await closed(client) == (4001, "enough")
    await connection.close(4002)  # it is closed: nothing happens


@pytest_twisted.ensureDeferred
async def test_calls_that_do_not_end_are_answered_with_503(network):
    slow = Slow()

    @endpoint("/items", "GET")
    async def items(request):
        yield 1
        await Deferred()

    factory = factory_of(slow.view, items, drain_seconds=0.1)
    client = await network.connect(await network.serve(factory=factory))
    call(client, "/items")
    assert (await received(client))["stream"] == "next"
    call(client, "/slow/a")
    await until(lambda: slow.calls)
    [connection] = factory.connections
    await connection.close(1008, "too long")
    replies = [await received(client) for _ in range(2)]
    assert {one["id"]: one["status"] for one in replies} == {"/items": 503, "/slow/a": 503}
    assert "shutting down" not in str(replies)
    assert slow.cancelled == ["a"]
    assert await closed(client) == (1008, "too long")


@pytest_twisted.ensureDeferred
async def test_a_connect_hook_closes(network):
    factory = factory_of()

    async def refuse(connection):
        await connection.close(4003, "not you")

    factory.connect_hooks.append(refuse)
    client = await network.connect(await network.serve(factory=factory))
    client.send({"method": "GET", "url": "/nothing"})
    assert (await closed(client)) == (4003, "not you")


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_ends_the_closing(network):
    slow, client, connection = await with_a_slow_call(network)
    closing = connection.close(1012)
    client.transport.abortConnection()
    await closing
    await until(lambda: not connection.factory.countConnections)
    assert slow.cancelled == ["a"]
