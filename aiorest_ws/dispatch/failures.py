"""Convert exceptions to failures, and log those that are the server's fault."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiorest_ws.awaiting import CANCELLED, explain_await_error, is_cancelled
from aiorest_ws.codecs import encode_failure, encode_internal_error
from aiorest_ws.exceptions import (
    BaseAPIException,
    CallCancelled,
    InternalError,
    SerializerError,
)
from aiorest_ws.log import logger
from aiorest_ws.status import STATUS_INTERNAL_ERROR
from aiorest_ws.values import with_converter
from aiorest_ws.wrappers import Request, converter_of

__all__ = (
    "ErrorHandler",
    "ErrorHandlers",
    "failure_reply",
    "internal_error_reply",
    "log_failure",
    "render_failure",
    "to_failure",
)

ErrorHandler = Callable[[Request, Any], BaseAPIException]
# Of several routers, the innermost first.
ErrorHandlers = Sequence[Mapping[type[BaseException], ErrorHandler]]


def failure_reply(request: Request, exc: BaseException, handlers: ErrorHandlers) -> bytes:
    """Return the reply for `exc`; never raises."""
    return render_failure(request, to_failure(request, exc, handlers))


def render_failure(request: Request | None, failure: BaseAPIException) -> bytes:
    """Return the reply for a failure, or for an internal error if it cannot be encoded."""
    try:
        converter = converter_of(request)
        encoded: bytes = with_converter(converter, encode_failure, failure, request)
        return encoded
    except SerializerError as unrenderable:
        return internal_error_reply(request, unrenderable)


def internal_error_reply(request: Request | None, exc: BaseException | None) -> bytes:
    """Log a fault of the server, and return the reply for it."""
    log_failure(request, exc)
    return encode_internal_error(request)


def to_failure(request: Request, exc: BaseException, handlers: ErrorHandlers) -> BaseAPIException:
    """Convert an exception to a failure; log it if it is the server's fault.

    A cancellation is a fault, unless it is that of the call in whose context this runs.
    """
    exc = _only_failure(exc, handlers)
    was_cancelled = isinstance(exc, CANCELLED) and is_cancelled()
    handler = _nearest(handlers, type(exc))
    if handler is not None:
        try:
            failure = handler(request, exc)
            if not isinstance(failure, BaseAPIException):
                raise TypeError(
                    f"an error handler must return a BaseAPIException, not {failure!r}"
                )
            exc = failure
        except BaseException as from_handler:  # noqa: BLE001  it may raise a failure too
            exc, was_cancelled = from_handler, False
    if isinstance(exc, BaseAPIException):
        if exc.status == STATUS_INTERNAL_ERROR:
            log_failure(request, exc)
        else:
            # Not at info: clients that send bad requests would fill the disk.
            logger.debug("%r refused: %s %s", request, type(exc).__name__, exc.status)
        return exc
    if was_cancelled:
        return CallCancelled()
    log_failure(request, exc)
    return InternalError()


def _only_failure(exc: BaseException, handlers: ErrorHandlers) -> BaseException:
    """Return the only exception in a group if it is a failure, or has an error handler.

    A TaskGroup wraps the exception of a task in a group.
    """
    only = exc
    while isinstance(only, BaseExceptionGroup) and len(only.exceptions) == 1:
        only = only.exceptions[0]
    if only is exc or isinstance(only, BaseAPIException):
        return only
    has_own = _nearest(handlers, type(only)) and not _nearest(handlers, type(exc))
    return only if has_own else exc


def _nearest(handlers: ErrorHandlers, kind: type[BaseException]) -> ErrorHandler | None:
    for of_router in handlers:
        for ancestor in kind.__mro__ if of_router else ():
            if ancestor in of_router:
                return of_router[ancestor]
            if ancestor is BaseAPIException:
                break  # a handler for Exception is not meant for what is a failure already
    return None


def log_failure(request: Request | None, exc: BaseException | None) -> None:
    """Log a fault of the server with its traceback."""
    connection = getattr(request, "connection", None)
    fields = {
        "event": "failure",
        "request_id": None if request is None else request.log_id,
        "peer": getattr(connection, "peer", None),
    }
    words = "a failure" if exc is None else explain_await_error(exc) or type(exc).__name__
    if isinstance(exc, SerializerError) and exc.reason:
        words = f"{words}: {exc.reason}"
    logger.error(
        "request %s: %r failed: %s",
        fields["request_id"],
        request,
        words,
        exc_info=exc,
        extra=fields,
    )
