"""Complete the endpoints of a router: their prefix, their path values, who may call them."""

import inspect
from collections.abc import Iterable, Sequence
from copy import copy
from typing import Any

from aiorest_ws.abstract import AbstractEndpoint
from aiorest_ws.endpoints import DynamicEndpoint, PlainEndpoint
from aiorest_ws.exceptions import EndpointValueError
from aiorest_ws.parsers import URLParser
from aiorest_ws.registration.functions import FunctionView
from aiorest_ws.registration.guards import RouterGuard
from aiorest_ws.registration.options import check_errors
from aiorest_ws.registration.typed_views import TypedViews
from aiorest_ws.topics.routes import TopicRoute
from aiorest_ws.validators import check_path, check_path_order
from aiorest_ws.views import MethodBasedView
from aiorest_ws.wrappers import normalize_method

__all__ = ("Registrar",)


class Registrar:
    """What a router puts before its paths and demands of the callers of its views."""

    def __init__(
        self, prefix: str, auth_required: bool | None, permission_classes: Sequence[Any]
    ) -> None:
        self.prefix = _checked(prefix)
        self._guard = RouterGuard(auth_required, permission_classes)
        self._typed = TypedViews()

    def complete(self, endpoint: AbstractEndpoint) -> AbstractEndpoint:
        """Settle how the view gets the path values, and who may call it; return the endpoint."""
        _check_endpoint(endpoint)
        names: Sequence[str] = getattr(endpoint, "parameters", ())
        view = endpoint.handler
        if inspect.isclass(view) and issubclass(view, FunctionView):
            view = view.at(endpoint.path, names)
        elif inspect.isclass(view) and issubclass(view, MethodBasedView):
            words = [normalize_method(method) for method in endpoint.methods]
            check_path_order(endpoint.path, names, view, words)
            check_errors(view)
            view = self._typed.view(view, endpoint.path, names, words)
        endpoint.handler = self._guard.view(view)
        return endpoint

    def include(
        self, endpoints: Iterable[AbstractEndpoint], prefix: str
    ) -> list[AbstractEndpoint]:
        """Return what the endpoints of an included router are in this one."""
        prefix = self.prefix + _checked(prefix)
        return [self._included(endpoint, prefix) for endpoint in endpoints]

    def _included(self, endpoint: AbstractEndpoint, prefix: str) -> AbstractEndpoint:
        _check_endpoint(endpoint)
        if not prefix and not self._guard:
            return endpoint
        if not prefix:
            twin = copy(endpoint)
            twin.handler = self._guard.view(endpoint.handler)
            return twin
        if type(endpoint) not in (PlainEndpoint, DynamicEndpoint) or (
            isinstance(endpoint, DynamicEndpoint) and endpoint.has_own_pattern
        ):
            raise EndpointValueError(
                f"The prefix {prefix!r} cannot come before {endpoint.path!r}, which a "
                f"{type(endpoint).__name__} matches in its own way."
            )
        return self.complete(
            URLParser().define_route(
                prefix + endpoint.path, endpoint.handler, endpoint.methods, endpoint.name
            )
        )

    def topic(self, route: TopicRoute) -> TopicRoute:
        """Return the route of topics with what this router demands."""
        return self._guard.topic(route)


def _check_endpoint(endpoint: object) -> None:
    if not isinstance(endpoint, AbstractEndpoint):
        raise TypeError(f"A route must be an AbstractEndpoint, not {endpoint!r}.")


def _checked(prefix: str) -> str:
    """Return a prefix without its last slash; raise InvalidPathArgument or EndpointValueError."""
    if prefix == "":
        return prefix
    check_path(prefix)
    prefix = prefix.rstrip("/ ")
    URLParser().define_route(f"{prefix}/", MethodBasedView, "GET")  # raises if it is malformed
    return prefix
