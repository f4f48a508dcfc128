"""Calls that run: how many, until when, and how they are ended."""

import asyncio
import json
import logging
import threading

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from aiorest_ws.abstract import AbstractMiddleware
from aiorest_ws.decorators import endpoint
from aiorest_ws.limits import Limits
from aiorest_ws.request import RequestHandlerFactory, RequestHandlerProtocol
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.transports import install_reactor
from aiorest_ws.views import MethodBasedView
from support.waiting import until

LATER = 60


class Watched(MethodBasedView):
    """A view that waits, and tells how it has ended."""

    begun: list
    ended: list

    async def get(self, request):
        self.begun.append(request.id)
        try:
            await self.waiting(request)
        except (CancelledError, asyncio.CancelledError):
            self.ended.append(("cancelled", request.id))
            raise
        self.ended.append(("done", request.id))
        return "done"

    def waiting(self, request):
        return deferLater(install_reactor(), LATER)


class WatchedDeferred(Watched):
    def get(self, request):
        self.begun.append(request.id)
        return Deferred(lambda _: self.ended.append(("cancelled", request.id)))


class Stubborn(Watched):
    """A view that goes on when it is cancelled, until it is told to stop."""

    stop: Deferred

    async def get(self, request):
        self.begun.append(request.id)
        while not self.stop.called:
            try:
                await deferLater(install_reactor(), 0.01)
            except (CancelledError, asyncio.CancelledError):
                self.ended.append(("cancelled", request.id))
        self.ended.append(("stopped", request.id))
        return "late"


class Asyncio(Watched):
    def waiting(self, request):
        return asyncio.sleep(LATER)


KINDS = [
    Watched,
    WatchedDeferred,
    Stubborn,
    pytest.param(Asyncio, marks=pytest.mark.asyncio_reactor),
]


@endpoint("/hello", "GET")
def hello(request):
    return "hello"


@pytest.fixture(params=KINDS)
def view(request):
    """A view class of one kind, with notes of its own."""
    members = {"begun": [], "ended": [], "stop": Deferred()}
    kind = type(request.param.__name__, (request.param,), members)
    yield kind
    if not kind.stop.called:
        kind.stop.callback(None)


def served(view, **limits):
    router = SimpleRouter()
    router.register("/wait", view, "GET")
    router.register_endpoint(hello)
    return RequestHandlerFactory(router=router, limits=Limits(**limits))


def wait(request_id, **more):
    return {"method": "GET", "url": "/wait", "id": request_id, **more}


def cancel(request_id):
    return {"method": "CANCEL", "id": request_id}


def reply(status, detail, request_id):
    return {"detail": detail, "status": status, "event_name": None, "id": request_id}


CANCELLED = "The call was cancelled."
TOO_LONG = "The call took too long."
HELLO = {"method": "GET", "url": "/hello", "id": "hello"}
HELLO_REPLY = {"data": "hello", "event_name": None, "id": "hello"}


# CANCEL


@pytest.mark.parametrize("binary", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_cancelled_call_ends_and_answers_499(network, view, binary):
    client = await network.connect(await network.serve(factory=served(view)))
    client.send(wait(7), binary)
    await until(lambda: view.begun)
    answer = json.loads(await client.ask(cancel(7)))
    assert answer == reply(499, CANCELLED, 7)
    await until(lambda: view.ended)
    assert view.ended[0] == ("cancelled", 7)
    assert json.loads(await client.ask(HELLO)) == HELLO_REPLY


@pytest_twisted.ensureDeferred
async def test_an_id_is_free_again_when_its_call_is_cancelled(network, view):
    client = await network.connect(await network.serve(factory=served(view)))
    for count in (1, 2):
        client.send(wait("again"))
        await until(lambda count=count: len(view.begun) == count)
        assert json.loads(await client.ask(cancel("again")))["status"] == 499


@pytest.mark.parametrize("unknown", [8, "7", 0, "x"])
@pytest_twisted.ensureDeferred
async def test_a_cancel_of_what_does_not_run_has_no_answer(network, unknown):
    view = type("View", (Watched,), {"begun": [], "ended": []})
    client = await network.connect(await network.serve(factory=served(view)))
    client.send(wait(7))
    await until(lambda: view.begun)
    client.send(cancel(unknown))
    assert json.loads(await client.ask(HELLO)) == HELLO_REPLY
    assert view.ended == []


@pytest.mark.parametrize("word", ["CANCEL", "cancel", " Cancel "])
@pytest_twisted.ensureDeferred
async def test_a_cancel_without_an_id_is_refused(network, word):
    client = await network.connect(await network.serve(SimpleRouter()))
    answer = json.loads(await client.ask({"method": word, "event_name": "e"}))
    detail = "`id` is missing: CANCEL ends the call that has it."
    assert answer == {"detail": detail, "status": 400, "event_name": "e"}


@pytest_twisted.ensureDeferred
async def test_a_cancel_is_for_the_calls_of_its_own_connection(network):
    view = type("View", (Watched,), {"begun": [], "ended": []})
    port = await network.serve(factory=served(view))
    one, other = await network.connect(port), await network.connect(port)
    one.send(wait(7))
    await until(lambda: view.begun)
    other.send(cancel(7))
    assert json.loads(await other.ask(HELLO)) == HELLO_REPLY
    assert view.ended == []


@pytest_twisted.ensureDeferred
async def test_a_call_that_waits_in_a_line_can_be_cancelled_and_the_line_goes_on(network):
    view = type("View", (Watched,), {"begun": [], "ended": [], "ordered": True})
    client = await network.connect(await network.serve(factory=served(view)))
    for request_id in (1, 2, 3):
        client.send(wait(request_id))
    await until(lambda: view.begun)
    assert json.loads(await client.ask(cancel(2))) == reply(499, CANCELLED, 2)
    assert json.loads(await client.ask(cancel(1))) == reply(499, CANCELLED, 1)
    await until(lambda: view.begun == [1, 3])


@pytest_twisted.ensureDeferred
async def test_middlewares_hear_of_a_cancelled_call(network):
    heard = Deferred()

    class Listening(AbstractMiddleware):
        def process_request(self, request, handler):
            pass

        def process_response(self, request, response):
            heard.callback(response.status)

    view = type("View", (Watched,), {"begun": [], "ended": []})
    factory = served(view)
    factory.router.middlewares.append(Listening())
    client = await network.connect(await network.serve(factory=factory))
    client.send(wait(7))
    await until(lambda: view.begun)
    assert json.loads(await client.ask(cancel(7))) == reply(499, CANCELLED, 7)
    assert await heard == 499


# Deadlines


@pytest.mark.parametrize("by", ["request", "view", "server"])
@pytest_twisted.ensureDeferred
async def test_a_call_that_takes_too_long_ends_and_answers_408(network, view, by, caplog):
    caplog.set_level(logging.INFO, "aiorest-ws")
    if by == "view":
        view.call_seconds = 0.05
    factory = served(view, call_seconds=0.05 if by == "server" else None)
    client = await network.connect(await network.serve(factory=factory))
    more = {"timeout": 0.05} if by == "request" else {}
    assert json.loads(await client.ask(wait(7, **more))) == reply(408, TOO_LONG, 7)
    await until(lambda: view.ended)
    assert view.ended[0] == ("cancelled", 7)
    assert factory.limit_hits == {"call_seconds": 1}
    assert json.loads(await client.ask(HELLO)) == HELLO_REPLY


@pytest.mark.parametrize(
    ("of_view", "of_server", "of_request"), [(0.05, 60, 30), (0.05, None, 30), (None, 0.05, 30)]
)
@pytest_twisted.ensureDeferred
async def test_a_request_only_shortens_the_servers_time(network, of_view, of_server, of_request):
    members = {"begun": [], "ended": [], "call_seconds": of_view}
    factory = served(type("View", (Watched,), members), call_seconds=of_server)
    client = await network.connect(await network.serve(factory=factory))
    answer = json.loads(await client.ask(wait(7, timeout=of_request)))
    assert answer == reply(408, TOO_LONG, 7)


@pytest_twisted.ensureDeferred
async def test_a_view_may_give_more_time_than_the_server(network):
    class Slow(MethodBasedView):
        call_seconds = 60

        async def get(self, request):
            await deferLater(install_reactor(), 0.2)
            return "done"

    client = await network.connect(await network.serve(factory=served(Slow, call_seconds=0.05)))
    assert json.loads(await client.ask(wait(7)))["data"] == "done"


@pytest_twisted.ensureDeferred
async def test_a_blocking_view_is_answered_in_time_and_keeps_its_thread(network, monkeypatch):
    monkeypatch.setattr("aiorest_ws.dispatch.blocking.MAX_WAITING_CALLS", 0)
    go_on, ended = threading.Event(), threading.Event()

    class Blocking(MethodBasedView):
        blocking = True

        def get(self, request):
            go_on.wait(30)
            ended.set()

    factory = RequestHandlerFactory(router=served(Blocking).router, blocking_threads=1)
    client = await network.connect(await network.serve(factory=factory))
    assert json.loads(await client.ask(wait(7, timeout=0.05))) == reply(408, TOO_LONG, 7)
    assert json.loads(await client.ask(wait(8)))["status"] == 503
    assert not ended.is_set()
    go_on.set()
    answer = {"status": 503}
    while answer.get("status") == 503:  # until the thread has told that it is free
        answer = json.loads(await client.ask(wait(9)))
    assert ended.is_set()
    assert "data" in answer


@pytest_twisted.ensureDeferred
async def test_a_call_that_is_done_leaves_no_timer(network):
    class Quick(MethodBasedView):
        async def get(self, request):
            await deferLater(install_reactor(), 0.01)

    client = await network.connect(await network.serve(factory=served(Quick)))
    await client.ask(wait(7, timeout=3600))
    times = [call.getTime() for call in network.reactor.getDelayedCalls()]
    assert all(time < network.reactor.seconds() + 3000 for time in times)


# A client that goes


@pytest_twisted.ensureDeferred
async def test_a_closed_connection_ends_its_calls(network, view):
    client = await network.connect(await network.serve(factory=served(view)))
    for request_id in (1, 2):
        client.send(wait(request_id))
    await until(lambda: len(view.begun) == 2)
    client.transport.abortConnection()
    await until(lambda: len(view.ended) >= 2)
    assert {("cancelled", 1), ("cancelled", 2)} <= set(view.ended)


@pytest_twisted.ensureDeferred
async def test_a_closed_connection_ends_its_deadlines(network):
    view = type("View", (Watched,), {"begun": [], "ended": []})
    client = await network.connect(await network.serve(factory=served(view)))
    client.send(wait(1, timeout=3600))
    await until(lambda: view.begun)
    client.transport.abortConnection()
    await until(lambda: view.ended)
    times = [call.getTime() for call in network.reactor.getDelayedCalls()]
    assert all(time < network.reactor.seconds() + 3000 for time in times)


@pytest_twisted.ensureDeferred
async def test_a_view_may_end_its_own_connection(network):
    @endpoint("/bye", "GET")
    async def bye(request):
        request.connection.transport.abortConnection()
        await deferLater(install_reactor(), 0.01)
        return "nobody hears"

    router = SimpleRouter()
    router.register_endpoint(bye)
    client = await network.connect(await network.serve(router))
    client.send({"method": "GET", "url": "/bye"})
    await client.closed


# How many


@pytest_twisted.ensureDeferred
async def test_calls_over_the_limit_wait_for_one_to_end(network):
    view = type("View", (Watched,), {"begun": [], "ended": []})
    client = await network.connect(await network.serve(factory=served(view, calls_in_flight=2)))
    for request_id in range(5):
        client.send(wait(request_id))
    client.send(HELLO)
    await until(lambda: view.begun == [0, 1])
    # A CANCEL does not wait.
    assert json.loads(await client.ask(cancel(0))) == reply(499, CANCELLED, 0)
    await until(lambda: view.begun == [0, 1, 2])
    for request_id in (1, 2):
        assert json.loads(await client.ask(cancel(request_id))) == reply(
            499, CANCELLED, request_id
        )
    await until(lambda: view.begun == [0, 1, 2, 3, 4])
    client.send(cancel(3))
    assert json.loads(await client.receive()) == reply(499, CANCELLED, 3)
    assert json.loads(await client.receive()) == HELLO_REPLY


@pytest.mark.parametrize("binary", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_ping_and_a_cancel_pass_what_waits(network, binary):
    view = type("View", (Watched,), {"begun": [], "ended": []})
    client = await network.connect(await network.serve(factory=served(view, calls_in_flight=1)))
    client.pong = Deferred()
    client.onPong = client.pong.callback
    client.send(wait(1))
    for _ in range(100):
        client.send(HELLO)
    client.sendPing(b"there?")
    assert await client.pong == b"there?"
    client.send(cancel(1), binary)
    answers = [json.loads(await client.receive()) for _ in range(101)]
    assert answers == [reply(499, CANCELLED, 1), *[HELLO_REPLY] * 100]


@pytest_twisted.ensureDeferred
async def test_what_waits_is_bounded_and_nothing_is_lost(network):
    view = type("View", (Watched,), {"begun": [], "ended": []})
    factory = served(view, calls_in_flight=1, waiting_bytes=10_000)
    client = await network.connect(await network.serve(factory=factory))
    client.send(wait(1))
    await until(lambda: view.begun)
    [connection] = factory.connections
    count = 2000
    for number in range(count):
        client.send({**HELLO, "id": number, "extra": "x" * 1000})
    await until(lambda: connection.queued_bytes >= 10_000)
    await deferLater(network.reactor, 0.1)
    assert connection.queued_bytes <= 10_000 + 2_000
    assert len(connection.data) <= 512 * 1024  # what one read gives
    # The other clients do not notice.
    other = await network.connect(network.ports[0].getHost().port)
    assert json.loads(await other.ask(HELLO)) == HELLO_REPLY
    # The CANCEL of one that has filled its line is behind it.
    assert connection.cut_calls() == 1
    assert json.loads(await client.receive())["id"] == 1
    ids = [json.loads(await client.receive())["id"] for _ in range(count)]
    assert ids == list(range(count))


@pytest_twisted.ensureDeferred
async def test_a_call_answered_early_keeps_its_place_until_it_ends(network):
    stop = Deferred()
    members = {"begun": [], "ended": [], "stop": stop}
    view = type("View", (Stubborn,), members)
    client = await network.connect(await network.serve(factory=served(view, calls_in_flight=1)))
    client.send(wait(1))
    await until(lambda: view.begun)
    assert json.loads(await client.ask(cancel(1))) == reply(499, CANCELLED, 1)
    client.send(wait(2))
    await deferLater(network.reactor, 0.1)
    assert view.begun == [1]
    stop.callback(None)
    assert json.loads(await client.receive())["data"] == "late"
    assert view.begun == [1, 2]


# Replies


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("is_late", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_reply_over_the_limit_fails_its_call_only(network, binary, is_late):
    class Large(MethodBasedView):
        async def get(self, request, size):
            if is_late:
                await deferLater(install_reactor(), 0.01)
            return "x" * size

    factory = served(Large, message_bytes=1000)
    client = await network.connect(await network.serve(factory=factory))
    answer = json.loads(await client.ask(wait(7, args={"size": 1000}), binary))
    assert answer == reply(413, "The reply is too large.", 7)
    assert factory.limit_hits == {"message_bytes": 1}
    assert json.loads(await client.ask(wait(8, args={"size": 500}), binary))["data"] == "x" * 500


@pytest_twisted.ensureDeferred
async def test_a_message_over_the_limit_closes_with_1009(network, caplog):
    factory = served(Watched, message_bytes=1000)
    client = await network.connect(await network.serve(factory=factory))
    client.send(b" " * 1000)
    assert json.loads(await client.receive())["status"] == 400
    client.send(b" " * 1001)
    assert (await client.closed)[1] == 1009
    assert factory.limit_hits == {"message_bytes": 1}
    assert not [r for r in caplog.records if r.levelno > logging.INFO]


# Rates


@pytest.mark.parametrize("binary", [False, True])
@pytest_twisted.ensureDeferred
async def test_too_many_messages_are_answered_429_and_the_connection_closed(network, binary):
    factory = served(Watched, messages_per_second=5)
    client = await network.connect(await network.serve(factory=factory))
    for _ in range(5):
        assert json.loads(await client.ask(HELLO, binary)) == HELLO_REPLY
    for _ in range(50):
        client.send({**HELLO, "event_name": "e"}, binary)
    while "detail" not in (answer := json.loads(await client.receive())):
        pass  # a slow machine has earned one or two more
    assert answer == {**reply(429, "Too many messages.", "hello"), "event_name": "e"}
    assert (await client.closed)[1] == 1008
    assert factory.limit_hits["messages_per_second"] == 1


# Overrides that raise


@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_a_reply_that_cannot_be_sent_does_not_keep_the_others_waiting(network):
    class Choosy(RequestHandlerProtocol):
        def sendMessage(self, payload, *args, **options):
            if b'"id":1}' in payload:
                raise ValueError("mine")
            super().sendMessage(payload, *args, **options)

    class Slow(MethodBasedView):
        async def get(self, request):
            await deferLater(install_reactor(), 0.05)
            return "done"

    factory = served(Slow, calls_in_flight=1)
    factory.protocol = Choosy
    client = await network.connect(await network.serve(factory=factory))
    client.send(wait(1))
    assert json.loads(await client.ask(HELLO)) == HELLO_REPLY


@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_an_on_close_that_raises_does_not_keep_a_connection_counted(network):
    class Broken(RequestHandlerProtocol):
        def onClose(self, wasClean, code, reason):
            raise ValueError("mine")

    factory = served(Watched, connections=2)
    factory.protocol = Broken
    port = await network.serve(factory=factory)
    for _ in range(4):
        client = await network.connect(port)
        client.sendClose()
        await client.closed
        await until(lambda: not factory.countConnections)
