"""What an endpoint, a router, a middleware and a permission must offer."""

from abc import ABC, abstractmethod
from typing import Any

from aiorest_ws.wrappers import Request

__all__ = ("AbstractEndpoint", "AbstractMiddleware", "AbstractPermission", "AbstractRouter")


class AbstractEndpoint(ABC):
    """Tell whether a path is the endpoint's own, and name the view behind it.

    `methods` is this endpoint's own list of method words, as they were registered.
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
        """Return the values in `path`, in order, or None if it is not this endpoint's."""


class AbstractRouter(ABC):
    """Turn a request into the bytes of its reply."""

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
        """The middlewares of this router, in the order in which they see a request."""
        return self._middlewares

    @abstractmethod
    def process_request(self, request: Request) -> Any:
        """Return the reply as bytes, or an awaitable of them."""


class AbstractMiddleware(ABC):
    """See every request that has found a view.

    A middleware that also has `process_response(request, response)` sees the reply, failures
    included, and may return another `Response` (None keeps the one it was given). Both may be
    coroutines. `request_attributes` names what the middleware sets on requests: a client that
    sends such a key is refused.
    """

    request_attributes: tuple[str, ...] = ()

    @abstractmethod
    def process_request(self, request: Request, handler: Any) -> Any:
        """Look at a request before its view runs; raise to refuse it."""


class AbstractPermission(ABC):
    """Allow or forbid a request."""

    @staticmethod
    @abstractmethod
    def check(request: Request, handler: Any) -> Any:
        """Return a true value to allow the request, a false one to forbid it."""
