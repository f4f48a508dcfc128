"""What a router demands of whoever calls its views: its `auth_required`, `permission_classes`."""

import copy
import inspect
from collections.abc import Sequence
from typing import Any

from aiorest_ws.auth.guard import AuthRequired
from aiorest_ws.exceptions import InvalidHandler, NotSupportedArgumentType
from aiorest_ws.registration.options import check_permissions
from aiorest_ws.topics.routes import TopicRoute
from aiorest_ws.views import MethodBasedView

__all__ = ("RouterGuard",)


class RouterGuard:
    """The demands of one router.

    A view's own `auth_required` wins over the router's. Permissions of the router come before
    those of the view.
    """

    def __init__(self, auth_required: bool | None, permission_classes: Sequence[Any]) -> None:
        if auth_required is not None and not isinstance(auth_required, bool):
            raise NotSupportedArgumentType(
                f"`auth_required` must be True, False or None, not {auth_required!r}."
            )
        check_permissions(permission_classes)
        self._auth_required = auth_required
        self._permissions = tuple(permission_classes)
        # By class, so that the calls of an `ordered` view with two paths still take turns.
        self._guarded: dict[type, type[MethodBasedView]] = {}

    def __bool__(self) -> bool:
        """Tell whether the router demands anything, or waives it."""
        return self._auth_required is not None or bool(self._permissions)

    def view(self, handler: Any) -> Any:
        """Return a view class that demands this too; raise InvalidHandler if it is none."""
        if not self:
            return handler
        if not inspect.isclass(handler) or not issubclass(handler, MethodBasedView):
            raise InvalidHandler(
                f"{handler!r} is not a view class, and the router's `auth_required` and "
                "`permission_classes` would not reach it."
            )
        if handler not in self._guarded:
            self._guarded[handler] = self._subclass(handler)
        return self._guarded[handler]

    def topic(self, route: TopicRoute) -> TopicRoute:
        """Return the route of topics that demands this too."""
        demanded = (AuthRequired,) if self._auth_required else ()
        if not demanded and not self._permissions:
            return route
        guarded = copy.copy(route)
        guarded.permission_classes = _merged(
            (*demanded, *self._permissions), route.permission_classes
        )
        return guarded

    def _subclass(self, view_class: type[MethodBasedView]) -> type[MethodBasedView]:
        own = view_class.__mro__[: view_class.__mro__.index(MethodBasedView)]
        namespace: dict[str, Any] = {
            "__doc__": view_class.__doc__,
            "__module__": view_class.__module__,
            "__qualname__": view_class.__qualname__,
            "methods": view_class.methods,
            "permission_classes": _merged(self._permissions, view_class.permission_classes),
        }
        has_own_answer = any("auth_required" in vars(ancestor) for ancestor in own)
        if self._auth_required is not None and not has_own_answer:
            namespace["auth_required"] = self._auth_required
        if self._permissions and view_class.__init__ is not object.__init__:
            namespace["__init__"] = self._init_of(view_class)
        kind: Any = type(view_class)  # a metaclass of the program's own, maybe
        subclass: type[MethodBasedView] = kind(view_class.__name__, (view_class,), namespace)
        return subclass

    def _init_of(self, view_class: Any) -> Any:
        def start(view: Any) -> None:
            view_class.__init__(view)
            # It may have set permissions of this one view.
            view.permission_classes = _merged(self._permissions, view.permission_classes)

        return start


def _merged(first: Sequence[Any], then: Sequence[Any]) -> tuple[Any, ...]:
    return (*first, *(one for one in then if one not in first))
