"""Base classes of endpoints, routers, middlewares and permissions."""

import sys
from abc import ABC, abstractmethod
from typing import Any

from aiorest_ws.codecs import decode_message
from aiorest_ws.wrappers import Request

__all__ = ("AbstractEndpoint", "AbstractMiddleware", "AbstractPermission", "AbstractRouter")


class AbstractEndpoint(ABC):
    """A path or a path template, and its view, `handler`.

    `methods` is this endpoint's own list of methods, as registered.
    """

    def __init__(
        self, path: str, handler: Any, methods: str | list[str], name: str | None = None
    ) -> None:
        self.path = path
        self.handler = handler
        self.methods: list[str] = [methods] if isinstance(methods, str) else list(methods)
        self.name = name

    @abstractmethod
    def match(self, path: str) -> tuple[str, ...] | None:
        """Return the path values in order, or None if `path` is not this endpoint's."""


class AbstractRouter(ABC):
    """Make the reply to a request.

    Messages of up to `plain_bytes` are decoded in the same way for all views.
    """

    plain_bytes: int = sys.maxsize

    def __init__(self) -> None:
        self._urls: list[AbstractEndpoint] = []
        self._routes: dict[str, AbstractEndpoint] = {}
        self._middlewares: list[Any] = []

    @property
    def urls(self) -> list[AbstractEndpoint]:
        """The endpoints of this router, in the order of registration."""
        return self._urls

    @property
    def routes(self) -> dict[str, AbstractEndpoint]:
        """The endpoints that have a name, by name."""
        return self._routes

    @property
    def middlewares(self) -> list[Any]:
        """The middlewares of this router, in the order in which they get a request."""
        return self._middlewares

    def decode(self, payload: bytes, is_binary: bool = False) -> Request:
        """Return the request in a message; raise MalformedMessage if there is none."""
        return decode_message(payload, is_binary)

    @abstractmethod
    def process_request(self, request: Request) -> Any:
        """Return the reply as bytes, or an awaitable of them."""


class AbstractMiddleware(ABC):
    """Process every request for which there is a view.

    A middleware may also have `process_response(request, response)`, which gets every reply,
    failures included, and returns another `Response` or None to keep this one. Both may be
    coroutines. `request_attributes` names the attributes that the middleware sets on requests:
    messages with such a key are rejected.
    """

    request_attributes: tuple[str, ...] = ()

    @abstractmethod
    def process_request(self, request: Request, handler: Any) -> Any:
        """Process a request before its view runs; raise to reject it."""


class AbstractPermission(ABC):
    """Allow or forbid a request."""

    @staticmethod
    @abstractmethod
    def check(request: Request, handler: Any) -> Any:
        """Return whether the request is allowed."""
