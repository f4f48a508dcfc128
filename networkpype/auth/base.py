"""What an auth must offer."""

from abc import ABC, abstractmethod
from typing import Any

from networkpype.exceptions import AuthError, ConfigurationError
from networkpype.rest.request import RESTRequest
from networkpype.time_synchronizer import TimeSynchronizer
from networkpype.websocket.request import WebSocketRequest

__all__ = ("Auth", "RESTOnlyAuth")


class Auth(ABC):
    """Sign the requests that ask for it, each attempt anew.

    The request given is a copy that may be changed. `time_provider` tells the server's time.
    """

    def __init__(self, time_provider: TimeSynchronizer | None = None) -> None:
        self.time_provider = TimeSynchronizer() if time_provider is None else time_provider

    async def before_admission(self) -> None:  # noqa: B027  (optional by intent)
        """Do what takes requests of its own, before a limit admits the one to sign.

        A request that waits for another one while it holds capacity may hold the capacity that
        the other one needs.
        """

    def unauthorized(self, request: RESTRequest) -> None:  # noqa: B027  (optional by intent)
        """Take note that `request`, as it was signed, was answered with status 401."""

    @abstractmethod
    async def rest_authenticate(self, request: RESTRequest) -> RESTRequest:
        """Return the signed request."""

    @abstractmethod
    async def ws_authenticate(self, request: WebSocketRequest) -> WebSocketRequest:
        """Return the signed request."""


class RESTOnlyAuth(Auth):
    """An auth that has no place in a WebSocket message; a subclass may know one."""

    async def ws_authenticate(self, request: WebSocketRequest) -> WebSocketRequest:
        """Raise AuthError: a message that asked to be signed is never sent unsigned."""
        raise AuthError(
            f"{type(self).__name__} cannot sign a {type(request).__name__}: "
            f"override ws_authenticate()."
        )


def set_header(request: RESTRequest, name: str, value: str) -> None:
    """Set a header, in place of one of the same name in whatever case."""
    lowered = name.lower()
    kept: dict[str, Any] = {
        key: old for key, old in (request.headers or {}).items() if key.lower() != lowered
    }
    request.headers = {**kept, name: value}


def require(name: str, value: str | bytes) -> None:
    """Raise ConfigurationError for an empty secret, which would sign nothing."""
    if not value:
        raise ConfigurationError(f"{name} is empty.")
