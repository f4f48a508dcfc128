"""Permissions for the `permission_classes` of a view."""

from typing import Any

from aiorest_ws.abstract import AbstractPermission
from aiorest_ws.auth.guard import is_authenticated
from aiorest_ws.wrappers import Request

__all__ = ("IsAuthenticated",)


class IsAuthenticated(AbstractPermission):
    """Allows authenticated users."""

    @staticmethod
    def check(request: Request, handler: Any) -> Any:  # noqa: ARG004 - AbstractPermission's
        """Return whether the request has an authenticated user, or an awaitable of it."""
        return is_authenticated(getattr(request, "user", None))
