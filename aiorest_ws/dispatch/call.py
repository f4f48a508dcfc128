"""A call: a request, its view, and the arguments of the view."""

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from aiorest_ws.dispatch.scopes import Scope
from aiorest_ws.exceptions import MalformedMessage, SerializerError
from aiorest_ws.renderers import BaseRenderer
from aiorest_ws.values import with_converter
from aiorest_ws.wrappers import TOPIC_METHODS, Request, converter_of, normalize_method

__all__ = ("CALLER", "MAX_QUERY_LENGTH", "Call", "read_query")

# A query is decoded field by field, which takes a while for a megabyte of them.
MAX_QUERY_LENGTH = 16_384

# The request of the call that runs in this context, once it has been suspended.
CALLER: ContextVar[Any] = ContextVar("CALLER", default=None)


class Call(msgspec.Struct, frozen=True):
    """What all steps from a view's answer to the reply have in common.

    `values` are the path values. `keywords` are what the view's `get_renderer` is called with.
    `route` is the view's, None for a view that the router's search has not found there, and
    `scope` is the route's.
    """

    request: Any
    view: Any
    values: Sequence[str]
    keywords: Mapping[str, Any]
    scope: Scope
    route: Any = None

    def content(self, answer: object) -> dict[str, Any]:
        """Return the content of the reply for what the view has returned."""
        return {"data": answer, **self.request.to_representation()}

    def renderer(self) -> BaseRenderer:
        """Return the renderer that the view chooses."""
        # No keyword can be named `preferred_format`: the view would have rejected it.
        chosen: BaseRenderer = self.view.get_renderer(
            self.request.get_argument("format"), *self.values, **self.keywords
        )
        return chosen

    def render(self, content: dict[str, Any]) -> bytes:
        """Return `content` as bytes; raise TypeError if the renderer returns anything else."""
        renderer = self.renderer()
        rendered = self.encode(renderer.render, content)
        if not isinstance(rendered, bytes):
            raise TypeError(f"{renderer!r} must render bytes, not {type(rendered).__name__}")
        return rendered

    def encode(self, encode: Callable[[dict[str, Any]], Any], content: dict[str, Any]) -> Any:
        """Return `encode(content)`, with the converter of the server.

        If it raises SerializerError, the log names the route.
        """
        try:
            return with_converter(converter_of(self.request), encode, content)
        except SerializerError as exc:
            route = self.scope.route_of(self.request)
            if route is not None:
                exc.reason = f"{exc}, in a reply of the route {route!a}"
            raise


def read_query(request: Request) -> Any:
    """Return the URL of a request without its query; add the query to its `args`, which win.

    The name of a topic has no query. Raises MalformedMessage for a query that is too long.
    """
    url = request.url
    if not isinstance(url, str) or "?" not in url:
        return url
    if normalize_method(request.method) in TOPIC_METHODS:
        return url
    path, _, query = url.partition("?")
    if len(query) > MAX_QUERY_LENGTH:
        raise MalformedMessage(
            f"The query has over {MAX_QUERY_LENGTH} characters; send `args` instead."
        )
    values: dict[str, list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        values.setdefault(name, []).append(value)
    read = {name: found if len(found) > 1 else found[0] for name, found in values.items()}
    if not hasattr(request, "_query_names"):  # a call without a plan is read again
        request._query_names = tuple(read.keys() - request.args.keys())
    request._args = {**read, **request.args}
    return path
