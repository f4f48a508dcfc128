"""Middlewares that authenticate the user of a request by its token."""

import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiorest_ws.abstract import AbstractMiddleware
from aiorest_ws.auth.token.backends import InMemoryTokenBackend, expires_at
from aiorest_ws.auth.token.exceptions import TokenExpiredException
from aiorest_ws.auth.token.managers import JSONWebTokenManager
from aiorest_ws.auth.user.abstractions import User
from aiorest_ws.auth.user.models import UserSQLiteModel
from aiorest_ws.wrappers import Request

__all__ = ("BaseTokenMiddleware", "JSONWebTokenMiddleware")


class BaseTokenMiddleware(AbstractMiddleware):
    """Sets `request.user`.

    After all middlewares, the router judges `auth_required` and `permission_classes` of the view.
    """

    request_attributes: tuple[str, ...] = ("user",)

    def init_credentials(self, request: Request) -> Any:
        """Set the user of a request; may be a coroutine. By default the anonymous user."""
        _set(request, user=User())

    def authenticate(self, request: Request, handler: Any) -> Awaitable[None] | None:  # noqa: ARG002  for overrides
        """Refuse a request whose user has been set, by raising; may be a coroutine.

        For subclasses; by default nothing is refused here.
        """
        return None

    def process_request(self, request: Request, handler: Any) -> Awaitable[None] | None:
        """Call `init_credentials`, then `authenticate`; return an awaitable if needed."""
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
    only verified. An invalid token is refused (401) on every view. A deleted or inactive user is
    anonymous and not `is_active`, and refused on views with `auth_required` (403).
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
        return user if _exists(user) and user.is_active else User(is_active=False)


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
