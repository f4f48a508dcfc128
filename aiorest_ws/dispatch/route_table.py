"""Find the route of a URL."""

import sys
from collections.abc import Sequence
from typing import Any
from weakref import WeakSet

from aiorest_ws.abstract import AbstractEndpoint
from aiorest_ws.contract.bodies import Body, body_of, decode_typed
from aiorest_ws.dispatch.routes import Route
from aiorest_ws.dispatch.scopes import Scope
from aiorest_ws.dispatch.segments import SegmentTree
from aiorest_ws.endpoints import DynamicEndpoint, PlainEndpoint
from aiorest_ws.wrappers import Request, normalize_method

__all__ = ("RouteTable", "normalize_path")


def normalize_path(path: str) -> str:
    """Return `path` stripped and with a trailing slash."""
    path = path.strip()
    return path if path[-1:] in {"/", ""} else path + "/"


class RouteTable:
    """The routes of a router.

    Plain paths come first, then templates, then endpoints of other classes, each in the order of
    registration. What is made of them is forgotten when there is one more: `caches`. `plain_bytes`
    are those of AbstractRouter.
    """

    def __init__(self) -> None:
        self.plain_bytes = sys.maxsize
        self.caches: WeakSet[Any] = WeakSet()
        self._plain: dict[str, Route] = {}
        self._tree: SegmentTree[Route] = SegmentTree()
        self._others: list[Route] = []

    def add(self, endpoint: AbstractEndpoint, scope: Scope) -> None:
        """Add an endpoint; for the methods of an earlier one with the same path, that one wins."""
        for word in map(normalize_method, endpoint.methods):
            body = body_of(endpoint.handler, word)
            if body is not None:
                self.plain_bytes = min(self.plain_bytes, body.plain_bytes)
        route = Route(endpoint, scope)
        for cache in self.caches:
            cache.clear()
        if type(endpoint) is PlainEndpoint:
            earlier = self._plain.setdefault(endpoint.path, route)
        elif type(endpoint) is DynamicEndpoint:
            earlier = self._tree.add(endpoint.path, route)
        else:
            self._others.append(route)
            return
        if earlier is not route:
            earlier.add(endpoint, scope)

    def find(self, path: str) -> tuple[Route | None, Sequence[str]]:
        """Return the route of a normalized path, None if there is none, and the path values."""
        route = self._plain.get(path)
        if route is not None:
            return route, ()
        found = self._tree.find(path)
        if found is not None:
            route, values = found
            return route, route.endpoint.match(path) or () if values is None else values
        for route in self._others:
            matched = route.endpoint.match(path)
            if matched is not None:
                return route, matched
        return None, ()

    def decode(self, payload: bytes, is_binary: bool) -> Request:
        """Return the request in a message, with `data` as its view wants it."""
        return decode_typed(payload, is_binary, self._body_for)

    def _body_for(self, method: object, url: object) -> Body | None:
        if not isinstance(url, str):
            return None
        route, _ = self.find(normalize_path(url.partition("?")[0]))
        handler = None if route is None else route.handlers.get(normalize_method(method))
        return None if handler is None else body_of(handler.view_class, handler.word)
