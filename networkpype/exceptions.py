"""Exceptions of this package.

::

    NetworkpypeError
    |-- ConfigurationError (ValueError)            invalid configuration; nothing was sent
    |   `-- UnknownLimitError                      the throttler has no limit with this id
    |-- ClosedError (RuntimeError)                 the factory or the connection is closed
    |-- DeadlineExceeded (TimeoutError)            the `timeout` of a request expired
    |-- AuthError                                  a request cannot be signed
    |-- BodyDecodeError (ValueError)               a response body is not JSON or not text
    |-- BodyTooLargeError (ValueError)             a response body exceeds `max_body_bytes`
    |-- HTTPStatusError (OSError)                  status 400 and up
    |-- TransportError (aiohttp.ClientError)       replaces an error of aiohttp
    |   |-- ConnectionFailedError (aiohttp.ClientConnectionError)      failed, reset or lost
    |   |   |-- StaleConnectionError (aiohttp.ServerDisconnectedError) a kept connection was closed
    |   |   |-- ConnectError (aiohttp.ClientConnectorError)            failed; nothing was sent
    |   |   |   `-- TLSError (aiohttp.ClientSSLError)
    |   |   `-- TransportTimeoutError (aiohttp.ServerTimeoutError)
    |   |       |-- ConnectTimeoutError (aiohttp.ConnectionTimeoutError)   nothing was sent
    |   |       `-- AttemptTimeoutError                  an attempt took too long
    |   |-- PayloadError (aiohttp.ClientPayloadError)    a response body is truncated or malformed
    |   |-- UploadError                                  a request body was sent only in part
    |   |-- InvalidURLError (ValueError)                 not a URL, or not an HTTP one
    |   |-- ResponseError (aiohttp.ClientResponseError)  an unusable response head
    |   |   `-- WebSocketHandshakeError (aiohttp.WSServerHandshakeError)
    |   `-- RedirectError                                a redirect that is not followed
    |       `-- TooManyRedirectsError (ResponseError, aiohttp.TooManyRedirects)
    |-- MessageTypeError (TypeError)               a WebSocket message of another type
    |-- WebSocketClosedError (ConnectionError)     the server closed the WebSocket
    |-- ReceiveTimeoutError (TimeoutError)         no WebSocket message in time
    |-- BufferOverflowError                        the receive buffer is full
    |-- ConnectionStateError (RuntimeError)        not allowed in the state of the connection
    `-- DisconnectedError (ClosedError, ConnectionError)    the WebSocket is not connected
        `-- ReconnectingError                      not connected yet: it is reconnecting

An error that replaces one of aiohttp is also an instance of the replaced class, with its
attributes, and has the replaced error as its `__cause__` (see `map_client_error`).
"""

import functools
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Final, cast

import aiohttp
from multidict import CIMultiDict

from networkpype._urls import strip_secrets

__all__ = (
    "AttemptTimeoutError",
    "AuthError",
    "BodyDecodeError",
    "BodyTooLargeError",
    "BufferOverflowError",
    "ClosedError",
    "ConfigurationError",
    "ConnectError",
    "ConnectTimeoutError",
    "ConnectionFailedError",
    "ConnectionStateError",
    "DeadlineExceeded",
    "DisconnectedError",
    "HTTPStatusError",
    "InvalidURLError",
    "MessageTypeError",
    "NetworkpypeError",
    "PayloadError",
    "ReceiveTimeoutError",
    "ReconnectingError",
    "RedirectError",
    "ResponseError",
    "StaleConnectionError",
    "TLSError",
    "TooManyRedirectsError",
    "TransportError",
    "TransportTimeoutError",
    "UnknownLimitError",
    "UploadError",
    "WebSocketClosedError",
    "WebSocketHandshakeError",
    "map_client_error",
)


# In characters: how much of a body is in the text of an error.
_MAX_ERROR_TEXT: Final = 4096


class NetworkpypeError(Exception):
    """Base class of all errors of this package."""

    _combined_from: ClassVar[tuple[type["NetworkpypeError"], type[Exception]] | None] = None

    def __reduce__(self) -> tuple[object, ...]:
        # By default, pickle calls the class with `args`, which fails for keyword-only fields.
        category, original = self._combined_from or (type(self), type(self))
        return _rebuild, (category, original, self.args, self.__dict__)


class ConfigurationError(NetworkpypeError, ValueError):
    """The configuration is invalid; nothing was sent."""


class UnknownLimitError(ConfigurationError):
    """The throttler has no limit with this id."""


class ClosedError(NetworkpypeError, RuntimeError):
    """The factory or the connection is closed."""


class DeadlineExceeded(NetworkpypeError, TimeoutError):
    """The `timeout` of a request, from waiting to its response body, expired.

    `maybe_processed` is False if no attempt can have been processed: none was sent, or the
    server answered 429 to each that was.
    """

    attempts: int = 1
    maybe_processed: bool = True


class AuthError(NetworkpypeError):
    """A request that requires auth cannot be signed; it was not sent."""


class BodyDecodeError(NetworkpypeError, json.JSONDecodeError):
    """A response body is not JSON, or not text in its charset.

    `doc` is its text. It is not part of `str()`, because it may contain secrets. `url` has no
    query.
    """

    def __init__(
        self, message: str, doc: str, position: int, *, status: int, url: str = ""
    ) -> None:
        json.JSONDecodeError.__init__(self, message, doc, position)
        self.status = status
        self.url = url


class BodyTooLargeError(NetworkpypeError, ValueError):
    """A decompressed response body exceeds `max_body_bytes`; the connection is closed.

    `body_start` is the beginning of the body. `url` has no query.
    """

    def __init__(
        self, *, max_body_bytes: int, status: int, url: str, body_start: bytes = b""
    ) -> None:
        super().__init__(f"The body from {url} (status {status}) exceeds {max_body_bytes} bytes.")
        self.max_body_bytes = max_body_bytes
        self.status = status
        self.url = url
        self.body_start = body_start


class HTTPStatusError(NetworkpypeError, OSError):
    """A response with status 400 or more.

    `url` is as the caller wrote it, and part of the error text: put secrets into `params` or
    headers instead. `body` is the text of the response, JSON or not. `attempts` counts the
    requests that were sent, including this one. `maybe_processed` is as in DeadlineExceeded.
    """

    maybe_processed: bool = True

    def __init__(
        self,
        *,
        method: str,
        url: str,
        status: int,
        headers: Mapping[str, str],
        body: str,
        attempts: int = 1,
    ) -> None:
        text = body
        if len(body) > _MAX_ERROR_TEXT:
            text = f"{body[:_MAX_ERROR_TEXT]}... ({len(body)} characters)"
        super().__init__(
            f"Error executing request {method} {url}. HTTP status is {status}. Error: {text}"
        )
        self.method = method
        self.url = url
        self.status = status
        self.headers: Mapping[str, str] = CIMultiDict(headers)
        self.body = body
        self.attempts = attempts

    def __repr__(self) -> str:
        return (
            f"HTTPStatusError(method={self.method!r}, url={self.url!r}, status={self.status}, "
            f"attempts={self.attempts})"
        )


class TransportError(NetworkpypeError, aiohttp.ClientError):
    """An error that replaces one of aiohttp; see the subclasses.

    `attempts` counts the requests that were tried, including the failed one. `was_sent` is False
    if surely no byte of the last one was sent. `maybe_processed` is as in DeadlineExceeded.
    """

    attempts: int = 1
    maybe_processed: bool = True
    was_sent: bool = True


class ConnectionFailedError(TransportError, aiohttp.ClientConnectionError):
    """A connection could not be made, or was reset or lost."""


class StaleConnectionError(ConnectionFailedError, aiohttp.ServerDisconnectedError):
    """The server closed a kept connection while a request was sent on it."""


class ConnectError(ConnectionFailedError, aiohttp.ClientConnectorError):
    """A connection could not be made; nothing was sent."""

    was_sent = False


class TLSError(ConnectError, aiohttp.ClientSSLError):
    """The TLS handshake failed or the certificate was rejected; nothing was sent."""


class TransportTimeoutError(ConnectionFailedError, aiohttp.ServerTimeoutError):
    """One of aiohttp's own timeouts (`aiohttp.ClientTimeout` of the session) expired."""


class ConnectTimeoutError(TransportTimeoutError, aiohttp.ConnectionTimeoutError):
    """aiohttp's own connect timeout expired; nothing was sent."""

    was_sent = False


class AttemptTimeoutError(TransportTimeoutError):
    """An attempt took longer than `attempt_timeout_seconds` of the RetryPolicy."""


class PayloadError(TransportError, aiohttp.ClientPayloadError):
    """The body of a response is truncated or malformed."""


class UploadError(TransportError):
    """The body of a request was sent only in part."""


class InvalidURLError(TransportError, ValueError):
    """The URL is invalid, or not an HTTP URL."""


class RedirectError(TransportError):
    """A redirect that is not followed: too many, or to a forbidden URL."""


class ResponseError(TransportError, aiohttp.ClientResponseError):
    """The head of a response is unusable; has `status`, `message` and `headers`.

    `request_info` has no query and no headers, and `history` is empty, because they may contain
    secrets.
    """

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"


class WebSocketHandshakeError(ResponseError, aiohttp.WSServerHandshakeError):
    """The server refused to open a WebSocket; `status` is the HTTP status."""


class TooManyRedirectsError(RedirectError, ResponseError, aiohttp.TooManyRedirects):
    """More redirects than `max_redirects`."""


class MessageTypeError(NetworkpypeError, TypeError):
    """A WebSocket message does not have the requested type."""


class WebSocketClosedError(NetworkpypeError, ConnectionError):
    """The WebSocket was closed by the server or lost.

    `code` is the close code of RFC 6455, section 7.4 (1006 without a close frame).
    """

    def __init__(self, message: str, *, code: int | None = None, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class ReceiveTimeoutError(NetworkpypeError, TimeoutError):
    """No message arrived within `message_timeout`."""


class BufferOverflowError(NetworkpypeError):
    """The receive buffer is full and its policy is `raise`."""


class ConnectionStateError(NetworkpypeError, RuntimeError):
    """Two tasks connect or receive on one WebSocket, or it is already connected."""


class DisconnectedError(ClosedError, ConnectionError):
    """The WebSocket is not connected, or `disconnect()` was called in the meantime."""


class ReconnectingError(DisconnectedError):
    """The WebSocket is reconnecting; nothing was sent."""

    def __init__(self, message: str = "WebSocket is reconnecting.") -> None:
        super().__init__(message)


def map_client_error(error: Exception) -> NetworkpypeError:
    """Return the error of this package that replaces `error`, an error of aiohttp or a socket.

    Raise it `from error`. An error of this package is returned unchanged. The headers and query
    of the request are removed from a `ClientResponseError`, from `error` too, because a traceback
    prints both errors.
    """
    if isinstance(error, NetworkpypeError):
        return error
    if isinstance(error, aiohttp.ClientResponseError):
        strip_secrets(error)
    original = type(error)
    category = next(ours for theirs, ours in _REPLACEMENTS if isinstance(error, theirs))
    mapped = _rebuild(category, original, error.args, error.__dict__)
    if isinstance(error, OSError):
        for field in ("errno", "strerror", "filename", "filename2"):
            setattr(mapped, field, getattr(error, field))
    return mapped


@functools.cache
def _combined(
    category: type[NetworkpypeError], original: type[Exception]
) -> type[NetworkpypeError]:
    """Return a subclass of both with the name of `category`."""
    if issubclass(category, original):
        return category
    namespace = {
        "__module__": category.__module__,
        "__doc__": category.__doc__,
        "_combined_from": (category, original),
    }
    return type(category.__name__, (category, original), namespace)


def _rebuild(
    category: type[NetworkpypeError],
    original: type[Exception],
    args: tuple[object, ...],
    fields: Mapping[str, object],
) -> NetworkpypeError:
    """Create an error without `__init__`, whose arguments differ between aiohttp's classes."""
    # mypy does not accept classes as hashable arguments.
    error_class = _combined(cast("Any", category), cast("Any", original))
    error: NetworkpypeError = error_class.__new__(error_class, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


# Missing from older releases of aiohttp; UploadError then matches nothing in the table below.
_UPLOAD_ABORTED: type[Exception] = getattr(aiohttp, "UploadAbortedError", UploadError)

# The first matching line decides, so a class must precede its base classes.
_REPLACEMENTS: tuple[tuple[type[Exception], type[NetworkpypeError]], ...] = (
    (aiohttp.ClientSSLError, TLSError),
    (aiohttp.ClientConnectorError, ConnectError),
    (aiohttp.ConnectionTimeoutError, ConnectTimeoutError),
    (aiohttp.ServerTimeoutError, TransportTimeoutError),
    (aiohttp.ClientConnectionError, ConnectionFailedError),
    (aiohttp.ClientPayloadError, PayloadError),
    (_UPLOAD_ABORTED, UploadError),
    (aiohttp.RedirectClientError, RedirectError),
    (aiohttp.InvalidURL, InvalidURLError),
    (aiohttp.NonHttpUrlClientError, InvalidURLError),
    (aiohttp.TooManyRedirects, TooManyRedirectsError),
    (aiohttp.WSServerHandshakeError, WebSocketHandshakeError),
    (aiohttp.ClientResponseError, ResponseError),
    (aiohttp.WSMessageTypeError, MessageTypeError),
    (TimeoutError, TransportTimeoutError),
    (OSError, ConnectionFailedError),
    (Exception, TransportError),
)
