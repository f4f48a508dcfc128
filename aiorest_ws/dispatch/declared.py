"""The errors that a route declares, and those that it makes of exceptions of the program."""

import inspect
from collections.abc import Mapping
from copy import copy
from functools import partial
from typing import Any

from aiorest_ws.exceptions import BaseAPIException, DeclaredError

__all__ = ("errors_fault", "route_errors")


def errors_fault(name: str, value: Any) -> str | None:
    """Return what `raises` or `errors` of a view must be, or None if it is."""
    if name == "raises":
        is_right = isinstance(value, (list, tuple)) and all(map(_is_failure, value))
        return None if is_right else "classes of BaseAPIException in a tuple"
    if not isinstance(value, Mapping) or not all(map(_is_exception, value)):
        return "a mapping of exception classes"
    for kind in value.values():
        if not _is_failure(kind):
            return "a mapping to classes of BaseAPIException"
        try:
            kind()
        except TypeError:
            return f"a mapping to errors that need no arguments, and {kind.__name__} does"
    return None


def route_errors(view: Any) -> dict[type[BaseException], Any]:
    """Return the error handlers of a view of its own, for its `raises` and `errors`."""
    declared = [kind for kind in view.raises if issubclass(kind, DeclaredError)]
    handlers: dict[type[BaseException], Any] = {
        kind: partial(_converted, target, declared) for kind, target in view.errors.items()
    }
    handlers.update((kind, partial(_declared, kind)) for kind in declared)
    return handlers


def _converted(
    target: type[BaseAPIException], declared: list[type[DeclaredError]], request: Any, exc: Any
) -> BaseAPIException:
    failure = target()
    failure.__cause__ = exc
    kind = next((kind for kind in type(failure).__mro__ if kind in declared), None)
    return failure if kind is None else _declared(kind, request, failure)


def _declared(kind: type[DeclaredError], request: Any, exc: Any) -> BaseAPIException:  # noqa: ARG001
    failure = copy(exc)  # the program may raise the same one elsewhere
    failure.declared_as = kind
    return failure  # type: ignore[no-any-return]


def _is_failure(kind: object) -> bool:
    return inspect.isclass(kind) and issubclass(kind, BaseAPIException)


def _is_exception(kind: object) -> bool:
    return inspect.isclass(kind) and issubclass(kind, BaseException)
