"""From an exception to the failure that a client gets, and to the line that the log gets."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import CancelledError

from aiorest_ws.awaiting import explain_await_error
from aiorest_ws.codecs import encode_failure, encode_internal_error
from aiorest_ws.exceptions import (
    BaseAPIException,
    CallCancelled,
    InternalError,
    SerializerError,
)
from aiorest_ws.log import logger
from aiorest_ws.status import STATUS_INTERNAL_ERROR
from aiorest_ws.wrappers import Request

__all__ = (
    "ErrorHandler",
    "ErrorHandlers",
    "failure_reply",
    "internal_error_reply",
    "judge",
    "log_failure",
    "render_failure",
)

ErrorHandler = Callable[[Request, Any], BaseAPIException]
ErrorHandlers = Mapping[type[BaseException], ErrorHandler]


def failure_reply(request: Request, exc: BaseException, handlers: ErrorHandlers) -> bytes:
    """Return the reply that a client gets for `exc`; never raises."""
    failure = judge(request, exc, handlers)
    return render_failure(request, failure)


def render_failure(request: Request | None, failure: BaseAPIException) -> bytes:
    """Return the reply for a failure; what cannot be rendered becomes an internal error."""
    try:
        return encode_failure(failure, request)
    except SerializerError as unrenderable:
        return internal_error_reply(request, unrenderable)


def internal_error_reply(request: Request | None, exc: BaseException | None) -> bytes:
    """Log a fault of ours, and return the reply for it."""
    log_failure(request, exc)
    return encode_internal_error(request)


def judge(request: Request, exc: BaseException, handlers: ErrorHandlers) -> BaseAPIException:
    """Return the failure that a client gets for `exc`; log what is our fault."""
    handler = _nearest(handlers, type(exc))
    if handler is not None:
        try:
            failure = handler(request, exc)
            if not isinstance(failure, BaseAPIException):
                raise TypeError(
                    f"an error handler must return a BaseAPIException, not {failure!r}"
                )
            exc = failure
        except Exception as from_handler:  # noqa: BLE001  it may raise one instead
            exc = from_handler
    if isinstance(exc, BaseAPIException):
        if exc.status == STATUS_INTERNAL_ERROR:
            log_failure(request, exc)
        else:
            # Not info: clients that ask for what there is not would fill the disk.
            logger.debug("%r refused: %s %s", request, type(exc).__name__, exc.status)
        return exc
    if isinstance(exc, (asyncio.CancelledError, CancelledError)):
        return CallCancelled()
    log_failure(request, exc)
    return InternalError()


def _nearest(handlers: ErrorHandlers, kind: type[BaseException]) -> ErrorHandler | None:
    for ancestor in kind.__mro__ if handlers else ():
        # Failures are answers already: a handler for Exception is not meant for them.
        if ancestor is BaseAPIException or ancestor in handlers:
            return handlers.get(ancestor)
    return None


def log_failure(request: Request | None, exc: BaseException | None) -> None:
    """Say in one line, with the traceback, what of ours has failed."""
    connection = getattr(request, "connection", None)
    fields = {
        "event": "failure",
        "request_id": None if request is None else request.log_id,
        "peer": getattr(connection, "peer", None),
    }
    words = "a failure" if exc is None else explain_await_error(exc) or type(exc).__name__
    logger.error(
        "request %s: %r failed: %s",
        fields["request_id"],
        request,
        words,
        exc_info=exc,
        extra=fields,
    )
