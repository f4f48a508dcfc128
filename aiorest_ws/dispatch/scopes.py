"""Which middlewares and error handlers apply to a route."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ("NO_EQUIPMENT", "NO_ROUTER", "Equipment", "Scope", "Scopes")


class Equipment:
    """What a server adds to its router, which other servers may have too.

    The middlewares `before` go before the router's own, those in `after` behind them. Of two error
    handlers for one exception, that of the server is asked.
    """

    __slots__ = ("after", "before", "error_handlers")

    def __init__(
        self,
        before: Sequence[Any] = (),
        after: Sequence[Any] = (),
        error_handlers: Mapping[type[BaseException], Any] | None = None,
    ) -> None:
        self.before = before
        self.after = after
        self.error_handlers = {} if error_handlers is None else error_handlers


NO_EQUIPMENT = Equipment()


class Scope:
    """The routers of a route, each included by the one before it, and what a server adds.

    Their middlewares and error handlers are read anew for each request.
    """

    __slots__ = ("_equipment", "_own_handlers", "_routers")

    def __init__(
        self,
        *routers: Any,
        equipment: Equipment = NO_EQUIPMENT,
        own_handlers: Mapping[type[BaseException], Any] | None = None,
    ) -> None:
        self._routers = routers
        self._equipment = equipment
        self._own_handlers = own_handlers

    def around(self, inner: "Scope") -> "Scope":
        """Return the scope of a route that a router of this scope includes."""
        own = self._routers
        more = [router for router in inner._routers if all(router is not one for one in own)]
        return Scope(*own, *more)

    def equipped(
        self, equipment: Equipment, own_handlers: Mapping[type[BaseException], Any] | None = None
    ) -> "Scope":
        """Return the scope of the same route for a server, with error handlers of its own."""
        return Scope(*self._routers, equipment=equipment, own_handlers=own_handlers)

    @property
    def middlewares(self) -> Sequence[Any]:
        """The middlewares in the order in which they get a request; those of two routers once."""
        found: list[Any] = []
        for index, router in enumerate(self._routers):
            own = router.middlewares
            if index == 0:
                found += _without(self._equipment.before, own)
            found += _without(own, found)
            if index == 0:
                found += _without(self._equipment.after, found)
        return found

    @property
    def lists(self) -> list[Sequence[Any]]:
        """The lists that `middlewares` is made of, which a program may change."""
        before = self._equipment.before
        own = [router.middlewares for router in self._routers]
        return own if isinstance(before, tuple) else [before, *own]

    @property
    def error_handlers(self) -> Sequence[Mapping[type[BaseException], Any]]:
        """The error handlers of the route and of each router, the innermost first."""
        # An AbstractRouter of a program's own need not have any.
        found = [getattr(router, "error_handlers", {}) for router in reversed(self._routers)]
        if self._equipment.error_handlers:
            found[-1:] = [{**found[-1], **self._equipment.error_handlers}]
        return [self._own_handlers, *found] if self._own_handlers else found

    def route_of(self, request: Any) -> str | None:
        """Return the path or the template that a request is for, if the router knows."""
        tell = getattr(self._routers[0], "route_of", None) if self._routers else None
        return None if tell is None else tell(request)


def _without(middlewares: Sequence[Any], known: Sequence[Any]) -> list[Any]:
    return [one for one in middlewares if all(one is not other for other in known)]


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
