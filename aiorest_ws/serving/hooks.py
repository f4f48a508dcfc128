"""Checks of the hooks, classes, middlewares and routes of an `Application`."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from aiorest_ws.abstract import AbstractRouter
from aiorest_ws.dispatch.failures import ErrorHandler
from aiorest_ws.dispatch.scopes import Equipment
from aiorest_ws.dispatch.user_rate import UserRateMiddleware
from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.validators import check_and_set_subclass

__all__ = (
    "ErrorHandler",
    "Hook",
    "add_hook",
    "adds_error_handler",
    "check_auth_required",
    "choose_router",
    "import_middleware",
    "set_class",
)

Hook = TypeVar("Hook", bound=Callable[..., Any])


def add_hook(hooks: list[Any], hook: Hook, name: str, argument: str) -> Hook:
    """Add a hook to `hooks` and return it; raise TypeError unless it takes one argument."""
    try:
        inspect.signature(hook).bind(None)
    except TypeError:
        raise TypeError(f"an {name} hook takes one argument: {argument}") from None
    hooks.append(hook)
    return hook


def adds_error_handler(
    handlers: dict[type[BaseException], ErrorHandler], exception: type[BaseException]
) -> Callable[[Hook], Hook]:
    """Return a decorator that adds a handler to `handlers`; raise TypeError for a wrong class."""
    if not inspect.isclass(exception) or not issubclass(exception, BaseException):
        raise TypeError(f"error_handler takes an exception class, not {exception!r}")

    def register(handler: Hook) -> Hook:
        if inspect.iscoroutinefunction(handler):
            raise TypeError("an error handler cannot be a coroutine")
        handlers[exception] = handler
        return handler

    return register


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


def choose_router(
    given: AbstractRouter | None, own: SimpleRouter, of_factory: AbstractRouter
) -> AbstractRouter:
    """Return the router of a server; raise ImproperlyConfigured if there is none, or one too many.

    `own` is `app.router` of an application that was made without a router.
    """
    has_own_routes = bool(own.urls or len(own.topics))
    if given is not None:
        if has_own_routes and given is not own:
            raise ImproperlyConfigured(
                "app.router has routes that this server would not have: include it in the other "
                "router, or that one in app.router."
            )
        return given
    if has_own_routes:
        return own
    if of_factory.urls or len(getattr(of_factory, "topics", ())):
        return of_factory
    raise ImproperlyConfigured(
        'An Application needs a router that has routes: @app.router.get("/"), '
        "Application(router=...) or run(router=...)."
    )


def set_class(instance: Any, name: str, value: Any, wanted: type) -> None:
    """Set `_name` of `instance` to a class; raise TypeError unless it is a subclass."""
    if not inspect.isclass(value):
        raise TypeError(f"{name} must be a class, not {value!r}")
    check_and_set_subclass(instance, f"_{name}", value, wanted)


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
