"""`Depends`: what the server makes for each call, and closes after the reply."""

import asyncio
import json
from typing import Annotated

import pytest
import pytest_twisted

from aiorest_ws import Data, Depends, MethodBasedView, Request, SimpleRouter
from aiorest_ws.exceptions import BaseAPIException, InvalidHandler
from aiorest_ws.request import RequestHandlerFactory
from support.waiting import until


class Session:
    """Notes what happens to it."""

    def __init__(self, request, log, name="session"):
        self.request = request
        self.log = log
        self.name = name


def opening(log, name="session", *, waits=False):
    async def get(request):
        log.append(f"{name} open")
        try:
            if waits:
                await asyncio.sleep(0)
            yield Session(request, log, name)
        except BaseException as exc:
            log.append(f"{name} {type(exc).__name__}")
            raise
        else:
            log.append(f"{name} commit")
        finally:
            log.append(f"{name} close")

    return get


async def served(network, router):
    return await network.connect(await network.serve(factory=RequestHandlerFactory(router=router)))


async def got(client, url, **more):
    return json.loads(await client.ask({"method": "GET", "url": url, **more}))


def value(request):
    return request.url


async def awaited(request):
    await asyncio.sleep(0)
    return request.url


class Callable:
    def __call__(self, request):
        return request.url


GETS = [value, awaited, Callable(), Callable().__call__, lambda request: request.url]


@pytest.mark.asyncio_reactor
@pytest.mark.parametrize("get", GETS)
@pytest.mark.parametrize("kind", ["function", "coroutine", "stream", "class", "blocking"])
@pytest_twisted.ensureDeferred
async def test_a_dependency_is_made_for_each_call(network, get, kind):
    router = SimpleRouter()
    made = Annotated[str, Depends(get)]
    blocking = kind == "blocking"
    if blocking and get is awaited:
        pytest.skip("a thread cannot await")
    if kind in ("function", "blocking"):

        @router.get("/a/{id}", blocking=blocking)
        def view(request: Request, id: int, url: made, more: int = 0):
            return [id, url, more]

    elif kind == "coroutine":

        @router.get("/a/{id}")
        async def view(request: Request, id: int, url: made, more: int = 0):
            await asyncio.sleep(0)
            return [id, url, more]

    elif kind == "stream":

        @router.get("/a/{id}")
        async def view(request: Request, id: int, url: made, more: int = 0):
            yield [id, url, more]

    else:

        class View(MethodBasedView):
            def get(self, request: Request, id: int, *, url: made, more: int = 0):
                return [id, url, more]

        router.register("/a/{id}", View, "GET")
    client = await served(network, router)
    assert (await got(client, "/a/5", args={"more": 7}))["data"] == [5, "/a/5", 7]
    if kind == "stream":
        await client.receive()
    refused = await got(client, "/a/5", args={"url": "mine"})
    assert refused["status"] == 400


@pytest.mark.asyncio_reactor
@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("kind", ["function", "coroutine"])
@pytest_twisted.ensureDeferred
async def test_it_is_closed_after_the_reply(network, kind, waits):
    log, may_close = [], asyncio.Event()
    router = SimpleRouter()

    async def get(request):
        before = request.connection.sent_bytes
        yield Session(request, log)
        log.append("sent" if request.connection.sent_bytes > before else "not sent")
        await may_close.wait()
        log.append("closed")

    session = Annotated[Session, Depends(get)]
    if kind == "function":

        @router.get("/a")
        def view(request: Request, session: session):
            return session.request.url

    else:

        @router.get("/a")
        async def view(request: Request, session: session):
            if waits:
                await asyncio.sleep(0)
            return session.request.url

    client = await served(network, router)
    assert (await got(client, "/a"))["data"] == "/a"
    await until(lambda: log)
    assert log == ["sent"]
    may_close.set()
    await until(lambda: "closed" in log)


@pytest.mark.logs_errors
@pytest.mark.asyncio_reactor
@pytest.mark.parametrize("kind", ["raises", "refuses", "cancelled", "late", "gone"])
@pytest_twisted.ensureDeferred
async def test_it_hears_of_a_call_that_ends_otherwise(network, kind):
    log, begun = [], []
    router = SimpleRouter()

    @router.get("/a", call_seconds=0.2 if kind == "late" else None)
    async def view(request: Request, session: Annotated[Session, Depends(opening(log))]):
        begun.append(request)
        if kind == "raises":
            raise ValueError
        if kind == "refuses":
            raise BaseAPIException("no")
        await asyncio.Event().wait()

    client = await served(network, router)
    client.send({"method": "GET", "url": "/a", "id": 1})
    await until(lambda: begun)
    if kind == "cancelled":
        client.send({"method": "CANCEL", "id": 1})
    if kind == "gone":
        client.transport.abortConnection()
    else:
        status = {"raises": 500, "refuses": 400, "cancelled": 499, "late": 408}[kind]
        assert json.loads(await client.receive())["status"] == status
    await until(lambda: "session close" in log)
    name = {"raises": "ValueError", "refuses": "BaseAPIException"}.get(kind, "CancelledError")
    assert log == ["session open", f"session {name}", "session close"]


@pytest.mark.logs_errors
@pytest.mark.asyncio_reactor
@pytest_twisted.ensureDeferred
async def test_several_are_closed_the_last_one_first_and_one_that_fails_keeps_none_open(
    network, caplog
):
    log = []
    router = SimpleRouter()

    async def broken(request):
        yield "broken"
        raise ValueError("at the end")

    @router.get("/a")
    async def view(
        request: Request,
        one: Annotated[Session, Depends(opening(log, "one"))],
        two: Annotated[str, Depends(broken)],
        three: Annotated[Session, Depends(opening(log, "three", waits=True))],
    ):
        return [one.name, two, three.name]

    client = await served(network, router)
    assert (await got(client, "/a"))["data"] == ["one", "broken", "three"]
    await until(lambda: "one close" in log)
    assert log == [
        *("one open", "three open", "three commit", "three close", "one commit", "one close"),
    ]
    [error] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "broken could not be closed" in error.getMessage()


@pytest.mark.asyncio_reactor
@pytest.mark.parametrize("ends", [True, False])
@pytest_twisted.ensureDeferred
async def test_that_of_a_stream_is_open_until_its_end(network, ends):
    log = []
    router = SimpleRouter()

    @router.get("/a")
    async def view(request: Request, session: Annotated[Session, Depends(opening(log))]):
        yield list(log)
        if not ends:
            await asyncio.Event().wait()
        yield list(log)

    client = await served(network, router)
    client.send({"method": "GET", "url": "/a", "id": 1})
    assert json.loads(await client.receive())["data"] == ["session open"]
    if ends:
        assert json.loads(await client.receive())["data"] == ["session open"]
    else:
        client.send({"method": "CANCEL", "id": 1})
    await until(lambda: "session close" in log)
    assert log[1] == ("session commit" if ends else log[1])
    assert len(log) == 3


@pytest.mark.asyncio_reactor
@pytest_twisted.ensureDeferred
async def test_nothing_is_opened_for_a_request_that_does_not_fit(network):
    log = []
    router = SimpleRouter()

    @router.post("/a")
    async def view(
        request: Request, size: Data[int], session: Annotated[Session, Depends(opening(log))]
    ):
        return size

    client = await served(network, router)
    reply = json.loads(await client.ask({"method": "POST", "url": "/a", "data": "x"}))
    assert (reply["status"], log) == (422, [])
    reply = json.loads(await client.ask({"method": "POST", "url": "/a", "data": 3}))
    assert reply["data"] == 3
    await until(lambda: len(log) == 3)


def by_default(request: Request, session: str = Depends(value)):
    """As in another framework."""


def without_call(request: Request, session: Annotated[str, Depends]):
    """Not called."""


def twice(request: Request, session: Annotated[str, Depends(value), Depends(value)]):
    """Two places."""


def variadic(request: Request, *session: Annotated[str, Depends(value)]):
    """No name."""


def positional(request: Request, session: Annotated[str, Depends(value)], /):
    """No name either."""


@pytest.mark.parametrize("view", [by_default, without_call, twice, variadic, positional])
def test_what_cannot_work_is_refused_at_registration(view):
    with pytest.raises(InvalidHandler, match="session"):
        SimpleRouter().get("/a")(view)


def test_a_path_cannot_name_a_dependency():
    with pytest.raises(InvalidHandler, match="session"):

        @SimpleRouter().get("/{session}")
        def view(request: Request, session: Annotated[str, Depends(value)]):
            """Never called."""


@pytest.mark.parametrize("get", [awaited, opening([])])
def test_a_blocking_view_cannot_wait_for_one(get):
    with pytest.raises(InvalidHandler, match="blocking"):

        @SimpleRouter().get("/a", blocking=True)
        def view(request: Request, session: Annotated[str, Depends(get)]):
            """Never called."""


@pytest.mark.parametrize("get", [None, "get", 1])
def test_depends_takes_a_function(get):
    with pytest.raises(TypeError, match="function"):
        Depends(get)


def test_depends_refuses_a_generator_that_is_not_asynchronous():
    def get(request):
        yield 1

    with pytest.raises(TypeError, match="generator"):
        Depends(get)
