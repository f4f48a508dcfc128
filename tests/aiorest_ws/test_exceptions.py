"""Exceptions for views: what a client gets."""

import pytest

from aiorest_ws.exceptions import (
    BaseAPIException,
    Conflict,
    Forbidden,
    NotFound,
    ValidationError,
)
from support.routers import ask, failure, raising, router_of

MISSING = {"path": "data.name", "fault": "is missing"}
WRONG = {"path": "args.limit", "fault": "must be an int"}


class Touching:
    """A middleware for which replies are made step by step."""

    def process_request(self, request, handler):
        """Let everything through."""

    def process_response(self, request, response):
        """Keep the response."""


@pytest.mark.parametrize("middlewares", [(), (Touching(),)])
@pytest.mark.parametrize(
    ("exc", "status", "detail"),
    [
        (NotFound, 404, "Not found."),
        (Forbidden, 403, "Forbidden."),
        (Conflict, 409, "Conflict."),
        (NotFound("No order 7."), 404, "No order 7."),
        (Conflict({"version": 3}), 409, {"version": 3}),
        (Forbidden(status=451), 451, "Forbidden."),
        (ValidationError, 422, "Values of the request do not fit."),
        (ValidationError("The dates overlap."), 422, "The dates overlap."),
    ],
)
def test_a_view_raises_what_the_client_gets(exc, status, detail, middlewares):
    router = router_of(raising(exc), middlewares=middlewares)
    assert ask(router) == failure(status, detail)


def test_a_subclass_has_a_sentence_of_its_own():
    class NoSuchOrder(NotFound):
        default_detail = "There is no such order."

    assert ask(router_of(raising(NoSuchOrder))) == failure(404, "There is no such order.")
    assert issubclass(NoSuchOrder, BaseAPIException)


@pytest.mark.parametrize("middlewares", [(), (Touching(),)])
@pytest.mark.parametrize(
    ("errors", "detail"),
    [
        ([MISSING], "data.name is missing"),
        ([MISSING, WRONG], "data.name is missing (and 1 more)"),
        ((WRONG, MISSING, MISSING), "args.limit must be an int (and 2 more)"),
    ],
)
def test_a_validation_error_sends_all_its_errors(errors, detail, middlewares):
    router = router_of(raising(ValidationError(errors=errors)), middlewares=middlewares)
    expected = {**failure(422, detail), "id": 7, "errors": list(errors)}
    assert ask(router, id=7) == expected
    assert list(ask(router, id=7)) == ["detail", "status", "event_name", "id", "errors"]


def test_a_middleware_may_turn_a_validation_error_into_a_success():
    class Forgiving(Touching):
        def process_response(self, request, response):
            response.content = "never mind"

    router = router_of(raising(ValidationError(errors=[MISSING])), middlewares=[Forgiving()])
    assert ask(router) == {"data": "never mind", "event_name": None}


@pytest.mark.parametrize("errors", [[{"path": "data"}], ["data.name"], [None]])
def test_errors_have_a_path_and_a_fault(errors):
    with pytest.raises((KeyError, TypeError)):
        ValidationError(errors=errors)
