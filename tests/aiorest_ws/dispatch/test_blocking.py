"""Blocking views and the pool they run in."""

import json
import threading

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from aiorest_ws.exceptions import ServiceUnavailable
from aiorest_ws.transports import install_reactor
from aiorest_ws.wrappers import Request
from support.routers import OUR_FAULT, Teapot, ask, ask_later, failure, raising, router_of, success


def elsewhere(request):
    return threading.get_ident() != request.data


@pytest_twisted.ensureDeferred
async def test_a_blocking_view_runs_in_another_thread():
    router = router_of(elsewhere, blocking=True)
    assert await ask_later(router, data=threading.get_ident()) == success(True)
    assert await ask_later(router_of(elsewhere), data=threading.get_ident()) == success(False)


# Without a loop of asyncio's a router that has no factory waits for its thread.
@pytest.mark.asyncio_reactor
@pytest_twisted.ensureDeferred
async def test_a_blocking_view_holds_nobody_up():
    go_on = threading.Event()

    def view(request):
        return go_on.wait(60)

    router = router_of(view, blocking=True)
    reply = router.process_request(Request("GET", "/x"))
    assert not isinstance(reply, bytes)
    go_on.set()
    assert json.loads(await reply) == success(True)


@pytest.mark.logs_errors
@pytest.mark.parametrize(("exc", "status"), [(Teapot("no"), 418), (ValueError("secret"), 500)])
@pytest_twisted.ensureDeferred
async def test_a_blocking_view_fails_as_others_do(exc, status):
    assert (await ask_later(router_of(raising(exc), blocking=True)))["status"] == status


# Without a loop of asyncio's a router that has no factory waits for its thread.
@pytest.mark.asyncio_reactor
@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_a_blocking_view_that_raises_stop_iteration_is_our_fault():
    reply = router_of(raising(StopIteration()), blocking=True).process_request(
        Request("GET", "/x")
    )
    reply.addTimeout(30, install_reactor())
    assert json.loads(await reply) == failure(500, OUR_FAULT)


def without_a_loop(call):
    """Call in a thread, where no loop runs; return what came of it."""
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(call()))
    thread.start()
    thread.join()
    return outcome[0]


@pytest.mark.logs_errors
def test_a_blocking_view_without_a_loop_is_answered_at_once():
    def view(request):
        if request.data is None:
            raise Teapot("no")
        return threading.get_ident() not in {request.data, threading.main_thread().ident}

    router = router_of(view, blocking=True)
    assert without_a_loop(lambda: ask(router, data=threading.get_ident())) == success(True)
    assert without_a_loop(lambda: ask(router)) == failure(418, "no")
    broken = router_of(raising(StopIteration()), blocking=True)
    assert without_a_loop(lambda: ask(broken)) == failure(500, OUR_FAULT)


class Pool:
    """What a factory offers to blocking views."""

    def __init__(self):
        self.calls = []
        self.answer = Deferred()

    def run_blocking(self, call, connection):
        if len(self.calls) >= 1:
            raise ServiceUnavailable
        self.calls.append(call)
        return self.answer


@pytest_twisted.ensureDeferred
async def test_a_blocking_view_runs_in_the_pool_of_its_factory():
    pool, seen = Pool(), []
    router = router_of(lambda request: seen.append(request) or 1, blocking=True)
    request = Request("GET", "/x")
    request.factory = pool
    reply = router.process_request(request)
    assert not isinstance(reply, bytes)
    assert seen == []
    pool.answer.callback(pool.calls[0]())
    assert seen == [request]
    assert json.loads(await reply) == success(1)


def test_a_pool_that_is_full_refuses():
    pool = Pool()
    pool.calls.append(None)
    request = Request("GET", "/x", event_name="e")
    request.factory = pool
    reply = router_of(lambda request: 1, blocking=True).process_request(request)
    assert json.loads(reply) == failure(503, "The server is busy, try again later.", "e")


def test_a_call_that_is_refused_never_reaches_the_pool():
    request = Request("GET", "/x", {"a": 1})
    request.factory = Pool()
    reply = router_of(lambda request: 1, blocking=True).process_request(request)
    assert json.loads(reply) == failure(400, "The argument 'a' is not taken here.")
    assert request.factory.calls == []
