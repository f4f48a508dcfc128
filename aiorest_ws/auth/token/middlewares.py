"""Middlewares that authenticate the user of a request by its token."""

import inspect
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from aiorest_ws.abstract import AbstractMiddleware
from aiorest_ws.auth.exceptions import PermissionDeniedException
from aiorest_ws.auth.token.backends import InMemoryTokenBackend, expires_at
from aiorest_ws.auth.token.exceptions import TokenExpiredException, TokenNotProvidedException
from aiorest_ws.auth.token.managers import JSONWebTokenManager
from aiorest_ws.auth.user.abstractions import User
from aiorest_ws.auth.user.models import UserSQLiteModel
from aiorest_ws.wrappers import Request

__all__ = ("BaseTokenMiddleware", "JSONWebTokenMiddleware")


class _RevokedUser(User):
    """The user of a valid token who was deleted or is inactive."""


class BaseTokenMiddleware(AbstractMiddleware):
    """Sets `request.user`, and protects the views with `auth_required = True`.

    Such a view is called only with a token, and if the `check` of each of its
    `permission_classes` returns a true value (or an awaitable of one). The permissions of other
    views are not checked.
    """

    request_attributes: tuple[str, ...] = ("user",)

    def init_credentials(self, request: Request) -> Any:
        """Set the user of a request; may be a coroutine. By default the anonymous user."""
        _set(request, user=User())

    def authenticate(self, request: Request, handler: Any) -> Awaitable[None] | None:
        """Refuse the request if its view does not allow the user.

        Raises `TokenNotProvidedException` (401) or `PermissionDeniedException` (403). Returns an
        awaitable if a permission does.
        """
        if not getattr(handler, "auth_required", False):
            return None
        if not getattr(request, "token", None):
            raise TokenNotProvidedException()
        if isinstance(request.user, _RevokedUser):
            raise PermissionDeniedException()
        # One iterator, shared with the coroutine, which continues after the awaited permission.
        permissions = iter(getattr(handler, "permission_classes", ()))
        for permission in permissions:
            allowed = permission.check(request, handler)
            if inspect.isawaitable(allowed):
                return _check_awaiting(allowed, permissions, request, handler)
            _deny_unless(allowed)
        return None

    def process_request(self, request: Request, handler: Any) -> Awaitable[None] | None:
        """Authenticate the user and check the permissions; return an awaitable if needed."""
        pending = self.init_credentials(request)
        if inspect.isawaitable(pending):
            return self._authenticate_later(pending, request, handler)
        return self.authenticate(request, handler)

    async def _authenticate_later(
        self, pending: Awaitable[Any], request: Request, handler: Any
    ) -> None:
        await pending
        checks = self.authenticate(request, handler)
        if checks is not None:
            await checks


class JSONWebTokenMiddleware(BaseTokenMiddleware):
    """Authenticates the user by the JSON Web Token in `request.token`.

    Sets `request.token_payload` (None without a token) and `request.user`: the user for whom the
    token was saved in `storage_backend`, else the anonymous one. A token that was not saved is
    only verified. An invalid token is refused (401) on every view; a deleted or inactive user is
    anonymous, and refused on views with `auth_required`.
    """

    request_attributes = ("user", "token_payload")

    # Classes, which a subclass may replace; an instance has instances of them.
    storage_backend: Any = InMemoryTokenBackend
    manager: Any = JSONWebTokenManager
    user_model: Any = UserSQLiteModel

    def __init__(self, *, clock: Callable[[], float] | None = None) -> None:
        super().__init__()
        self._clock = time.time if clock is None else clock
        self.manager = self.manager()
        self.user_model = self.user_model()
        if _takes_database(self.storage_backend) and isinstance(self.user_model, UserSQLiteModel):
            # Tokens are looked up by username, so both use one database.
            self.storage_backend = self.storage_backend(self.user_model.database)
        else:
            self.storage_backend = self.storage_backend()

    def init_credentials(self, request: Request) -> Any:
        """Verify the token of the request, if there is one, and find its user."""
        token = request.token
        if token:
            payload = self.manager.verify(token)
            _set(request, user=self.get_user_by_token(token), token_payload=payload)
        else:
            _set(request, user=User(), token_payload=None)

    def get_user_by_token(self, token: str) -> Any:
        """Return the user for whom a verified token was saved, or the anonymous one."""
        stored = self.storage_backend.get(token)
        if not stored:
            return User()
        expiry = expires_at(stored.get("expired"))
        if expiry is not None and self._clock() >= expiry:
            raise TokenExpiredException()
        if stored.get("user_id") is None:
            return User()
        user = self.user_model.get_user_by_token(stored)
        return user if _exists(user) and user.is_active else _RevokedUser()


def _set(request: Any, **attributes: Any) -> None:
    for name, value in attributes.items():
        setattr(request, name, value)


def _takes_database(backend: Any) -> bool:
    return (
        isinstance(backend, type)
        and issubclass(backend, InMemoryTokenBackend)
        and backend.__init__ is InMemoryTokenBackend.__init__
    )


def _exists(user: Any) -> bool:
    # User models return None, or the anonymous user, who has no name, for an unknown user.
    return user is not None and not (user.is_anonymous and not getattr(user, "username", ""))


def _deny_unless(allowed: Any) -> None:
    if not allowed:
        raise PermissionDeniedException()


async def _check_awaiting(
    pending: Awaitable[Any], permissions: Iterator[Any], request: Request, handler: Any
) -> None:
    _deny_unless(await pending)
    for permission in permissions:
        allowed = permission.check(request, handler)
        _deny_unless(await allowed if inspect.isawaitable(allowed) else allowed)
