"""View classes whose methods have annotations."""

import inspect
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, cast

from aiorest_ws.contract.annotations import callers_names
from aiorest_ws.contract.binder import bound
from aiorest_ws.contract.handlers import Handler
from aiorest_ws.views import MethodBasedView, server_names

__all__ = ("TypedViews",)


class TypedViews:
    """The subclasses of a router's view classes that check values."""

    def __init__(self) -> None:
        self._made: dict[Any, type[MethodBasedView]] = {}

    def view(
        self, view_class: type[MethodBasedView], path: str, names: Sequence[str], words: list[str]
    ) -> type[MethodBasedView]:
        """Return the view class for a path that names these values; raise InvalidHandler.

        It is the class itself if nothing in it is annotated.
        """
        key = view_class, tuple(names), tuple(words)
        if key not in self._made:
            handlers = {}
            for word in words:
                handler = _handler(view_class, word)
                if handler is None:
                    continue
                if view_class.blocking:
                    handler.check_thread()
                call = bound(handler, path, names, by_name=False)
                if call is not None:
                    handlers[word] = call if handler.is_method else staticmethod(call)
            self._made[key] = _subclass(view_class, handlers) if handlers else view_class
        return self._made[key]


def _handler(view_class: type[MethodBasedView], word: str) -> Handler | None:
    found = inspect.getattr_static(view_class, word, None)
    function = getattr(view_class, word, None)
    if not callable(function):
        return None
    read = getattr(function, "contract", None)
    if isinstance(read, Handler):  # for another path
        return read
    is_method = hasattr(type(found), "__get__") and not isinstance(
        found, (staticmethod, classmethod)
    )
    return Handler(
        function,
        is_method=is_method,
        filled=server_names(found, function).union(view_class.injected),
        names=callers_names(),
        call=_call_of(found) if is_method and not isinstance(found, FunctionType) else None,
    )


def _call_of(descriptor: Any) -> Callable[..., Any]:
    def call(view: Any, /, *values: Any, **arguments: Any) -> Any:
        return descriptor.__get__(view, type(view))(*values, **arguments)

    return call


def _subclass(
    view_class: type[MethodBasedView], handlers: dict[str, Any]
) -> type[MethodBasedView]:
    namespace: dict[str, Any] = {
        "__doc__": view_class.__doc__,
        "__module__": view_class.__module__,
        "__qualname__": view_class.__qualname__,
        "methods": view_class.methods,
        # Of an `ordered` class with two paths.
        "taking_turns_with": getattr(view_class, "taking_turns_with", view_class),
        **handlers,
    }
    kind: Any = type(view_class)  # a metaclass of the program's own, maybe
    return cast("type[MethodBasedView]", kind(view_class.__name__, (view_class,), namespace))
