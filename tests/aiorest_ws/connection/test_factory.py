"""The factory: how it is made, its router, and its threads."""

import json
import threading

import pytest
import pytest_twisted
from twisted.internet.defer import DeferredList

from aiorest_ws.request import RequestHandlerFactory, RequestHandlerProtocol
from aiorest_ws.routers import SimpleRouter
from support.hello import HELLO, HELLO_REPLY
from support.views import data_of, router_of, view

# Blocking views


@pytest_twisted.ensureDeferred
async def test_a_blocking_view_runs_in_a_thread_of_the_server(network):
    def where(request):
        return threading.current_thread() is threading.main_thread()

    client = await network.connect(
        await network.serve(router_of(where=view(where, blocking=True)))
    )
    assert json.loads(await client.ask({"method": "GET", "url": "/where"}))["data"] is False


@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_a_blocking_view_that_raises_is_a_failure(network):
    client = await network.connect(
        await network.serve(router_of(fail=view(lambda request: 1 / 0, blocking=True)))
    )
    assert json.loads(await client.ask({"method": "GET", "url": "/fail"}))["status"] == 500


@pytest_twisted.ensureDeferred
async def test_more_blocking_calls_than_may_wait_are_503(network, monkeypatch):
    monkeypatch.setattr("aiorest_ws.dispatch.blocking.MAX_WAITING_CALLS", 1)
    release = threading.Event()
    blocked = view(lambda request: release.wait(30), blocking=True)
    factory = RequestHandlerFactory(router=router_of(block=blocked), blocking_threads=1)
    client = await network.connect(await network.serve(factory=factory))
    for number in range(3):
        client.send({"method": "GET", "url": "/block", "id": number})
    assert json.loads(await client.receive()) == {
        "detail": "The server is busy, try again later.",
        "status": 503,
        "event_name": None,
        "id": 2,
    }
    release.set()
    assert {json.loads(await client.receive())["id"] for _ in range(2)} == {0, 1}


@pytest_twisted.ensureDeferred
async def test_a_factory_that_stops_does_not_wait_for_a_thread_that_hangs(network):
    release = threading.Event()
    factory = RequestHandlerFactory()
    running = factory.run_blocking(lambda: release.wait(30))
    factory.stopFactory()
    release.set()
    assert await running is True


@pytest_twisted.ensureDeferred
async def test_a_factory_lets_idle_threads_go():
    factory = RequestHandlerFactory()
    [name] = await DeferredList(
        [factory.run_blocking(lambda: threading.current_thread().name)]
    ).addCallback(lambda results: [value for _, value in results])
    factory.stopFactory()
    assert name not in {thread.name for thread in threading.enumerate()}


# Construction


def test_both_can_be_made_without_arguments():
    assert isinstance(RequestHandlerFactory().router, SimpleRouter)
    assert RequestHandlerProtocol().close_reason is None


def test_a_router_can_be_given_or_set():
    router = SimpleRouter()
    assert RequestHandlerFactory(router=router).router is router
    factory = RequestHandlerFactory("ws://127.0.0.1:9000")
    factory.router = router
    assert factory.router is router


@pytest.mark.parametrize("wrong", [object(), SimpleRouter, "router"])
def test_anything_but_a_router_is_a_type_error(wrong):
    with pytest.raises(TypeError, match="router must be an AbstractRouter"):
        RequestHandlerFactory().router = wrong


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(TypeError, match=r"unknown option 'ruoter'; did you mean 'router'\?"):
        RequestHandlerFactory(ruoter=SimpleRouter())
    with pytest.raises(TypeError, match=r"unknown option 'zzz'$"):
        RequestHandlerFactory(zzz=1)


def test_a_subclass_may_pass_its_own_keywords_on():
    class CustomHandlerFactory(RequestHandlerFactory):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self._cookies = kwargs.get("cookies_dump", {})

        @property
        def cookies(self):
            return self._cookies

    assert CustomHandlerFactory(cookies_dump={"a": 1}).cookies == {"a": 1}
    assert CustomHandlerFactory().cookies == {}


@pytest_twisted.ensureDeferred
async def test_an_open_connection_is_answered_by_the_router_that_its_factory_has_now(network):
    factory = RequestHandlerFactory(router=router_of())
    client = await network.connect(await network.serve(factory=factory))
    client.send(HELLO)
    assert await client.replies.get() == (HELLO_REPLY, False)
    other = SimpleRouter()
    other.register("/hello", view(lambda request: "other"), "GET")
    factory.router = other
    client.send(HELLO)
    assert await data_of(client) == "other"


@pytest_twisted.ensureDeferred
async def test_a_factory_may_have_a_router_of_its_own_making(network):
    routers = []

    class Choosing(RequestHandlerFactory):
        @property
        def router(self):
            return routers[-1]

    for name in ("first", "second"):
        router = SimpleRouter()
        router.register("/hello", view(lambda request, name=name: name), "GET")
        routers.append(router)
    client = await network.connect(await network.serve(factory=Choosing()))
    client.send(HELLO)
    assert await data_of(client) == "second"
    routers.pop()
    client.send(HELLO)
    assert await data_of(client) == "first"


@pytest_twisted.ensureDeferred
async def test_a_protocol_need_not_call_the_init_of_ours(network):
    class Noting(RequestHandlerProtocol):
        def __init__(self):
            self.notes = []

        def onMessage(self, payload, isBinary):
            self.notes.append(payload)
            super().onMessage(payload, isBinary)

    factory = RequestHandlerFactory(router=router_of())
    factory.protocol = Noting
    client = await network.connect(await network.serve(factory=factory))
    client.send(HELLO)
    assert await client.replies.get() == (HELLO_REPLY, False)
    (connection,) = factory.connections
    assert [json.loads(note) for note in connection.notes] == [HELLO]


@pytest_twisted.ensureDeferred
async def test_the_init_of_a_protocol_may_ask_for_its_factory(network):
    class Asking(RequestHandlerProtocol):
        def __init__(self):
            super().__init__()
            self.greeting = self.factory.greeting

    factory = RequestHandlerFactory(router=router_of())
    factory.protocol = Asking
    factory.greeting = "hello"
    await network.connect(await network.serve(factory=factory))
    (connection,) = factory.connections
    assert connection.greeting == "hello"


def test_options_of_a_protocol_that_no_factory_has_made():
    class Small(RequestHandlerProtocol):
        maxMessagePayloadSize = 10

        def __init__(self):
            super().__init__()
            self.maxMessagePayloadSize = 20

    assert Small().maxMessagePayloadSize == 20
