"""The dispatcher: the order of checks, and views that answer later."""

import asyncio
import json

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from aiorest_ws.wrappers import Request
from support.routers import (
    METHOD_TYPE,
    NO_HANDLER,
    NO_METHOD,
    NO_URL,
    OUR_FAULT,
    UNRENDERABLE,
    Fires,
    Passing,
    Teapot,
    ask,
    failure,
    lines,
    router_of,
    success,
    to,
)

# The order of judgement


def test_judgement_goes_from_the_url_to_the_method_to_the_arguments():
    router = router_of(lambda request: "found", "/x")
    assert ask(router, url=None, method=1) == failure(400, NO_URL)
    assert ask(router, url="", method=None) == failure(400, NO_URL)
    assert ask(router, url="/y", method=1) == failure(404, NO_HANDLER)
    assert ask(router, url="/y", method="dispatch") == failure(404, NO_HANDLER)
    assert ask(router, None, args={"a": 1}) == failure(400, NO_METHOD)
    assert ask(router, "", args={"a": 1}) == failure(400, NO_METHOD)
    assert ask(router, 1, args={"a": 1}) == failure(400, METHOD_TYPE)
    assert ask(router, "POST", args={"a": 1}) == failure(405, NO_HANDLER)
    assert ask(router, "GET", args={"a": 1}) == failure(400, "The argument 'a' is not taken here.")
    assert ask(router, "GET", event_name=["e"]) == success("found", ["e"])


@pytest.mark.parametrize(
    "word", ["dispatch", "__init__", "get_renderer", "_route", " ", "CONNECT"]
)
def test_no_other_attribute_of_a_view_can_be_called(word):
    assert ask(router_of(lambda request: "found"), word) == failure(405, NO_HANDLER)


@pytest.mark.parametrize("word", ["CANCEL", " cancel "])
@pytest.mark.parametrize("url", [None, "", "/x", "/nowhere"])
def test_to_cancel_is_not_for_a_router(word, url):
    assert ask(router_of(lambda request: "found"), word, url) == failure(405, NO_HANDLER)


@pytest.mark.parametrize("word", ["SUBSCRIBE", "UNSUBSCRIBE", " subscribe\n", "UnSubscribe"])
def test_only_what_was_registered_as_a_topic_can_be_subscribed_to(word):
    router = router_of(lambda request: "found")
    router.register_topic("topic")
    no_url = ask(router, None, None)["status"]
    assert no_url == 400
    for url in (None, ""):
        assert ask(router, word, url)["status"] == no_url
    for url in ("/x", "x", "/nowhere", "/topic", "topic/", " topic"):
        assert ask(router, word, url) == failure(404, "There is no such topic.")
    # Nobody is there who could be sent anything.
    assert ask(router, word, "topic") == failure(405, NO_HANDLER)


@pytest.mark.parametrize("url", [" ", "\t\n"])
def test_a_url_of_blanks_has_no_slash_at_its_beginning(url):
    router = router_of(lambda request: "root", "/")
    assert ask(router, url=url).get("status") in {400, 404}


def test_a_url_is_a_string():
    assert ask(router_of(lambda request: 1), url=["/x"]) == failure(400, "`url` must be a string.")


def test_a_reply_repeats_id_and_event_name_in_the_order_of_the_wire():
    router = router_of(lambda request: {"z": 1})
    good = router.process_request(Request("GET", "/x", event_name={"b": 1, "a": 2}, id="c-7"))
    assert good == b'{"data":{"z":1},"event_name":{"b":1,"a":2},"id":"c-7"}'
    bad = router.process_request(Request("PUT", "/x", event_name=0, id=0))
    assert bad == f'{{"detail":"{NO_HANDLER}","status":405,"event_name":0,"id":0}}'.encode()


# Views that answer later


@pytest.mark.parametrize("middlewares", [0, 1])
@pytest.mark.parametrize(
    ("answer", "reply"),
    [(lambda: succeed(1), success(1, "e")), (lambda: fail(Teapot("no")), failure(418, "no", "e"))],
)
def test_a_deferred_that_has_fired_is_answered_at_once(answer, reply, middlewares):
    router = router_of(lambda request: answer(), middlewares=[Passing()] * middlewares)
    assert ask(router, event_name="e") == reply


@pytest.mark.parametrize("middlewares", [0, 1])
@pytest_twisted.ensureDeferred
async def test_a_deferred_is_answered_when_it_fires(middlewares):
    view = Fires()
    router = router_of(view, middlewares=[Passing()] * middlewares)
    replies = [
        router.process_request(Request("GET", "/x", event_name=name)) for name in ("a", "b", "c")
    ]
    assert not any(isinstance(reply, bytes) for reply in replies)
    view.waiting[1].callback([2])
    assert json.loads(await replies[1]) == success([2], "b")
    view.waiting[2].errback(Teapot("no"))
    assert json.loads(await replies[2]) == failure(418, "no", "c")
    view.waiting[0].callback(None)
    assert json.loads(await replies[0]) == success(None, "a")


@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_a_deferred_that_fails_is_our_fault(caplog):
    view = Fires()
    reply = router_of(view).process_request(Request("GET", "/x", event_name="e"))
    view.waiting[0].errback(ValueError("secret"))
    assert json.loads(await reply) == failure(500, OUR_FAULT, "e")
    (line,) = lines(caplog)
    assert line.exc_info[0] is ValueError


# On other reactors a coroutine can catch the cancellation, and the router answers with 499.
@pytest.mark.asyncio_reactor
@pytest.mark.parametrize("middlewares", [0, 1])
@pytest_twisted.ensureDeferred
async def test_a_call_that_is_cancelled_cancels_what_it_waits_for(middlewares):
    cancelled, answer = Deferred(), Deferred()
    answer.addErrback(lambda failure: cancelled.callback(failure.type) or failure)
    router = router_of(lambda request: answer, middlewares=[Passing()] * middlewares)
    reply = router.process_request(Request("GET", "/x", event_name="e"))
    reply.cancel()
    if middlewares:  # which hear of it
        assert json.loads(await reply)["status"] == 499
    else:
        with pytest.raises(CancelledError):
            await reply
    assert await cancelled is CancelledError


@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_a_view_whose_deferred_was_cancelled_by_another_is_our_fault():
    view = Fires()
    reply = router_of(view).process_request(Request("GET", "/x", event_name="e"))
    view.waiting[0].cancel()
    assert json.loads(await reply) == failure(500, OUR_FAULT, "e")


def test_a_coroutine_that_does_not_suspend_is_answered_at_once():
    async def view(request):
        return await succeed(1) + 1

    assert ask(router_of(view)) == success(2)


@pytest_twisted.ensureDeferred
async def test_what_is_answered_at_once_can_be_awaited_too():
    async def view(request):
        return 1

    for middlewares in ([], [Passing()]):
        reply = router_of(view, middlewares=middlewares).process_request(Request("GET", "/x"))
        assert isinstance(reply, bytes)
        assert json.loads(await reply) == success(1)


@pytest.mark.parametrize(
    ("exc", "status"), [(Teapot("no"), 418), (ValueError("no"), 500), (StopIteration(), 500)]
)
@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_a_coroutine_fails_as_a_function_does(exc, status):
    waiting = Deferred()

    async def at_once(request):
        raise exc

    async def later(request):
        await waiting
        raise exc

    assert ask(router_of(at_once))["status"] == status
    reply = router_of(later).process_request(Request("GET", "/x"))
    waiting.callback(None)
    assert json.loads(await reply)["status"] == status


@pytest.mark.asyncio_reactor
@pytest.mark.parametrize("middlewares", [0, 1])
@pytest_twisted.ensureDeferred
async def test_a_coroutine_awaits_deferreds_and_asyncio(middlewares):
    waiting = Deferred()

    async def view(request):
        first = await waiting
        second = await asyncio.wait_for(asyncio.sleep(0, "slept"), 60)
        task = asyncio.current_task()
        async with asyncio.TaskGroup() as group:
            third = group.create_task(asyncio.sleep(0, "grouped"))
        return [first, second, third.result(), await succeed("fired"), task is not None]

    router = router_of(view, middlewares=[Passing()] * middlewares)
    reply = router.process_request(Request("GET", "/x"))
    assert not isinstance(reply, bytes)
    waiting.callback("waited")
    assert json.loads(await reply) == success(["waited", "slept", "grouped", "fired", True])


@pytest.mark.asyncio_reactor
@pytest_twisted.ensureDeferred
async def test_any_awaitable_is_an_answer():
    future = asyncio.get_running_loop().create_future()

    class Later:
        def __await__(self):
            return (yield from future)

    for answer in (lambda request: future, lambda request: Later()):
        reply = router_of(answer).process_request(Request("GET", "/x"))
        if not future.done():
            future.set_result("done")
        assert json.loads(reply if isinstance(reply, bytes) else await reply) == success("done")


@pytest_twisted.ensureDeferred
async def test_an_error_handler_is_asked_for_what_fails_later():
    view = Fires()
    router = router_of(view)
    router.error_handlers[KeyError] = to(404)
    reply = router.process_request(Request("GET", "/x"))
    view.waiting[0].errback(KeyError("k"))
    assert json.loads(await reply) == failure(404, "/x KeyError('k')")


@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_rendered_later_is_our_fault():
    view = Fires()
    reply = router_of(view).process_request(Request("GET", "/x", event_name="e"))
    view.waiting[0].callback(object())
    assert json.loads(await reply) == failure(500, UNRENDERABLE, "e")


# Ordered views


@pytest_twisted.ensureDeferred
async def test_the_failure_of_a_coroutine_can_be_awaited_too():
    async def view(request):
        raise Teapot

    reply = router_of(view).process_request(Request("GET", "/x"))
    assert json.loads(await reply) == failure(418, "I'm a teapot.")
