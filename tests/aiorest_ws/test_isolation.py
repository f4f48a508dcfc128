"""Nothing of one request is visible to another."""

import contextvars
import json
import sys
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from aiorest_ws.abstract import AbstractMiddleware
from aiorest_ws.request import RequestHandlerFactory, RequestHandlerProtocol
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.views import MethodBasedView
from aiorest_ws.wrappers import Request
from support.bad_input import (
    GOOD,
    GOOD_REPLY,
    NO_URL,
    OUR_FAULT,
    SENT,
    failure,
    hello_router,
    reply_to,
    soon,
)


async def ask(client: Any, **message: Any) -> Any:
    """Make a call; what its reply says."""
    reply, is_binary = await reply_to(client, json.dumps(message).encode())
    assert not is_binary
    return json.loads(reply)


class Look(MethodBasedView):
    """Tell what a request has besides its own members."""

    def get(self, request, **options):
        own = set(dir(Request(method="GET")))
        return {
            "extra": sorted(name for name in dir(request) if name not in own),
            "token": request.token,
            "args": request.args,
            "data": request.data,
            "timeout": request.timeout,
        }


CLEAN = {"extra": [], "token": None, "args": {}, "data": None, "timeout": None}


@pytest_twisted.ensureDeferred
async def test_what_a_client_sends_is_on_its_own_request_only(network):
    router = SimpleRouter()
    router.register("/look", Look, "GET")
    port = await network.serve(router)
    client, other = await network.connect(port), await network.connect(port)
    before = dir(Request), dir(RequestHandlerProtocol), dir(Look)
    look = {"method": "GET", "url": "/look"}
    sent = {"token": "t", "args": {"a": 1}, "data": [1], "timeout": 9, "colour": "red", "size": 1}
    reply = await ask(client, **look, **sent, event_name="mine", id="i-1")
    assert reply == {
        "data": {
            "extra": ["colour", "size"],
            "token": "t",
            "args": {"a": 1},
            "data": [1],
            "timeout": 9,
        },
        "event_name": "mine",
        "id": "i-1",
    }
    for each in (client, other, await network.connect(port)):
        assert await ask(each, **look) == {"data": CLEAN, "event_name": None}
    assert (dir(Request), dir(RequestHandlerProtocol), dir(Look)) == before


@pytest_twisted.ensureDeferred
async def test_a_refused_message_leaves_nothing_behind(network):
    router = SimpleRouter()
    router.register("/look", Look, "GET")
    client = await network.connect(await network.serve(router))
    for bad in ({"get_argument": 1}, {"_data": 1}, {"user": "root"}, {"url": 1}, {"id": []}):
        message = {"method": "GET", "url": "/look", "token": "t", "colour": "red", **bad}
        assert (await ask(client, **message))["status"] == 400
    assert await ask(client, method="GET", url="/look") == {"data": CLEAN, "event_name": None}


@pytest_twisted.ensureDeferred
async def test_a_view_that_changes_its_request_changes_no_other(network):
    class Changes(MethodBasedView):
        def get(self, request, items=(), **options):
            seen = [list(request.args), getattr(self, "mark", None), options.get("mark")]
            request.args["mark"] = options["mark"] = self.mark = "set"
            request.mark = request.token = request.event_name = "set"
            return seen

    router = hello_router()
    router.register("/changes", Changes, "GET")
    client = await network.connect(await network.serve(router))
    for _ in range(2):
        assert (await ask(client, method="GET", url="/changes"))["data"] == [[], None, None]
        reply = await ask(client, method="GET", url="/changes", args={"items": [1]}, id=1)
        assert reply["data"] == [["items"], None, None]
    assert await reply_to(client, GOOD) == (GOOD_REPLY, False)


class Guard(AbstractMiddleware):
    """Set what a client may not."""

    request_attributes = ("role", "tenant")

    def process_request(self, request, handler):
        request.role = "guest"


class Role(MethodBasedView):
    def get(self, request):
        return request.role


@pytest.mark.parametrize("name", ["role", "tenant"])
@pytest_twisted.ensureDeferred
async def test_a_key_that_a_middleware_sets_cannot_be_sent(network, name):
    router = SimpleRouter()
    router.register("/role", Role, "GET")
    router.middlewares.append(Guard())
    client = await network.connect(await network.serve(router))
    message = f'{{"method":"GET","url":"/role","{name}":"admin",{SENT}}}'
    detail = f"The key {name!r} is reserved and cannot be sent."
    assert await reply_to(client, message.encode()) == (failure(400, detail, SENT), False)
    expected = b'{"data":"guest","event_name":null}'
    assert await reply_to(client, b'{"method":"GET","url":"/role"}') == (expected, False)


note: contextvars.ContextVar[str] = contextvars.ContextVar("note", default="clean")


class Notes(MethodBasedView):
    """Tell what the context variable holds, and leave something in it."""

    def get(self, request):
        found = note.get()
        note.set(request.event_name)
        return found


class NotesOfCoroutine(Notes):
    async def get(self, request):
        return super().get(request)


class NotesAcrossTurns(Notes):
    async def get(self, request):
        found = super().get(request)
        await soon(request)
        assert note.get() == request.event_name
        return found


class NotesOfDeferred(Notes):
    def get(self, request):
        found = super().get(request)
        return soon(request).addCallback(lambda _: found)


class NotesBeside(Notes):
    blocking = True


class NoteTaker(AbstractMiddleware):
    def process_request(self, request, handler):
        assert note.get() == "clean"
        note.set("middleware")


@pytest.mark.parametrize(
    "view",
    [
        Notes,
        NotesOfCoroutine,
        NotesAcrossTurns,
        NotesOfDeferred,
        NotesBeside,
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_context_variable_is_for_one_request(network, view):
    router = SimpleRouter()
    router.register("/notes", view, "GET")
    # One thread, so that the second blocking call is in the thread of the first.
    factory = RequestHandlerFactory(router=router, blocking_threads=1)
    port = await network.serve(factory=factory)
    first, second = await network.connect(port), await network.connect(port)
    for client in (first, first, second):
        reply = await ask(client, method="GET", url="/notes", event_name="mine")
        assert reply == {"data": "clean", "event_name": "mine"}
    replies = await gatherResults(
        [
            reply_to(client, b'{"method":"GET","url":"/notes","event_name":"%d"}' % number)
            for number, client in enumerate([first, second])
        ]
    )
    assert replies == [
        (b'{"data":"clean","event_name":"%d"}' % number, False) for number in range(2)
    ]
    assert note.get() == "clean"


@pytest.mark.parametrize(
    "view",
    [
        Notes,
        NotesOfCoroutine,
        NotesAcrossTurns,
        NotesBeside,
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_view_sees_the_context_of_its_own_middlewares_only(network, view):
    router = SimpleRouter()
    router.register("/notes", view, "GET")
    router.middlewares.append(NoteTaker())
    client = await network.connect(await network.serve(router))
    for _ in range(2):
        reply = await ask(client, method="GET", url="/notes", event_name="mine")
        assert reply == {"data": "middleware", "event_name": "mine"}


@pytest.mark.asyncio_reactor
@pytest_twisted.ensureDeferred
async def test_what_is_kept_by_task_is_for_one_request(network):
    # SQLAlchemy's async_scoped_session(scopefunc=asyncio.current_task) keeps sessions so.
    import asyncio
    import weakref

    sessions: Any = weakref.WeakKeyDictionary()

    class Sessions(MethodBasedView):
        async def get(self, request):
            session = sessions.setdefault(asyncio.current_task(), [])
            session.append(request.event_name)
            await asyncio.sleep(0)
            return session

    router = SimpleRouter()
    router.register("/sessions", Sessions, "GET")
    client = await network.connect(await network.serve(router))
    for name in ("first", "second"):
        reply = await ask(client, method="GET", url="/sessions", event_name=name)
        assert reply == {"data": [name], "event_name": name}


@pytest.mark.logs_errors
@pytest.mark.parametrize("later", [False, True], ids=["at-once", "later"])
@pytest_twisted.ensureDeferred
async def test_an_exception_is_not_the_context_of_the_next(network, caplog, later):
    class Alternates(MethodBasedView):
        def get(self, request):
            raise ValueError(request.event_name)

        async def post(self, request):
            await soon(request)
            raise ValueError(request.event_name)

        def put(self, request):
            return repr(sys.exc_info()[1])

    router = SimpleRouter()
    router.register("/alternates", Alternates, ["GET", "POST", "PUT"])
    client = await network.connect(await network.serve(router))
    method = "POST" if later else "GET"
    for name in ("first", "second"):
        reply = await ask(client, method=method, url="/alternates", event_name=name)
        assert reply == {"detail": OUR_FAULT, "status": 500, "event_name": name}
    assert (await ask(client, method="PUT", url="/alternates"))["data"] == "None"
    raised = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert [str(exc) for exc in raised] == ["first", "second"]
    assert [exc.__context__ for exc in raised] == [None, None]


@pytest_twisted.ensureDeferred
async def test_replies_that_overtake_each_other_reach_their_own_clients(network):
    class Overtakes(MethodBasedView):
        waiting: list[Any] = []

        def get(self, request):
            self.waiting.append((Deferred(), request))
            return self.waiting[-1][0]

    router = SimpleRouter()
    router.register("/overtakes", Overtakes, "GET")
    port = await network.serve(router)
    clients = [await network.connect(port) for _ in range(2)]
    for number in range(2):
        for index, client in enumerate(clients):
            message = {"token": f"t{index}", "colour": f"c{number}", "id": number}
            client.send({"method": "GET", "url": "/overtakes", **message})
            # In the order of sending, whichever connection is read first.
            assert await reply_to(client, b"{}") == (failure(400, NO_URL), False)
    for answer, of in reversed(Overtakes.waiting):
        answer.callback([of.token, of.connection.transport.getPeer().port, of.colour])
    for index, client in enumerate(clients):
        port = client.transport.getHost().port
        for number in (1, 0):
            reply = json.loads(await client.receive())
            expected = [f"t{index}", port, f"c{number}"]
            assert reply == {"data": expected, "event_name": None, "id": number}
