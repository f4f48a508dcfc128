"""Check the arguments of a registration."""

import inspect
from typing import Any

from aiorest_ws.exceptions import (
    InvalidHandler,
    InvalidPathArgument,
    NotSupportedArgumentType,
)
from aiorest_ws.values import Converter
from aiorest_ws.views import MethodBasedView, http_methods, is_asynchronous
from aiorest_ws.wrappers import normalize_method

__all__ = ("check_and_set_subclass", "check_encoder", "check_methods", "check_route")


def check_route(path: object, handler: object, methods: object, name: object = None) -> None:
    """Check the arguments of a registration.

    Raises InvalidPathArgument, InvalidHandler or NotSupportedArgumentType.
    """
    if not isinstance(path, str) or not path.startswith("/"):
        raise InvalidPathArgument(f"A path must start with `/`; this one is {path!r}.")
    if "?" in path:
        raise InvalidPathArgument(f"A path cannot contain `?`, which starts a query: {path!r}.")
    if not inspect.isclass(handler) or not issubclass(handler, MethodBasedView):
        raise InvalidHandler(f"A handler must be a subclass of MethodBasedView, not {handler!r}.")
    check_methods(methods)
    if name is not None and not isinstance(name, str):
        raise NotSupportedArgumentType(f"`name` must be a str, not {type(name).__name__}.")
    injected = handler.injected
    if isinstance(injected, str) or not all(isinstance(name, str) for name in injected):
        raise NotSupportedArgumentType(f"`injected` must be names in a tuple, not {injected!r}.")
    if handler.blocking:
        for word in (*handler.methods, "dispatch"):
            if is_asynchronous(inspect.getattr_static(handler, word, None)):
                raise InvalidHandler(
                    f"{handler.__qualname__} is `blocking`: its `{word}` runs in a thread and "
                    "cannot be a coroutine or an asynchronous generator."
                )


def check_methods(methods: Any) -> None:
    """Check that `methods` is exactly a list or a str, with names in `http_methods` only."""
    if type(methods) not in (list, str):
        raise NotSupportedArgumentType(
            f"`methods` must be a list or a str, not {type(methods).__name__}."
        )
    if methods == []:
        raise NotSupportedArgumentType("`methods` must name at least one method.")
    for word in [methods] if isinstance(methods, str) else methods:
        if normalize_method(word) not in http_methods:
            known = ", ".join(sorted(http_methods)).upper()
            raise NotSupportedArgumentType(f"{word!r} is not a method. The methods are {known}.")


def check_encoder(encoder: Converter | None) -> Converter | None:
    """Return an `encoder`; raise TypeError if it cannot be called, or is asynchronous."""
    if encoder is not None and (not callable(encoder) or is_asynchronous(encoder)):
        raise TypeError(f"encoder must be a function that is not asynchronous, not {encoder!r}")
    return encoder


def check_and_set_subclass(
    instance: Any, attribute: str, value: Any, subclasses: type | tuple[type, ...]
) -> None:
    """Set `attribute` of `instance` to `value`.

    Raises TypeError if `value` is neither a subclass nor an instance of one of `subclasses`.
    """
    kind = value if inspect.isclass(value) else type(value)
    if not issubclass(kind, subclasses):
        wanted = subclasses if isinstance(subclasses, tuple) else (subclasses,)
        names = " or ".join(wanted_class.__name__ for wanted_class in wanted)
        raise TypeError(f"`{attribute.lstrip('_')}` must be of {names}, not {kind.__qualname__}.")
    setattr(instance, attribute, value)
