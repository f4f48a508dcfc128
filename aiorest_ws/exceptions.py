"""Errors of the framework.

::

    ImproperlyConfigured                 a mistake in the program; never sent to a client
    BaseAPIException                     400   every error that can be sent as a failure
    |-- DeclaredError                    400   base of errors with fields of the program's own
    |-- MalformedMessage                 400   the message is not a request
    |-- IncorrectArgument                400   `args` do not fit the view
    |-- IncorrectMethodNameType          400
    |-- NotSpecifiedError                400
    |   |-- NotSpecifiedURL              400
    |   |-- NotSpecifiedMethodName       400
    |   |-- NotSpecifiedHandler          404   no such URL
    |   |   `-- MethodNotAllowed         405   the method is not registered for the URL
    |   `-- NotSpecifiedTopic            404   no such topic
    |-- Forbidden                        403   raised by views
    |-- SubscriptionRefused              403   the client may not subscribe to the topic
    |-- NotFound                         404   raised by views
    |-- DeadlineExceeded                 408   the call took too long
    |-- Conflict                         409   raised by views
    |-- PresenceTooLarge                 413   `presence_info` exceeds its limit
    |-- ReplyTooLarge                    413   the reply exceeds the message limit
    |-- ValidationError                  422   values do not fit, with a list of `errors`
    |-- TooManyMessages                  429   the client exceeds its rate limit
    |-- TooManyStreams                   429   the connection has too many open streams
    |-- TooManySubscriptions             429   the connection has too many subscriptions
    |-- CallCancelled                    499   the call was cancelled
    |-- InternalError                    500   a fault of the server; the log has the traceback
    |-- ServiceUnavailable               503   full, or shutting down
    |   `-- TopicsUnavailable            503   the broker of the topics is unreachable
    |-- SerializerError                  500   a value cannot be rendered
    |-- NotImplementedMethod             500
    |-- InvalidRenderer                  500
    |-- EndpointValueError                     raised by registration
    |-- InvalidHandler                         raised by registration
    |-- InvalidPathArgument                    raised by registration
    `-- NotSupportedArgumentType               raised by registration

    UnknownTopic                         a LookupError: publishing to an unregistered topic
"""

from collections.abc import Mapping, Sequence
from typing import Any

from aiorest_ws.internals.fields import WithFields
from aiorest_ws.status import (
    STATUS_BAD_REQUEST,
    STATUS_CANCELLED,
    STATUS_CONFLICT,
    STATUS_CONTRACT,
    STATUS_FORBIDDEN,
    STATUS_INTERNAL_ERROR,
    STATUS_METHOD_NOT_ALLOWED,
    STATUS_NOT_FOUND,
    STATUS_TIMEOUT,
    STATUS_TOO_LARGE,
    STATUS_TOO_MANY,
    STATUS_UNAVAILABLE,
    WS_DATA_CANNOT_ACCEPT,
    WS_MESSAGE_VIOLATE_POLICY,
    WS_PROTOCOL_ERROR,
)

__all__ = (
    "BaseAPIException",
    "CallCancelled",
    "Conflict",
    "DeadlineExceeded",
    "DeclaredError",
    "EndpointValueError",
    "Forbidden",
    "ImproperlyConfigured",
    "IncorrectArgument",
    "IncorrectMethodNameType",
    "InternalError",
    "InvalidHandler",
    "InvalidPathArgument",
    "InvalidRenderer",
    "MalformedMessage",
    "MethodNotAllowed",
    "NotFound",
    "NotImplementedMethod",
    "NotSpecifiedError",
    "NotSpecifiedHandler",
    "NotSpecifiedMethodName",
    "NotSpecifiedTopic",
    "NotSpecifiedURL",
    "NotSupportedArgumentType",
    "PresenceTooLarge",
    "ReplyTooLarge",
    "SerializerError",
    "ServiceUnavailable",
    "SubscriptionRefused",
    "TooManyMessages",
    "TooManyStreams",
    "TooManySubscriptions",
    "TopicsUnavailable",
    "UnknownTopic",
    "ValidationError",
)


class ImproperlyConfigured(Exception):
    """A setting, a class or a parameter of the program is invalid."""


class BaseAPIException(Exception):
    """Raised in a view or a middleware, it is sent as a failure with `detail` and `status`.

    `status_code` is a WebSocket close code, for programs that close the connection on the error.
    """

    default_detail: str = "A server error occurred."
    status_code: int = WS_PROTOCOL_ERROR
    status: int = STATUS_BAD_REQUEST

    def __init__(self, detail: Any = None, *, status: int | None = None) -> None:
        self.detail: Any = self.default_detail if detail is None else detail
        if status is not None:
            self.status = status
        super().__init__(self.detail)

    def __str__(self) -> str:
        return str(self.detail)


class MalformedMessage(BaseAPIException):
    """A message is not a request.

    `event_name` and `request_id` are echoed if they could be read, so that the client can tell
    which message was rejected.
    """

    default_detail = "The message cannot be read."
    status_code = WS_DATA_CANNOT_ACCEPT

    def __init__(
        self, detail: Any = None, *, event_name: Any = None, request_id: str | int | None = None
    ) -> None:
        super().__init__(detail)
        self.event_name = event_name
        self.request_id = request_id


class IncorrectArgument(BaseAPIException):
    """The `args` of a request do not fit the view."""

    default_detail = "The arguments do not fit what is called."
    status_code = WS_DATA_CANNOT_ACCEPT


class IncorrectMethodNameType(BaseAPIException):
    """`method` of a request is not a string."""

    default_detail = "Method name should be a string type."


class NotSpecifiedError(BaseAPIException):
    """A request lacks a key."""

    default_detail = "The request lacks a parameter."


class NotSpecifiedURL(NotSpecifiedError):
    """A request has no `url`."""

    default_detail = "In query not specified `url` argument."


class NotSpecifiedMethodName(NotSpecifiedError):
    """A request has no `method`."""

    default_detail = "In query not specified `method` argument."


class NotSpecifiedHandler(NotSpecifiedError):
    """No endpoint has the URL of the request."""

    default_detail = "For URL, typed in request, handler not specified."
    status = STATUS_NOT_FOUND


class MethodNotAllowed(NotSpecifiedHandler):
    """The method of a request is not registered for its URL."""

    status = STATUS_METHOD_NOT_ALLOWED


class NotSpecifiedTopic(NotSpecifiedError):
    """A client subscribes to a topic that does not exist."""

    default_detail = "There is no such topic."
    status = STATUS_NOT_FOUND


class NotFound(BaseAPIException):
    """What a request names does not exist."""

    default_detail = "Not found."
    status = STATUS_NOT_FOUND


class Forbidden(BaseAPIException):
    """The client may not do what it requests."""

    default_detail = "Forbidden."
    status_code = WS_MESSAGE_VIOLATE_POLICY
    status = STATUS_FORBIDDEN


class Conflict(BaseAPIException):
    """A request does not fit the present state of what it names."""

    default_detail = "Conflict."
    status = STATUS_CONFLICT


class ValidationError(BaseAPIException):
    """Values of a request do not fit.

    The failure has `errors`, one `{"path": "data.name", "fault": "is missing"}` for each value.
    Without a `detail` it is made of the first one.
    """

    default_detail = "Values of the request do not fit."
    status = STATUS_CONTRACT

    def __init__(
        self,
        detail: Any = None,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        status: int | None = None,
    ) -> None:
        self.errors = [{"path": one["path"], "fault": one["fault"]} for one in errors]
        if detail is None and self.errors:
            detail = f"{self.errors[0]['path']} {self.errors[0]['fault']}"
            if len(self.errors) > 1:
                detail += f" (and {len(self.errors) - 1} more)"
        super().__init__(detail, status=status)


class DeclaredError(WithFields, BaseAPIException):
    """An error with fields: keyword-only ones, the annotated names of the class.

    Named in the `raises` of a route it is sent with its name as `error`, and its fields as `info`;
    else as any other error.
    """

    detail: str | None = None


class SubscriptionRefused(BaseAPIException):
    """A client may not subscribe to a topic."""

    default_detail = "This topic is not open to the caller."
    status_code = WS_MESSAGE_VIOLATE_POLICY
    status = STATUS_FORBIDDEN


class InternalError(BaseAPIException):
    """A fault of the server; the failure does not describe it."""

    default_detail = "Internal server error."
    status = STATUS_INTERNAL_ERROR


class DeadlineExceeded(BaseAPIException):
    """A call exceeded its time limit."""

    default_detail = "The call took too long."
    status = STATUS_TIMEOUT


class ReplyTooLarge(BaseAPIException):
    """A reply exceeds the limit for messages."""

    default_detail = "The reply is too large."
    status = STATUS_TOO_LARGE


class PresenceTooLarge(BaseAPIException):
    """What `presence_info` returns for a subscription exceeds `Limits.presence_bytes`."""

    default_detail = "The presence information of this subscription is too large."
    status = STATUS_TOO_LARGE


class TooManyMessages(BaseAPIException):
    """A client exceeds its rate limit."""

    default_detail = "Too many messages."
    status_code = WS_MESSAGE_VIOLATE_POLICY
    status = STATUS_TOO_MANY


class TooManyStreams(BaseAPIException):
    """A connection has too many open streams."""

    default_detail = "Too many streams of this connection are open."
    status = STATUS_TOO_MANY


class TooManySubscriptions(BaseAPIException):
    """A connection has too many subscriptions."""

    default_detail = "Too many subscriptions of this connection."
    status = STATUS_TOO_MANY


class CallCancelled(BaseAPIException):
    """A call was cancelled before its view finished."""

    default_detail = "The call was cancelled."
    status = STATUS_CANCELLED


class ServiceUnavailable(BaseAPIException):
    """The server cannot accept this call now."""

    default_detail = "The server is busy, try again later."
    status = STATUS_UNAVAILABLE


class TopicsUnavailable(ServiceUnavailable):
    """The broker of the topics is unreachable."""

    default_detail = "Topics are not available, try again later."


class UnknownTopic(LookupError):
    """A program publishes to a topic that is not registered."""


class SerializerError(BaseAPIException):
    """A value cannot be rendered, or published.

    `reason` says why, for the program and its log; a client gets only `detail`.
    """

    default_detail = "The reply cannot be rendered."
    status = STATUS_INTERNAL_ERROR

    def __init__(
        self, detail: Any = None, *, status: int | None = None, reason: str | None = None
    ) -> None:
        super().__init__(detail, status=status)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason or super().__str__()


class NotImplementedMethod(BaseAPIException):
    """A method that a subclass must define was called."""

    default_detail = "This method has to be defined by a subclass."
    status = STATUS_INTERNAL_ERROR


class InvalidRenderer(BaseAPIException):
    """`renderers` of a view is neither a list nor a tuple."""

    default_detail = "The reply cannot be rendered."
    status = STATUS_INTERNAL_ERROR


class EndpointValueError(BaseAPIException):
    """A path template is malformed, or a name is taken."""

    default_detail = "The endpoint cannot be registered."


class InvalidHandler(BaseAPIException):
    """A view class or a function cannot answer the requests of its endpoint."""

    default_detail = "A handler must be a subclass of MethodBasedView."


class InvalidPathArgument(BaseAPIException):
    """A path does not start with a slash."""

    default_detail = "A path must start with `/`."


class NotSupportedArgumentType(BaseAPIException):
    """An argument of a registration has the wrong type."""

    default_detail = "An argument has a type that is not supported."
    status_code = WS_DATA_CANNOT_ACCEPT
