"""Every error of aiohttp is replaced by one of ours that is still one of aiohttp's."""

import inspect
import pickle
import ssl
from typing import Any

import aiohttp
import pytest
from aiohttp import client_exceptions, http_exceptions
from aiohttp.client_reqrep import ConnectionKey
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from networkpype import exceptions
from networkpype.exceptions import (
    BodyDecodeError,
    ConnectError,
    ConnectionFailedError,
    ConnectTimeoutError,
    HTTPStatusError,
    InvalidURLError,
    MessageTypeError,
    NetworkpypeError,
    PayloadError,
    RedirectError,
    ResponseError,
    TLSError,
    TooManyRedirectsError,
    TransportError,
    TransportTimeoutError,
    UploadError,
    WebSocketClosedError,
    WebSocketHandshakeError,
    map_client_error,
)

SECRET_URL = URL("http://user:hunter2@host/path?signature=hunter2")
KEY = ConnectionKey("host", 1, True, True, None, None, None)

EXPECTED = {
    "ClientError": TransportError,
    "ClientResponseError": ResponseError,
    "ContentTypeError": ResponseError,
    "WSServerHandshakeError": WebSocketHandshakeError,
    "ClientHttpProxyError": ResponseError,
    "TooManyRedirects": TooManyRedirectsError,
    "ClientConnectionError": ConnectionFailedError,
    "ClientConnectionResetError": ConnectionFailedError,
    "ClientOSError": ConnectionFailedError,
    "ClientConnectorError": ConnectError,
    "ClientConnectorDNSError": ConnectError,
    "ClientProxyConnectionError": ConnectError,
    "UnixClientConnectorError": ConnectError,
    "ServerConnectionError": ConnectionFailedError,
    "ServerDisconnectedError": ConnectionFailedError,
    "ServerTimeoutError": TransportTimeoutError,
    "ConnectionTimeoutError": ConnectTimeoutError,
    "SocketTimeoutError": TransportTimeoutError,
    "ServerFingerprintMismatch": ConnectionFailedError,
    "ClientPayloadError": PayloadError,
    "UploadAbortedError": UploadError,
    "InvalidURL": InvalidURLError,
    "InvalidUrlClientError": InvalidURLError,
    "RedirectClientError": RedirectError,
    "NonHttpUrlClientError": InvalidURLError,
    "InvalidUrlRedirectClientError": RedirectError,
    "NonHttpUrlRedirectClientError": RedirectError,
    "ClientSSLError": TLSError,
    "ClientConnectorSSLError": TLSError,
    "ClientConnectorCertificateError": TLSError,
    "WSMessageTypeError": MessageTypeError,
}


def errors_of(module: Any) -> list[type[Exception]]:
    return [
        member
        for member in vars(module).values()
        if inspect.isclass(member)
        and issubclass(member, Exception)
        and member.__module__ == module.__name__
    ]


def make(error_class: type[Any]) -> Exception:
    if issubclass(error_class, aiohttp.ClientConnectorCertificateError):
        return error_class(KEY, ssl.SSLCertVerificationError(1, "bad"))
    if issubclass(error_class, client_exceptions.UnixClientConnectorError):
        return error_class("/socket", KEY, OSError(2, "missing"))
    if issubclass(error_class, aiohttp.ClientConnectorError):
        return error_class(KEY, OSError(111, "refused"))
    if issubclass(error_class, aiohttp.ClientResponseError):
        headers = CIMultiDictProxy(CIMultiDict({"Authorization": "hunter2"}))
        info = aiohttp.RequestInfo(SECRET_URL, "GET", headers, SECRET_URL)
        return error_class(info, (), status=502, message="bad", headers=CIMultiDict({"A": "b"}))
    if issubclass(error_class, aiohttp.ServerFingerprintMismatch):
        return error_class(b"a", b"b", "host", 1)
    if issubclass(error_class, aiohttp.InvalidURL):
        return error_class("http://", "no host")
    if issubclass(error_class, OSError):
        return error_class(104, "reset")
    return error_class("text")


@pytest.mark.parametrize("error_class", errors_of(client_exceptions), ids=lambda c: c.__name__)
def test_each_error_of_aiohttp_has_a_replacement_of_its_own_kind(error_class: type[Exception]):
    assert error_class.__name__ in EXPECTED, "aiohttp has an error that nobody decided about"
    original = make(error_class)
    mapped = map_client_error(original)
    assert isinstance(mapped, EXPECTED[error_class.__name__])
    assert isinstance(mapped, error_class)
    assert isinstance(mapped, NetworkpypeError)
    # What a handler of aiohttp's error reads from it is there.
    for name, value in vars(original).items():
        assert getattr(mapped, name) == value
    assert getattr(mapped, "errno", None) == getattr(original, "errno", None)


@pytest.mark.parametrize("error_class", errors_of(client_exceptions), ids=lambda c: c.__name__)
def test_each_replacement_can_be_pickled(error_class: type[Exception]):
    mapped = map_client_error(make(error_class))
    twin = pickle.loads(pickle.dumps(mapped))
    assert type(twin) is type(mapped)
    assert isinstance(twin, error_class)
    assert twin.__dict__.keys() == mapped.__dict__.keys()


@pytest.mark.parametrize("error_class", errors_of(http_exceptions), ids=lambda c: c.__name__)
def test_errors_of_the_parser_are_transport_errors(error_class: type[Exception]):
    original = error_class.__new__(error_class)
    original.__dict__.update(code=400, message="bad", headers=None)
    assert isinstance(map_client_error(original), TransportError)


@pytest.mark.parametrize(
    ("original", "expected"),
    [
        (OSError(5, "io"), ConnectionFailedError),
        (ConnectionResetError(104, "reset"), ConnectionFailedError),
        (TimeoutError(), TransportTimeoutError),
    ],
)
def test_errors_of_the_socket_are_replaced_too(original: OSError, expected: type[Exception]):
    mapped = map_client_error(original)
    assert isinstance(mapped, expected)
    assert isinstance(mapped, type(original))
    assert mapped.errno == original.errno


def test_our_own_error_is_not_replaced_again():
    error = map_client_error(aiohttp.ClientError("x"))
    assert map_client_error(error) is error


@pytest.mark.parametrize(
    "error_class",
    [c for c in errors_of(client_exceptions) if issubclass(c, aiohttp.ClientResponseError)],
    ids=lambda c: c.__name__,
)
def test_a_response_error_tells_no_secret_and_neither_does_its_cause(error_class: type[Exception]):
    original = make(error_class)
    mapped = map_client_error(original)
    for error in (mapped, original):
        assert "hunter2" not in str(error)
        assert "http://host/path" in str(error)
    assert "hunter2" not in repr(mapped) + repr(mapped.request_info) + repr(original.request_info)


def test_the_status_error_says_what_the_contract_says():
    error = HTTPStatusError(
        method="GET", url="http://h/x", status=404, headers={"Retry-After": "1"}, body="no"
    )
    assert str(error) == "Error executing request GET http://h/x. HTTP status is 404. Error: no"
    assert error.headers["retry-after"] == "1"
    assert (error.status, error.body, error.attempts) == (404, "no", 1)
    assert isinstance(error, OSError)
    assert "no" not in repr(error).replace("None", "")


@pytest.mark.parametrize(
    "error",
    [
        HTTPStatusError(method="GET", url="u", status=400, headers={"A": "b"}, body="x"),
        BodyDecodeError("Expecting value", "<html>", 0, status=200),
        WebSocketClosedError("closed", code=1001, reason="away"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_our_errors_can_be_pickled(error: Exception):
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is type(error)
    assert str(twin) == str(error)
    assert twin.__dict__ == error.__dict__


def test_every_error_is_listed_and_has_the_one_root():
    defined = {
        name
        for name, member in vars(exceptions).items()
        if inspect.isclass(member)
        and member.__module__ == exceptions.__name__
        and not name.startswith("_")
    }
    assert defined | {"map_client_error"} == set(exceptions.__all__)
    for name in defined:
        assert issubclass(getattr(exceptions, name), NetworkpypeError)
        assert name in (exceptions.__doc__ or "")
