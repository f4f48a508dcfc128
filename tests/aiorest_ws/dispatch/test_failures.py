"""Failures, their log lines, and error handlers."""

import asyncio
import logging
import re

import pytest
from twisted.internet.defer import CancelledError

from aiorest_ws.exceptions import (
    BaseAPIException,
    MethodNotAllowed,
    NotSpecifiedHandler,
    SerializerError,
    ServiceUnavailable,
)
from aiorest_ws.wrappers import Response
from support.routers import (
    NO_HANDLER,
    OUR_FAULT,
    Passing,
    Teapot,
    ask,
    failure,
    lines,
    raising,
    router_of,
    success,
    to,
)

# Failures and their log


@pytest.mark.parametrize(
    ("exc", "reply"),
    [
        (BaseAPIException("no"), failure(400, "no")),
        (BaseAPIException(), failure(400, "A server error occurred.")),
        (BaseAPIException({"a": ["b"]}, status=422), failure(422, {"a": ["b"]})),
        (Teapot, failure(418, "I'm a teapot.")),
        (Teapot("short and stout"), failure(418, "short and stout")),
        (NotSpecifiedHandler(), failure(404, NO_HANDLER)),
        (MethodNotAllowed(), failure(405, NO_HANDLER)),
        (ServiceUnavailable(), failure(503, "The server is busy, try again later.")),
    ],
)
def test_what_a_client_can_mend_is_no_error_in_the_log(exc, reply, caplog):
    caplog.set_level(logging.DEBUG, "aiorest-ws")
    assert ask(router_of(raising(exc))) == reply
    assert not [record for record in lines(caplog) if record.levelno >= logging.WARNING]
    assert not [record for record in lines(caplog) if record.exc_info]


@pytest.mark.logs_errors
@pytest.mark.parametrize(
    ("exc", "detail"),
    [
        (ValueError("secret"), OUR_FAULT),
        (TypeError("secret"), OUR_FAULT),
        (KeyError, OUR_FAULT),
        (RecursionError("secret"), OUR_FAULT),
        (StopIteration("secret"), OUR_FAULT),
        (StopAsyncIteration("secret"), OUR_FAULT),
        (SystemExit(3), OUR_FAULT),
        (GeneratorExit("secret"), OUR_FAULT),
        (CancelledError("secret"), OUR_FAULT),
        (asyncio.CancelledError("secret"), OUR_FAULT),
        (BaseExceptionGroup("secret", [ValueError()]), OUR_FAULT),
        (SerializerError("the view says"), "the view says"),
        (BaseAPIException("the view says", status=500), "the view says"),
    ],
)
def test_our_fault_is_in_the_log_with_its_traceback_and_not_in_the_reply(exc, detail, caplog):
    assert ask(router_of(raising(exc)), token="t-1", data="d-1") == failure(500, detail)
    (line,) = lines(caplog)
    assert line.levelname == "ERROR"
    assert re.match("request [0-9a-f]{12}: <Request 'GET' '/x'> failed", line.getMessage())
    assert line.exc_info[1] is exc or line.exc_info[0] is exc
    assert line.exc_info[2] is not None
    assert "t-1" not in caplog.text
    assert "d-1" not in caplog.text


def test_a_success_leaves_nothing_in_the_log(caplog):
    caplog.set_level(logging.DEBUG, "aiorest-ws")
    assert ask(router_of(lambda request: 1)) == success(1)
    assert lines(caplog) == []


def test_a_mistake_of_a_client_is_a_debug_line_without_traceback(caplog):
    caplog.set_level(logging.DEBUG, "aiorest-ws")
    ask(router_of(raising(BaseAPIException("no"))))
    assert [(line.levelname, line.exc_info) for line in lines(caplog)] == [("DEBUG", None)]


@pytest.mark.logs_errors
def test_a_detail_that_cannot_be_rendered_is_our_fault():
    reply = ask(router_of(raising(BaseAPIException(object()))), event_name="e", id=7)
    assert (reply["status"], reply["event_name"], reply.get("id")) == (500, "e", 7)


@pytest.mark.logs_errors
def test_two_kinds_of_a_detail_that_cannot_be_rendered_are_both_in_the_log(caplog):
    assert ask(router_of(raising(BaseAPIException(object()))))["status"] == 500
    assert [record.exc_info[0] for record in lines(caplog)] == [SerializerError]


# Error handlers


class Missing(LookupError):
    pass


def with_handlers(exc, handlers, **options):
    router = router_of(raising(exc), **options)
    router.error_handlers.update(handlers)
    return router


@pytest.mark.parametrize(
    ("exc", "status"),
    [(Missing(), 404), (KeyError("k"), 410), (LookupError(), 410), (OSError(), 418)],
)
@pytest.mark.parametrize("middlewares", [0, 1])
def test_the_handler_of_the_nearest_class_is_asked(exc, status, middlewares, caplog):
    handlers = {Exception: to(418), LookupError: to(410), Missing: to(404)}
    router = with_handlers(exc, handlers, middlewares=[Passing()] * middlewares)
    assert ask(router, event_name="e") == failure(status, f"/x {exc!r}", "e")
    assert lines(caplog) == []


@pytest.mark.logs_errors
def test_what_no_handler_is_for_is_our_fault():
    assert ask(with_handlers(ValueError(), {LookupError: to(404)})) == failure(500, OUR_FAULT)
    assert ask(with_handlers(SystemExit(), {Exception: to(404)})) == failure(500, OUR_FAULT)


def test_a_handler_of_all_exceptions_is_not_asked_for_failures():
    router = with_handlers(Teapot(), {Exception: to(400), BaseException: to(400)})
    assert ask(router) == failure(418, "I'm a teapot.")
    assert ask(router, url="/y") == failure(404, NO_HANDLER)


def test_a_handler_of_a_failure_is_asked_for_it():
    router = with_handlers(Teapot(), {Teapot: to(400)})
    assert ask(router)["status"] == 400
    router = with_handlers(Teapot(), {BaseAPIException: to(451)})
    assert ask(router)["status"] == 451
    assert ask(router, url="/y")["status"] == 451


def test_a_handler_may_raise_the_failure():
    def handler(request, exc):
        raise Teapot("raised") from exc

    assert ask(with_handlers(KeyError(), {KeyError: handler})) == failure(418, "raised")


@pytest.mark.logs_errors
@pytest.mark.parametrize("returned", [None, "text", 404, BaseAPIException, Response()])
def test_a_handler_that_returns_no_failure_is_our_fault(returned, caplog):
    router = with_handlers(KeyError(), {KeyError: lambda request, exc: returned})
    assert ask(router) == failure(500, OUR_FAULT)
    assert "an error handler must return a BaseAPIException" in caplog.text


@pytest.mark.logs_errors
def test_a_handler_that_breaks_is_our_fault(caplog):
    def handler(request, exc):
        raise ZeroDivisionError

    assert ask(with_handlers(KeyError(), {KeyError: handler})) == failure(500, OUR_FAULT)
    (line,) = lines(caplog)
    assert line.exc_info[0] is ZeroDivisionError


def test_a_handler_may_take_a_cancelled_call():
    router = with_handlers(asyncio.CancelledError(), {asyncio.CancelledError: to(503)})
    assert ask(router)["status"] == 503
