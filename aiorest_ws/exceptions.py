"""Errors of the framework.

::

    ImproperlyConfigured                 the program is set up wrongly; never sent to a client
    BaseAPIException                     400   every error that may become a failure on the wire
    |-- MalformedMessage                 400   what came cannot be read as a request
    |-- IncorrectArgument                400   `args` do not fit the view
    |-- IncorrectMethodNameType          400
    |-- NotSpecifiedError                400
    |   |-- NotSpecifiedURL              400
    |   |-- NotSpecifiedMethodName       400
    |   |-- NotSpecifiedHandler          404   no such URL
    |   |   `-- MethodNotAllowed         405   the URL does not take this method
    |   `-- NotSpecifiedTopic            404   no such topic
    |-- SubscriptionRefused              403   the topic is not for this client
    |-- DeadlineExceeded                 408   the call was not done in time
    |-- ReplyTooLarge                    413   the reply is over the limit
    |-- TooManyMessages                  429   the client is over its rate
    |-- TooManyStreams                   429   so many streams of the connection are open
    |-- TooManySubscriptions             429   so many subscriptions has the connection
    |-- CallCancelled                    499   the call was cancelled before it was done
    |-- InternalError                    500   our fault; the log has the traceback
    |-- ServiceUnavailable               503   full, or shutting down
    |   `-- TopicsUnavailable            503   the broker of the topics cannot be reached
    |-- SerializerError                  500   a value cannot be rendered
    |-- NotImplementedMethod             500
    |-- InvalidRenderer                  500
    |-- EndpointValueError                     raised by registration
    |-- InvalidHandler                         raised by registration
    |-- InvalidPathArgument                    raised by registration
    `-- NotSupportedArgumentType               raised by registration

    UnknownTopic                         a LookupError: published to what was not registered
"""

from typing import Any

from aiorest_ws.status import (
    STATUS_BAD_REQUEST,
    STATUS_CANCELLED,
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
    "DeadlineExceeded",
    "EndpointValueError",
    "ImproperlyConfigured",
    "IncorrectArgument",
    "IncorrectMethodNameType",
    "InternalError",
    "InvalidHandler",
    "InvalidPathArgument",
    "InvalidRenderer",
    "MalformedMessage",
    "MethodNotAllowed",
    "NotImplementedMethod",
    "NotSpecifiedError",
    "NotSpecifiedHandler",
    "NotSpecifiedMethodName",
    "NotSpecifiedTopic",
    "NotSpecifiedURL",
    "NotSupportedArgumentType",
    "ReplyTooLarge",
    "SerializerError",
    "ServiceUnavailable",
    "SubscriptionRefused",
    "TooManyMessages",
    "TooManyStreams",
    "TooManySubscriptions",
    "TopicsUnavailable",
    "UnknownTopic",
)


class ImproperlyConfigured(Exception):
    """A setting, a class or a parameter of the program is wrong."""


class BaseAPIException(Exception):
    """Raised in a view or a middleware, become the failure with this `detail` and `status`.

    `status_code` is the WebSocket close code that fits the error, for programs that close on it.
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
    """What a client sent cannot be read as a request.

    `event_name` and `request_id` are what could still be read of it, so that the client can tell
    which of its messages was refused.
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
    """A request lacks something."""

    default_detail = "The request lacks a parameter."


class NotSpecifiedURL(NotSpecifiedError):
    """A request has no `url`."""

    default_detail = "In query not specified `url` argument."


class NotSpecifiedMethodName(NotSpecifiedError):
    """A request has no `method`."""

    default_detail = "In query not specified `method` argument."


class NotSpecifiedHandler(NotSpecifiedError):
    """No endpoint has the URL of a request."""

    default_detail = "For URL, typed in request, handler not specified."
    status = STATUS_NOT_FOUND


class MethodNotAllowed(NotSpecifiedHandler):
    """The endpoint of a request does not take its method."""

    status = STATUS_METHOD_NOT_ALLOWED


class NotSpecifiedTopic(NotSpecifiedError):
    """A client wants to subscribe to what is no topic."""

    default_detail = "There is no such topic."
    status = STATUS_NOT_FOUND


class SubscriptionRefused(BaseAPIException):
    """A topic is not for the client that wants to subscribe to it."""

    default_detail = "This topic is not open to the caller."
    status_code = WS_MESSAGE_VIOLATE_POLICY
    status = STATUS_FORBIDDEN


class InternalError(BaseAPIException):
    """A fault of ours, of which the client learns only that it is ours."""

    default_detail = "Internal server error."
    status = STATUS_INTERNAL_ERROR


class DeadlineExceeded(BaseAPIException):
    """A call was not done in time."""

    default_detail = "The call took too long."
    status = STATUS_TIMEOUT


class ReplyTooLarge(BaseAPIException):
    """A reply is larger than a message may be."""

    default_detail = "The reply is too large."
    status = STATUS_TOO_LARGE


class TooManyMessages(BaseAPIException):
    """A client sends more messages than it may."""

    default_detail = "Too many messages."
    status_code = WS_MESSAGE_VIOLATE_POLICY
    status = STATUS_TOO_MANY


class TooManyStreams(BaseAPIException):
    """A connection has as many streams as it may."""

    default_detail = "Too many streams of this connection are open."
    status = STATUS_TOO_MANY


class TooManySubscriptions(BaseAPIException):
    """A connection has as many subscriptions as it may."""

    default_detail = "Too many subscriptions of this connection."
    status = STATUS_TOO_MANY


class CallCancelled(BaseAPIException):
    """A call was cancelled before its view was done."""

    default_detail = "The call was cancelled."
    status = STATUS_CANCELLED


class ServiceUnavailable(BaseAPIException):
    """The server cannot take this call now."""

    default_detail = "The server is busy, try again later."
    status = STATUS_UNAVAILABLE


class TopicsUnavailable(ServiceUnavailable):
    """The broker of the topics cannot be reached."""

    default_detail = "Topics are not available, try again later."


class UnknownTopic(LookupError):
    """What was published to is not a topic that was registered."""


class SerializerError(BaseAPIException):
    """A renderer cannot render a value."""

    default_detail = "The reply cannot be rendered."
    status = STATUS_INTERNAL_ERROR


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
    """A handler is not a subclass of MethodBasedView."""

    default_detail = "A handler must be a subclass of MethodBasedView."


class InvalidPathArgument(BaseAPIException):
    """A path does not start with a slash."""

    default_detail = "A path must start with `/`."


class NotSupportedArgumentType(BaseAPIException):
    """An argument of a registration has the wrong type."""

    default_detail = "An argument has a type that is not supported."
    status_code = WS_DATA_CANNOT_ACCEPT
