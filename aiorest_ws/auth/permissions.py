"""Permissions for the `permission_classes` of a view."""

from typing import Any

from aiorest_ws.abstract import AbstractPermission
from aiorest_ws.wrappers import Request

__all__ = ("IsAuthenticated",)


class IsAuthenticated(AbstractPermission):
    """Allow users who are known, and nobody else."""

    @staticmethod
    def check(request: Request, handler: Any) -> bool:  # noqa: ARG004 - AbstractPermission's
        """Tell whether the user of the request is authenticated; without a user, false."""
        user = getattr(request, "user", None)
        return user is not None and bool(user.is_authenticated())
