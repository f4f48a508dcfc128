"""Judge who may call a view: `auth_required` and `permission_classes`."""

from typing import Any

from aiorest_ws.abstract import AbstractPermission
from aiorest_ws.auth.exceptions import PermissionDeniedException
from aiorest_ws.auth.token.exceptions import TokenNotProvidedException
from aiorest_ws.awaiting import Steps, is_awaitable, maybe_await, take
from aiorest_ws.wrappers import Request

__all__ = ("AuthRequired", "access", "check_access", "is_authenticated", "is_guarded")


def is_guarded(view: Any) -> bool:
    """Tell whether a view or a view class has anything to be judged."""
    return bool(getattr(view, "auth_required", False) or getattr(view, "permission_classes", ()))


def access(request: Request, view: Any) -> Steps[None]:
    """Raise TokenNotProvidedException (401) or PermissionDeniedException (403), or do nothing.

    The middlewares have set `request.user` and `request.token_payload` before, if they know them.
    """
    if getattr(view, "auth_required", False):
        user = getattr(request, "user", None)
        if getattr(request, "token_payload", None) is None:
            answer = is_authenticated(user)
            if not ((yield answer) if is_awaitable(answer) else answer):
                raise TokenNotProvidedException
        if not getattr(user, "is_active", True):
            raise PermissionDeniedException
    for permission in getattr(view, "permission_classes", ()):
        answer = permission.check(request, view)
        if not ((yield answer) if is_awaitable(answer) else answer):
            raise PermissionDeniedException


async def check_access(request: Request, view: Any) -> None:
    """Raise what `access` raises."""
    await maybe_await(take(access(request, view)))


class AuthRequired(AbstractPermission):
    """Allow what a view with `auth_required` allows, for topics, which have only permissions."""

    auth_required = True

    @staticmethod
    async def check(request: Request, handler: Any) -> bool:  # noqa: ARG004
        """Return True or raise what `check_access` raises."""
        await check_access(request, AuthRequired)
        return True


def is_authenticated(user: Any) -> Any:
    """Return whether a user is authenticated, or an awaitable of it; None is not.

    `is_authenticated` of the user may be a method or a property.
    """
    answer = getattr(user, "is_authenticated", False)
    return answer() if callable(answer) else answer
