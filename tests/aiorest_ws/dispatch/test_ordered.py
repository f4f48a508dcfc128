"""Ordered views: the calls of one connection take turns."""

import json
import threading

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError

from aiorest_ws.wrappers import Request
from support.routers import Fires, Teapot, failure, raising, router_of, success, view_of


class Connection:
    pass


def ordered_call(router, connection, url="/x", **keys):
    request = Request("GET", url, **keys)
    request.connection = connection
    return router.process_request(request)


@pytest_twisted.ensureDeferred
async def test_calls_of_one_connection_to_an_ordered_view_take_turns():
    view, connection = Fires(), Connection()
    router = router_of(view, ordered=True)
    replies = [ordered_call(router, connection, event_name=name) for name in "abc"]
    for turn, (name, reply) in enumerate(zip("abc", replies, strict=True)):
        called, answer = await view.called.get()
        assert called == name
        assert len(view.waiting) == turn + 1
        answer.callback(turn)
        assert json.loads(await reply) == success(turn, name)


@pytest_twisted.ensureDeferred
async def test_connections_and_views_do_not_wait_for_each_other():
    view, other, connection = Fires(), Fires(), Connection()
    router = router_of(view, ordered=True)
    router.register("/other", view_of(other, ordered=True), "GET")
    calls = [
        ordered_call(router, connection),
        ordered_call(router, Connection()),
        ordered_call(router, connection, "/other"),
        ordered_call(router, None),
    ]
    assert (len(view.waiting), len(other.waiting)) == (3, 1)
    for waiting in view.waiting + other.waiting:
        waiting.callback(1)
    for call in calls:
        assert json.loads(await call) == success(1)


@pytest_twisted.ensureDeferred
async def test_a_view_that_is_not_ordered_does_not_wait():
    view, connection = Fires(), Connection()
    router = router_of(view)
    calls = [ordered_call(router, connection) for _ in range(3)]
    assert len(view.waiting) == 3
    for waiting in view.waiting:
        waiting.callback(1)
    for call in calls:
        assert json.loads(await call) == success(1)


# On other reactors a coroutine can catch the cancellation, and the router answers with 499.
@pytest.mark.asyncio_reactor
@pytest_twisted.ensureDeferred
async def test_a_turn_ends_with_a_failure_or_a_cancellation():
    view, connection = Fires(), Connection()
    router = router_of(view, ordered=True)
    failing, cancelled, cancelled_early, last = (
        ordered_call(router, connection, event_name=name)
        for name in ("failing", "cancelled", "cancelled early", "last")
    )
    cancelled_early.cancel()
    with pytest.raises(CancelledError):
        await cancelled_early
    name, answer = await view.called.get()
    assert name == "failing"
    answer.errback(Teapot("no"))
    assert json.loads(await failing) == failure(418, "no", "failing")
    name, answer = await view.called.get()
    assert name == "cancelled"
    cancelled.cancel()
    assert json.loads(await cancelled)["status"] == 499
    name, answer = await view.called.get()
    assert name == "last"
    answer.callback("answered")
    assert json.loads(await last) == success("answered", "last")


def test_an_ordered_view_whose_turn_it_is_answers_at_once():
    router, connection = router_of(lambda request: 1, ordered=True), Connection()
    for _ in range(3):
        assert json.loads(ordered_call(router, connection)) == success(1)
    refused = router_of(raising(Teapot("no")), ordered=True)
    for _ in range(2):
        assert json.loads(ordered_call(refused, connection)) == failure(418, "no")


@pytest_twisted.ensureDeferred
async def test_a_view_may_be_blocking_and_ordered():
    running, seen = threading.Semaphore(1), []

    def view(request):
        alone = running.acquire(blocking=False)
        seen.append(request.event_name)
        if alone:
            running.release()
        return alone

    router, connection = router_of(view, blocking=True, ordered=True), Connection()
    calls = [ordered_call(router, connection, event_name=n) for n in range(5)]
    for n, call in enumerate(calls):
        assert json.loads(await call) == success(True, n)
    assert seen == [0, 1, 2, 3, 4]
