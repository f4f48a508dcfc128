"""A cancellation that is not that of the call is a fault of the server; 499 is for those that are.

Each fault is met in each place where a call runs code of the program.
"""

import asyncio
import json
import logging

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, gatherResults

from aiorest_ws.exceptions import BaseAPIException
from aiorest_ws.renderers import JSONRenderer
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.views import MethodBasedView
from support.bad_input import OUR_FAULT, soon
from support.hello import HELLO, HELLO_REPLY, Hello
from support.waiting import until

CANCELLED = "The call was cancelled."


# Something that was cancelled, and is awaited


def cancelled_deferred():
    waiting = Deferred()
    waiting.cancel()
    return waiting


def cancelled_one_of_several():
    return gatherResults([Deferred(), cancelled_deferred()], consumeErrors=True).addErrback(
        lambda failure: failure.value.subFailure
    )


def cancelled_task():
    job = asyncio.ensure_future(asyncio.sleep(60))
    job.cancel()
    return job


def cancelled_future():
    future = asyncio.get_running_loop().create_future()
    future.cancel("the pool was closed")
    return future


def cancelled_child():
    return asyncio.gather(asyncio.sleep(0), cancelled_task())


async def cancelled_group():
    job = cancelled_task()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(0))
        await job


async def cancelled_by_hand():
    raise asyncio.CancelledError("by hand")


async def cancelled_later():
    job = asyncio.ensure_future(asyncio.sleep(60))
    asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, job.cancel)
    await job


asyncio_only = pytest.mark.asyncio_reactor
FAULTS = [
    cancelled_deferred,
    cancelled_one_of_several,
    *(
        pytest.param(fault, marks=asyncio_only)
        for fault in (
            cancelled_task,
            cancelled_future,
            cancelled_child,
            cancelled_group,
            cancelled_by_hand,
            cancelled_later,
        )
    ),
]


# Where that is awaited


def of_view(get, **attributes):
    return {"view": type("View", (MethodBasedView,), {"get": get, **attributes})}


def in_view(fault):
    async def get(self, request):
        return await fault()

    return of_view(get)


def in_view_later(fault):
    async def get(self, request):
        await soon(request)
        return await fault()

    return of_view(get)


def in_ordered_view(fault):
    return of_view(in_view(fault)["view"].get, ordered=True)


def in_answer(fault):
    return of_view(lambda self, request: fault())


def in_stream(fault):
    async def get(self, request):
        yield await fault()

    return of_view(get)


def in_stream_later(fault):
    async def get(self, request):
        await soon(request)
        await fault()
        yield 1

    return of_view(get)


def in_permission(fault):
    class Permission:
        @staticmethod
        async def check(request, view):
            return await fault()

    return of_view(lambda self, request: 1, permission_classes=[Permission])


def in_middleware(fault):
    class Middleware:
        async def process_request(self, request, handler):
            await fault()

    return {"middlewares": [Middleware()]}


def in_middleware_after(fault):
    class Middleware:
        def process_request(self, request, handler):
            pass

        def process_response(self, request, response):
            return fault()

    return {"middlewares": [Middleware()]}


def in_view_behind_middleware(fault):
    return {**in_view_later(fault), "middlewares": [Passing()]}


def in_stream_behind_middleware(fault):
    return {**in_stream(fault), "middlewares": [Passing()]}


class Passing:
    def process_request(self, request, handler):
        pass


def on_subscribe(fault):
    async def hook(request, topic):
        return await fault()

    return {"topic": {"on_subscribe": hook}}


def in_presence_info(fault):
    return {"topic": {"presence": True}, "presence_info": lambda request: fault()}


PLACES = [
    in_view,
    in_view_later,
    in_ordered_view,
    in_answer,
    in_stream,
    in_stream_later,
    in_permission,
    in_middleware,
    in_middleware_after,
    in_view_behind_middleware,
    in_stream_behind_middleware,
    on_subscribe,
    in_presence_info,
]


async def served(network, view=Hello, middlewares=(), topic=None, presence_info=None):
    router = SimpleRouter()
    router.register("/hello", Hello, "GET")
    router.register("/view", view, "GET")
    if topic is not None:
        router.register_topic("view", **topic)
    router.middlewares.extend(middlewares)
    factory = RequestHandlerFactory(router=router, presence_info=presence_info)
    return await network.connect(await network.serve(factory=factory))


async def asked(client, method="GET", url="/view"):
    return json.loads(await client.ask({"method": method, "url": url, "id": 7}))


def errors(caplog):
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.logs_errors
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", FAULTS)
@pytest_twisted.ensureDeferred
async def test_what_others_have_cancelled_is_our_fault(network, caplog, place, fault):
    client = await served(network, **place(fault))
    is_topic = place in (on_subscribe, in_presence_info)
    message = ("SUBSCRIBE", "view") if is_topic else ("GET", "/view")
    reply = await asked(client, *message)
    assert (reply["status"], reply["detail"]) == (500, OUR_FAULT)
    [error] = errors(caplog)
    assert error.request_id in error.getMessage()
    assert issubclass(error.exc_info[0], (asyncio.CancelledError, CancelledError))
    assert error.exc_info[2] is not None
    caplog.clear()
    if not place(fault).get("middlewares"):
        assert await client.ask(HELLO) == HELLO_REPLY
        assert not errors(caplog)


def raising(exc):
    def get(self, request):
        raise exc

    return get


class CancelledRenderer(JSONRenderer):
    def render(self, data):
        raise asyncio.CancelledError


def in_blocking_view(exc):
    return of_view(raising(exc), blocking=True)


def in_plain_view(exc):
    return of_view(raising(exc))


def in_plain_view_behind_middleware(exc):
    return {**of_view(raising(exc)), "middlewares": [Passing()]}


def in_renderer(exc):
    renderer = type("Renderer", (JSONRenderer,), {"render": raising(exc)})
    return of_view(lambda self, request: 1, renderers=(renderer,))


def in_renderer_behind_middleware(exc):
    return {**in_renderer(exc), "middlewares": [Passing()]}


def in_renderer_later(exc):
    renderer = type("Renderer", (JSONRenderer,), {"render": raising(exc)})
    return of_view(lambda self, request: soon(request), renderers=(renderer,))


@pytest.mark.logs_errors
@pytest.mark.parametrize("kind", [asyncio.CancelledError, CancelledError])
@pytest.mark.parametrize(
    "place",
    [
        in_plain_view,
        in_plain_view_behind_middleware,
        in_blocking_view,
        in_renderer,
        in_renderer_behind_middleware,
        in_renderer_later,
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_function_that_raises_a_cancellation_is_our_fault(network, caplog, place, kind):
    client = await served(network, **place(kind("by hand")))
    reply = await asked(client)
    assert (reply["status"], reply["detail"]) == (500, OUR_FAULT)
    [error] = errors(caplog)
    assert error.exc_info[0] is kind
    assert error.exc_info[2] is not None


@pytest.mark.logs_errors
@pytest.mark.parametrize("end", [asyncio.CancelledError, SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("later", [False, True])
@pytest_twisted.ensureDeferred
async def test_an_error_handler_that_raises_what_it_likes_is_our_fault(
    network, caplog, end, later
):
    def handler(request, exc):
        raise end

    async def get(self, request):
        if later:
            await soon(request)
        raise LookupError

    router = SimpleRouter()
    router.register("/view", type("View", (MethodBasedView,), {"get": get}), "GET")
    router.error_handlers[LookupError] = handler
    client = await network.connect(await network.serve(router))
    assert (await asked(client))["status"] == 500
    [error] = errors(caplog)
    assert error.exc_info[0] is end


# A call that cancels itself


def cancel_this():
    asyncio.current_task().cancel()


async def view_that_returns(self, request):
    cancel_this()
    return 1


async def view_that_waits(self, request):
    cancel_this()
    await asyncio.sleep(60)


async def view_that_returns_later(self, request):
    await soon(request)
    cancel_this()
    return 1


async def view_that_is_cancelled_by_another(self, request):
    asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
    await Deferred()


async def view_that_hands_on_its_task(self, request):
    task = asyncio.current_task()

    async def child():
        task.cancel()

    async with asyncio.TaskGroup() as group:
        group.create_task(child())


async def stream_that_waits(self, request):
    cancel_this()
    await soon(request)
    yield 1


async def stream_that_waits_later(self, request):
    await soon(request)
    cancel_this()
    await asyncio.sleep(0)
    yield 1


async def stream_that_returns(self, request):
    cancel_this()
    return
    yield


@asyncio_only
@pytest.mark.parametrize("middlewares", [0, 1])
@pytest.mark.parametrize(
    "get",
    [
        view_that_returns,
        view_that_waits,
        view_that_returns_later,
        view_that_is_cancelled_by_another,
        view_that_hands_on_its_task,
        stream_that_waits,
        stream_that_waits_later,
        stream_that_returns,
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_call_that_cancels_its_own_task_is_499(network, caplog, get, middlewares):
    client = await served(network, middlewares=[Passing()] * middlewares, **of_view(get))
    reply = await asked(client)
    assert (reply.get("status"), reply.get("detail")) == (499, CANCELLED)
    assert await client.ask(HELLO) == HELLO_REPLY
    assert not errors(caplog)


@asyncio_only
@pytest.mark.parametrize("waits", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_stream_that_cancels_its_task_and_yields_ends_with_499(network, caplog, waits):
    async def get(self, request):
        yield 1
        cancel_this()
        while True:
            yield 2
            if waits:
                await asyncio.sleep(0)

    client = await served(network, **of_view(get))
    client.send({"method": "GET", "url": "/view"})
    replies = []
    while not replies or replies[-1].get("stream") == "next":
        replies.append(json.loads(await client.receive()))
    assert replies[0]["data"] == 1
    assert replies[-1]["status"] == 499
    assert await client.ask(HELLO) == HELLO_REPLY
    assert not errors(caplog)


@asyncio_only
@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("hook", ["process_request", "process_response"])
@pytest_twisted.ensureDeferred
async def test_a_middleware_that_cancels_its_call_gives_499(network, caplog, hook, is_late):
    async def cancel(self, request, other):
        if is_late:
            await soon(request)
        cancel_this()

    members = {"process_request": Passing.process_request, hook: cancel}
    client = await served(network, middlewares=[type("Middleware", (), members)()])
    assert (await asked(client))["status"] == 499
    assert not errors(caplog)


# Cancelled by the client, which no error line tells


async def waits(self, request):
    await Deferred()


async def waits_in_a_group(self, request):
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(60))


def answers_never(self, request):
    return Deferred()


async def streams_never(self, request):
    await Deferred()
    yield 1


@pytest.mark.parametrize("how", ["cancel", "timeout", "leave"])
@pytest.mark.parametrize("middlewares", [0, 1])
@pytest.mark.parametrize(
    "get",
    [
        waits,
        answers_never,
        streams_never,
        pytest.param(waits_in_a_group, marks=asyncio_only),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_client_that_ends_its_call_causes_no_error(network, caplog, get, middlewares, how):
    client = await served(network, middlewares=[Passing()] * middlewares, **of_view(get))
    [connection] = network.factories[0].connections
    timeout = {"timeout": 0.01} if how == "timeout" else {}
    client.send({"method": "GET", "url": "/view", "id": 7, **timeout})
    if how == "leave":
        await client.ask({"method": "UNSUBSCRIBE", "url": "hello"})
        client.sendClose()
        await client.closed
    else:
        if how == "cancel":
            client.send({"method": "CANCEL", "id": 7})
        reply = json.loads(await client.receive())
        assert reply["status"] == (499 if how == "cancel" else 408)
    await until(lambda: not connection.calls_in_flight)
    assert not errors(caplog)


# One failure in a group


class NoStock(BaseAPIException):
    status = 409
    default_detail = "Sold out."


async def fails(exc):
    await asyncio.sleep(0)
    raise exc


async def in_group(self, request):
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(60))
        group.create_task(fails(NoStock()))


async def in_nested_groups(self, request):
    async with asyncio.TaskGroup(), asyncio.TaskGroup() as group:
        await soon(request)
        group.create_task(fails(NoStock()))


async def raised_in_group(self, request):
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(60))
        raise NoStock


async def streamed(self, request):
    async with asyncio.TaskGroup() as group:
        group.create_task(fails(NoStock()))
        await asyncio.sleep(60)
    yield 1


def by_hand(self, request):
    raise BaseExceptionGroup("a", [ExceptionGroup("b", [ExceptionGroup("c", [NoStock()])])])


async def with_a_cancelled_sibling(self, request):
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(60)).cancel()
        group.create_task(fails(NoStock()))


GROUPS = [in_group, in_nested_groups, raised_in_group, streamed, by_hand, with_a_cancelled_sibling]


@asyncio_only
@pytest.mark.parametrize("middlewares", [0, 1])
@pytest.mark.parametrize("get", GROUPS)
@pytest_twisted.ensureDeferred
async def test_the_only_failure_of_a_group_is_that_of_the_call(network, caplog, get, middlewares):
    client = await served(network, middlewares=[Passing()] * middlewares, **of_view(get))
    reply = await asked(client)
    assert (reply.get("status"), reply.get("detail")) == (409, "Sold out.")
    assert not errors(caplog)


@asyncio_only
@pytest.mark.parametrize("get", GROUPS)
@pytest_twisted.ensureDeferred
async def test_the_only_failure_of_a_group_has_its_own_error_handler(network, get):
    router = SimpleRouter()
    router.register("/view", of_view(get)["view"], "GET")
    router.error_handlers[Exception] = lambda request, exc: BaseAPIException("any", status=503)
    router.error_handlers[NoStock] = lambda request, exc: BaseAPIException("mine", status=410)
    client = await network.connect(await network.serve(router))
    assert (await asked(client))["detail"] == "mine"


@asyncio_only
@pytest_twisted.ensureDeferred
async def test_the_only_exception_of_a_group_may_have_an_error_handler(network):
    async def get(self, request):
        async with asyncio.TaskGroup() as group:
            group.create_task(fails(KeyError("no such order")))

    router = SimpleRouter()
    router.register("/view", of_view(get)["view"], "GET")
    router.error_handlers[LookupError] = lambda request, exc: BaseAPIException("gone", status=410)
    client = await network.connect(await network.serve(router))
    assert (await asked(client))["detail"] == "gone"


@pytest.mark.logs_errors
@pytest.mark.parametrize(
    "exceptions",
    [
        [NoStock(), NoStock()],
        [NoStock(), ValueError()],
        [ExceptionGroup("b", [NoStock(), NoStock()])],
        [ExceptionGroup("b", [ValueError()])],
    ],
    ids=["two", "another", "nested", "a fault"],
)
@pytest_twisted.ensureDeferred
async def test_a_group_of_anything_else_is_our_fault(network, caplog, exceptions):
    group = ExceptionGroup("a", exceptions)
    client = await served(network, **of_view(raising(group)))
    assert (await asked(client))["status"] == 500
    [error] = errors(caplog)
    assert error.exc_info[1] is group
