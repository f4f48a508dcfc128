"""Which middlewares and error handlers apply to a route."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ("NO_ROUTER", "Scope", "Scopes")


class Scope:
    """The routers of a route, each included by the one before it.

    Their middlewares and error handlers are read anew for each request.
    """

    __slots__ = ("_routers",)

    def __init__(self, *routers: Any) -> None:
        self._routers = routers

    def around(self, inner: "Scope") -> "Scope":
        """Return the scope of a route that a router of this scope includes."""
        own = self._routers
        more = [router for router in inner._routers if all(router is not one for one in own)]
        return Scope(*own, *more)

    @property
    def middlewares(self) -> Sequence[Any]:
        """The middlewares in the order in which they get a request; those of two routers once."""
        if len(self._routers) == 1:
            own: Sequence[Any] = self._routers[0].middlewares
            return own
        found: list[Any] = []
        for router in self._routers:
            new = [one for one in router.middlewares if all(one is not known for known in found)]
            found += new
        return found

    @property
    def included_middlewares(self) -> list[list[Any]]:
        """The lists of middlewares of all routers but the outermost."""
        return [router.middlewares for router in self._routers[1:]]

    @property
    def error_handlers(self) -> Sequence[Mapping[type[BaseException], Any]]:
        """The error handlers of each router, the innermost first."""
        # An AbstractRouter of a program's own need not have any.
        return [getattr(router, "error_handlers", {}) for router in reversed(self._routers)]

    def route_of(self, request: Any) -> str | None:
        """Return the path or the template that a request is for, if the router knows."""
        tell = getattr(self._routers[0], "route_of", None) if self._routers else None
        return None if tell is None else tell(request)


NO_ROUTER = Scope()


class Scopes:
    """The scopes of the routes of a router: endpoints, topics."""

    def __init__(self, router: Any) -> None:
        self.own = Scope(router)
        self._by_id: dict[int, Scope] = {}

    def add(self, route: object, scope: Scope | None = None) -> Scope:
        """Add a route, included with a scope of its own or not; return the scope it has here.

        A route that is added again keeps the first.
        """
        if scope is None:
            return self._by_id.setdefault(id(route), self.own)
        scope = self.own.around(scope)
        handler = getattr(route, "handler", None)
        if handler is not None:
            self._by_id.setdefault(id(handler), scope)
        return self._by_id.setdefault(id(route), scope)

    def of(self, route: object) -> Scope:
        """Return the scope of a route, or of the view class of an included one."""
        return self._by_id.get(id(route), self.own)
