"""What an `Application` checks of what it is given."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from aiorest_ws.exceptions import ImproperlyConfigured

__all__ = ("Hook", "added", "check_class", "imported", "is_several")

Hook = TypeVar("Hook", bound=Callable[..., Any])


def added(hooks: list[Any], hook: Hook, name: str, argument: str) -> Hook:
    """Add a hook that takes one argument, and return it; raise TypeError for another one."""
    try:
        inspect.signature(hook).bind(None)
    except TypeError:
        raise TypeError(f"an {name} hook takes one argument: {argument}") from None
    hooks.append(hook)
    return hook


def check_class(name: str, value: Any) -> None:
    """Raise TypeError for what is no class."""
    if not inspect.isclass(value):
        raise TypeError(f"{name} must be a class, not {value!r}")


def imported(middleware: Any) -> Any:
    """Return a class of MIDDLEWARE_CLASSES, which may be named by a string."""
    if not isinstance(middleware, str):
        return middleware
    module_name, _, class_name = middleware.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as exc:
        raise ImproperlyConfigured(
            f"MIDDLEWARE_CLASSES names {middleware!r}, which cannot be imported: {exc}."
        ) from exc


def is_several(workers: Any) -> bool:
    """Tell whether there is to be more than one worker; raise ImproperlyConfigured."""
    if not isinstance(workers, int) or workers < 1:
        raise ImproperlyConfigured(f"workers must be a number from 1 on, not {workers!r}.")
    return workers > 1
