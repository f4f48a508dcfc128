"""Checks of the hooks, classes, middlewares and routes of an `Application`."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from aiorest_ws.dispatch.scopes import Equipment
from aiorest_ws.dispatch.user_rate import UserRateMiddleware
from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.routers import SimpleRouter

__all__ = ("Hook", "add_hook", "check_auth_required", "check_class", "import_middleware")

Hook = TypeVar("Hook", bound=Callable[..., Any])


def add_hook(hooks: list[Any], hook: Hook, name: str, argument: str) -> Hook:
    """Add a hook to `hooks` and return it; raise TypeError unless it takes one argument."""
    try:
        inspect.signature(hook).bind(None)
    except TypeError:
        raise TypeError(f"an {name} hook takes one argument: {argument}") from None
    hooks.append(hook)
    return hook


def check_auth_required(router: Any, equipment: Equipment) -> None:
    """Raise ImproperlyConfigured if no middleware can authenticate for an `auth_required`.

    A router that processes requests in a way of its own is not checked.
    """
    if type(router).process_request is not SimpleRouter.process_request:
        return
    for endpoint in router.urls:
        middlewares = router.scopes.of(endpoint).equipped(equipment).middlewares
        if getattr(endpoint.handler, "auth_required", None) is True and all(
            isinstance(one, UserRateMiddleware) for one in middlewares
        ):
            raise ImproperlyConfigured(
                f"{endpoint.path!r} has `auth_required`, but no middleware authenticates: "
                "Application(middlewares=[JSONWebTokenMiddleware])."
            )


def check_class(name: str, value: Any) -> None:
    """Raise TypeError if `value` is not a class."""
    if not inspect.isclass(value):
        raise TypeError(f"{name} must be a class, not {value!r}")


def import_middleware(middleware: Any) -> Any:
    """Return a middleware class of MIDDLEWARE_CLASSES, which may be a dotted name."""
    if not isinstance(middleware, str):
        return middleware
    module_name, _, class_name = middleware.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as exc:
        raise ImproperlyConfigured(
            f"MIDDLEWARE_CLASSES names {middleware!r}, which cannot be imported: {exc}."
        ) from exc
