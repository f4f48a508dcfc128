"""Base classes of auths."""

from abc import ABC, abstractmethod

from networkpype._headers import replace_header
from networkpype.exceptions import AuthError, ConfigurationError
from networkpype.rest.request import RESTRequest
from networkpype.time_synchronizer import TimeSynchronizer
from networkpype.websocket.request import WebSocketRequest

__all__ = ("Auth", "RESTOnlyAuth")


class Auth(ABC):
    """Sign the requests that require auth, each attempt separately.

    The request passed in is a copy, which may be changed. `time_provider` estimates the server's
    time. A request that has no connection within `resign_after_s` is signed again when it has
    one; None is for a signature without a time. Requests that `rest_authenticate` sends then
    raise AuthError, and the first signature is used.
    """

    resign_after_s: float | None = 0.01

    def __init__(self, time_provider: TimeSynchronizer | None = None) -> None:
        self.time_provider = TimeSynchronizer() if time_provider is None else time_provider

    async def before_admission(self) -> None:  # noqa: B027  (optional by intent)
        """Send requests that signing needs, before the limit admits the request to sign.

        A request that waits for another one while it holds capacity may deadlock, because the
        other one may need that capacity.
        """

    def unauthorized(self, request: RESTRequest) -> None:  # noqa: B027  (optional by intent)
        """React to a response with status 401; `request` is the signed request."""

    @abstractmethod
    async def rest_authenticate(self, request: RESTRequest) -> RESTRequest:
        """Return the signed request."""

    @abstractmethod
    async def ws_authenticate(self, request: WebSocketRequest) -> WebSocketRequest:
        """Return the signed request."""


class RESTOnlyAuth(Auth):
    """An auth for REST requests only; a subclass may add `ws_authenticate()`."""

    async def ws_authenticate(self, request: WebSocketRequest) -> WebSocketRequest:
        """Raise AuthError: a message that requires auth is never sent unsigned."""
        raise AuthError(
            f"{type(self).__name__} cannot sign a {type(request).__name__}: "
            f"override ws_authenticate()."
        )


def set_header(request: RESTRequest, name: str, value: str) -> None:
    """Set a header, and remove its spellings in other cases."""
    request.headers = replace_header(request.headers, name, value)


def require(name: str, value: str | bytes) -> None:
    """Raise ConfigurationError for an empty secret."""
    if not value:
        raise ConfigurationError(f"{name} is empty.")
