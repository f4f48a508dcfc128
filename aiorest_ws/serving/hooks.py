"""The hooks, classes, middlewares and routes of an `Application`: imported, and checked."""

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from aiorest_ws.abstract import AbstractRouter
from aiorest_ws.conf import settings
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
    "import_object",
    "middleware_classes",
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


def middleware_classes() -> list[Any]:
    """Return the classes of the setting MIDDLEWARE_CLASSES, which may be dotted names."""
    return [_import_middleware(one) for one in settings.MIDDLEWARE_CLASSES]


def _import_middleware(middleware: Any) -> Any:
    if not isinstance(middleware, str):
        return middleware
    module_name, _, class_name = middleware.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as exc:
        raise ImproperlyConfigured(
            f"MIDDLEWARE_CLASSES names {middleware!r}, which cannot be imported: {exc}."
        ) from exc


def import_object(name: str) -> Any:
    """Import and return `package.module:name`; raise ImproperlyConfigured.

    The current directory is put first on the path.
    """
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise ImproperlyConfigured(f"{name!r} is not of the form package.module:name.")
    here = str(Path.cwd())
    if sys.path[:1] != [here]:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{module_name}.".startswith(f"{exc.name}."):
            raise  # the module exists, and an import in it fails
        raise ImproperlyConfigured(f"There is no module {exc.name!r}.") from exc
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ImproperlyConfigured(f"{module_name!r} has no {attribute!r}.")
        found = getattr(found, part)
    return found
