"""Permissions for the `permission_classes` of a view."""

from typing import Any

from aiorest_ws.abstract import AbstractPermission
from aiorest_ws.wrappers import Request

__all__ = ("IsAuthenticated",)


class IsAuthenticated(AbstractPermission):
    """Allows authenticated users."""

    @staticmethod
    def check(request: Request, handler: Any) -> bool:  # noqa: ARG004 - AbstractPermission's
        """Tell whether the request has an authenticated user."""
        user = getattr(request, "user", None)
        return user is not None and bool(user.is_authenticated())
