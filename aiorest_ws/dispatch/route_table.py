"""Find the route of a URL."""

from collections.abc import Sequence
from typing import Any
from weakref import WeakSet

from aiorest_ws.abstract import AbstractEndpoint
from aiorest_ws.dispatch.routes import Route
from aiorest_ws.dispatch.scopes import Scope
from aiorest_ws.dispatch.segments import SegmentTree
from aiorest_ws.endpoints import DynamicEndpoint, PlainEndpoint

__all__ = ("RouteTable", "normalize_path")


def normalize_path(path: str) -> str:
    """Return `path` stripped and with a trailing slash."""
    path = path.strip()
    return path if path[-1:] in {"/", ""} else path + "/"


class RouteTable:
    """The routes of a router.

    Plain paths come first, then templates, then endpoints of other classes, each in the order of
    registration. What is made of them is forgotten when there is one more: `caches`.
    """

    def __init__(self) -> None:
        self.caches: WeakSet[Any] = WeakSet()
        self._plain: dict[str, Route] = {}
        self._tree: SegmentTree[Route] = SegmentTree()
        self._others: list[Route] = []

    def add(self, endpoint: AbstractEndpoint, scope: Scope) -> None:
        """Add an endpoint; for the methods of an earlier one with the same path, that one wins."""
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
