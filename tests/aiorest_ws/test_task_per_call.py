"""Each call has an asyncio task of its own, whether its view waits for something or not."""

import asyncio
import json
import weakref

import pytest
import pytest_twisted

from aiorest_ws.decorators import endpoint
from aiorest_ws.exceptions import BaseAPIException
from aiorest_ws.routers import SimpleRouter
from support.waiting import until

pytestmark = pytest.mark.asyncio_reactor


async def no_wait():
    pass


async def one_turn():
    await asyncio.sleep(0)


@pytest.fixture(params=[no_wait, one_turn])
def wait(request):
    return request.param


async def serve(network, view, path="/add"):
    router = SimpleRouter()
    router.register_endpoint(endpoint(path, ["GET"])(view))
    return await network.serve(router)


async def answers(network, port, *messages):
    """Ask for each message on a connection of its own; return the replies."""
    clients = [await network.connect(port) for _ in messages]
    return [
        json.loads(await client.ask({"method": "GET", "url": "/add", **message}))
        for client, message in zip(clients, messages, strict=True)
    ]


@pytest.mark.parametrize("registry", [dict, weakref.WeakKeyDictionary])
@pytest_twisted.ensureDeferred
async def test_what_is_kept_per_task_belongs_to_one_call(network, wait, registry):
    """As SQLAlchemy keeps sessions when `scopefunc` is `asyncio.current_task`."""
    sessions, committed = registry(), []

    async def add(request, row):
        session = sessions.setdefault(asyncio.current_task(), [])
        session.append(row)
        await wait()
        if row == "bad":
            raise BaseAPIException("This row is bad.")
        committed.extend(session)

    port = await serve(network, add)
    replies = await answers(network, port, {"args": {"row": "bad"}}, {"args": {"row": "good"}})
    assert [reply.get("status") for reply in replies] == [400, None]
    assert committed == ["good"]


@pytest_twisted.ensureDeferred
async def test_a_name_that_a_call_gives_its_task_is_not_the_next_ones(network, wait):
    async def named(request, name=None):
        task = asyncio.current_task()
        before = task.get_name()
        task.set_name(name or before)
        await wait()
        return [before, asyncio.current_task().get_name()]

    port = await serve(network, named)
    first, second = await answers(network, port, {"args": {"name": "mine"}}, {})
    assert first["data"][1] == "mine"
    assert "mine" not in second["data"]


@pytest.mark.parametrize("fails", [False, True])
@pytest_twisted.ensureDeferred
async def test_done_callbacks_of_a_call_run_with_its_end(network, wait, fails):
    ends = []

    def note(task):
        ends.append((task.done(), task.cancelled(), task.exception()))

    async def view(request):
        asyncio.current_task().add_done_callback(note)
        await wait()
        if fails:
            raise BaseAPIException("no")
        return "yes"

    port = await serve(network, view)
    await answers(network, port, {}, {})
    await until(lambda: len(ends) == 2)
    assert [end[:2] for end in ends] == [(True, False)] * 2
    assert [type(end[2]) for end in ends] == [BaseAPIException if fails else type(None)] * 2


@pytest_twisted.ensureDeferred
async def test_a_task_is_forgotten_when_its_call_has_ended(network, wait):
    tasks = []

    async def view(request):
        tasks.append(weakref.ref(asyncio.current_task()))
        await wait()

    port = await serve(network, view)
    await answers(network, port, {}, {}, {})
    await until(lambda: not any(task() for task in tasks))
    assert len(tasks) == 3


@pytest_twisted.ensureDeferred
async def test_a_call_that_cancels_its_task_spoils_no_other(network, wait):
    async def view(request, rude=False):
        await wait()
        if rude:
            asyncio.current_task().cancel()
            return "rude"
        await asyncio.sleep(0)
        assert not asyncio.current_task().cancelling()
        return "polite"

    port = await serve(network, view)
    replies = await answers(network, port, {"args": {"rude": True}}, {}, {})
    assert replies[0]["status"] == 499
    assert [reply["data"] for reply in replies[1:]] == ["polite", "polite"]


@pytest.mark.parametrize("end", [SystemExit(3), KeyboardInterrupt()])
@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_a_call_cannot_end_the_server(network, wait, end):
    async def view(request, ends=False):
        await wait()
        if ends:
            raise end

    port = await serve(network, view)
    replies = await answers(network, port, {"args": {"ends": True}}, {})
    assert [reply.get("status") for reply in replies] == [500, None]
