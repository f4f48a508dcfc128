"""Errors of the package.

::

    NetworkpypeError
    |-- ConfigurationError (ValueError)            the program is set up wrongly; nothing was sent
    |   `-- UnknownLimitError                      a limit id that the throttler does not know
    |-- ClosedError (RuntimeError)                 the factory or the connection is closed
    |-- DeadlineExceeded (TimeoutError)            `timeout` of a request is over
    |-- AuthError                                  a request cannot be signed
    |-- BodyDecodeError (ValueError)               a body is not the JSON that was asked for
    |-- HTTPStatusError (OSError)                  status 400 and up
    |-- TransportError (aiohttp.ClientError)       replaces an error of aiohttp
    |   |-- ConnectionFailedError (aiohttp.ClientConnectionError)      not made, reset or lost
    |   |   |-- StaleConnectionError (aiohttp.ServerDisconnectedError) lost just when it was used
    |   |   |-- ConnectError (aiohttp.ClientConnectorError)            not made: nothing was sent
    |   |   |   `-- TLSError (aiohttp.ClientSSLError)
    |   |   `-- TransportTimeoutError (aiohttp.ServerTimeoutError)
    |   |       `-- ConnectTimeoutError (aiohttp.ConnectionTimeoutError)   nothing was sent
    |   |-- PayloadError (aiohttp.ClientPayloadError)    a response body broke off or is malformed
    |   |-- UploadError                                  a request body was not sent to its end
    |   |-- InvalidURLError (ValueError)                 not a URL, or not one of HTTP
    |   |-- ResponseError (aiohttp.ClientResponseError)  a response head that is not usable
    |   |   `-- WebSocketHandshakeError (aiohttp.WSServerHandshakeError)
    |   `-- RedirectError                                to somewhere that is not followed
    |       `-- TooManyRedirectsError (ResponseError, aiohttp.TooManyRedirects)
    |-- MessageTypeError (TypeError)               a WebSocket message of another type
    |-- WebSocketClosedError (ConnectionError)     the server closed the WebSocket
    |-- ReceiveTimeoutError (TimeoutError)         no WebSocket message in time
    |-- BufferOverflowError                        the receive buffer is full
    |-- ConnectionStateError (RuntimeError)        the state of the connection does not allow it
    `-- DisconnectedError (ClosedError, ConnectionError)    the WebSocket is not connected

An error that replaces one of aiohttp is also an instance of the very class that it replaces
(`map_client_error`), with its attributes, and has it as its `__cause__`.
"""

import functools
import json
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from networkpype._urls import public_part

__all__ = (
    "AuthError",
    "BodyDecodeError",
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


class NetworkpypeError(Exception):
    """Root of every error that this package raises on its own account."""

    _combined_from: ClassVar[tuple[type["NetworkpypeError"], type[Exception]] | None] = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle's own way calls the class with `args`, which does not fit keyword-only fields.
        category, original = self._combined_from or (type(self), type(self))
        return _rebuild, (category, original, self.args, self.__dict__)


class ConfigurationError(NetworkpypeError, ValueError):
    """The program is set up wrongly; nothing was sent."""


class UnknownLimitError(ConfigurationError):
    """A limit id that the throttler does not know."""


class ClosedError(NetworkpypeError, RuntimeError):
    """The factory, or the connection, that was to be used is closed."""


class DeadlineExceeded(NetworkpypeError, TimeoutError):
    """The `timeout` of a request passed: wait, auth, connect and body together."""

    attempts: int = 1


class AuthError(NetworkpypeError):
    """A request that asked to be signed cannot be signed; it was not sent."""


class BodyDecodeError(NetworkpypeError, json.JSONDecodeError):
    """A response body is not the JSON that was asked for.

    `doc` is the text as it came; it is not part of `str()`, as it may hold secrets.
    """

    def __init__(self, message: str, doc: str, position: int, *, status: int) -> None:
        json.JSONDecodeError.__init__(self, message, doc, position)
        self.status = status


class HTTPStatusError(NetworkpypeError, OSError):
    """A response with status 400 or more.

    `url` is as the caller wrote it, and stands in the text too: secrets belong in `params` or
    headers, which do not. `body` is the text of the response, also
    when it is not JSON. `attempts` counts the requests that were sent, this one included.
    """

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
        super().__init__(
            f"Error executing request {method} {url}. HTTP status is {status}. Error: {body}"
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
    """An error of aiohttp, replaced; see the subclasses.

    `attempts` counts the requests that were tried, the failed one included.
    """

    attempts: int = 1


class ConnectionFailedError(TransportError, aiohttp.ClientConnectionError):
    """A connection was not made, or was reset or lost."""


class StaleConnectionError(ConnectionFailedError, aiohttp.ServerDisconnectedError):
    """The server closed a kept connection just when a request was sent on it."""


class ConnectError(ConnectionFailedError, aiohttp.ClientConnectorError):
    """A connection could not be made; nothing was sent."""


class TLSError(ConnectError, aiohttp.ClientSSLError):
    """The TLS handshake failed or the certificate is not accepted; nothing was sent."""


class TransportTimeoutError(ConnectionFailedError, aiohttp.ServerTimeoutError):
    """One of aiohttp's own timeouts (`aiohttp.ClientTimeout` of the session) passed."""


class ConnectTimeoutError(TransportTimeoutError, aiohttp.ConnectionTimeoutError):
    """No connection within aiohttp's own connect timeout; nothing was sent."""


class PayloadError(TransportError, aiohttp.ClientPayloadError):
    """The body of a response broke off or is malformed."""


class UploadError(TransportError):
    """The body of a request was not sent to its end."""


class InvalidURLError(TransportError, ValueError):
    """Not a URL, or not one that HTTP can be spoken to."""


class RedirectError(TransportError):
    """A redirect that is not followed: too many, or to a place that must not be requested."""


class ResponseError(TransportError, aiohttp.ClientResponseError):
    """A response whose head cannot be used; carries `status`, `message` and `headers`.

    `request_info` has neither the query of the URL nor the headers of the request, and `history`
    is empty: they hold secrets.
    """

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"


class WebSocketHandshakeError(ResponseError, aiohttp.WSServerHandshakeError):
    """The server refused to open a WebSocket; `status` says with which HTTP status."""


class TooManyRedirectsError(RedirectError, ResponseError, aiohttp.TooManyRedirects):
    """More redirects than `max_redirects`."""


class MessageTypeError(NetworkpypeError, TypeError):
    """A WebSocket message is of another type than the one asked for."""


class WebSocketClosedError(NetworkpypeError, ConnectionError):
    """A WebSocket was closed without our asking.

    `code` is the close code of RFC 6455, section 7.4 (1006 when there was no close frame).
    """

    def __init__(self, message: str, *, code: int | None = None, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class ReceiveTimeoutError(NetworkpypeError, TimeoutError):
    """No message came within `message_timeout`."""


class BufferOverflowError(NetworkpypeError):
    """The receive buffer is full and its policy is to raise."""


class ConnectionStateError(NetworkpypeError, RuntimeError):
    """A WebSocket is connected twice, or received from by two at a time."""


class DisconnectedError(ClosedError, ConnectionError):
    """A WebSocket is used that is not connected, or is disconnected by ourselves meanwhile."""


def map_client_error(error: Exception) -> NetworkpypeError:
    """Return the error of this package that replaces `error`, one of aiohttp or of the socket.

    Raise it `from error`. An error of this package is returned as it is. Of a
    `ClientResponseError`, the request's headers and query are taken away, in `error` too, because
    a traceback prints both.
    """
    if isinstance(error, NetworkpypeError):
        return error
    if isinstance(error, aiohttp.ClientResponseError):
        _strip_secrets(error)
    original = type(error)
    category = next(ours for theirs, ours in _REPLACEMENTS if isinstance(error, theirs))
    mapped = _rebuild(category, original, error.args, error.__dict__)
    if isinstance(error, OSError):
        for field in ("errno", "strerror", "filename", "filename2"):
            setattr(mapped, field, getattr(error, field))
    return mapped


def _strip_secrets(error: aiohttp.ClientResponseError) -> None:
    info = error.request_info
    if info is not None:
        # Not a proxy as in aiohttp: a proxy cannot be pickled.
        headers = cast("CIMultiDictProxy[str]", CIMultiDict[str]())
        error.request_info = aiohttp.RequestInfo(
            URL(public_part(info.url)), info.method, headers, URL(public_part(info.real_url))
        )
    error.history = ()
    error.args = (error.request_info, ())


@functools.cache
def _combined(category: type[Any], original: type[Any]) -> type[Any]:
    """Return a subclass of both, under the name of `category`."""
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
    args: tuple[Any, ...],
    fields: Mapping[str, Any],
) -> NetworkpypeError:
    """Make an error past `__init__`: the classes of aiohttp all want other arguments."""
    error_class = _combined(cast("Any", category), cast("Any", original))
    error: NetworkpypeError = error_class.__new__(error_class, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


# Not in every aiohttp that will do; where it is missing, this line fits nothing.
_UPLOAD_ABORTED: type[Exception] = getattr(aiohttp, "UploadAbortedError", UploadError)

# The first line that fits decides; a class comes before its own base.
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
