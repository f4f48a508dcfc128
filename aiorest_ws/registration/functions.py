"""Functions as views, their path values bound by name."""

import difflib
import functools
import inspect
from collections.abc import Callable, Collection, Sequence
from typing import Any, ClassVar, cast

from aiorest_ws.contract.annotations import callers_names
from aiorest_ws.contract.binder import bound
from aiorest_ws.contract.handlers import Handler
from aiorest_ws.exceptions import InvalidHandler
from aiorest_ws.registration.options import RouteOptions
from aiorest_ws.views import (
    RESERVED_NAMES,
    MethodBasedView,
    MethodViewMeta,
    is_asynchronous,
    server_names,
)
from aiorest_ws.wrappers import normalize_method

__all__ = ("FunctionView", "function_view")

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class FunctionView(MethodBasedView):
    """A view that answers with `function`, whose path values are bound by name."""

    methods: ClassVar[list[str]] = []
    function: ClassVar[Callable[..., Any]]
    _parameters: ClassVar["_Parameters"]

    @classmethod
    def at(cls, path: str, names: Sequence[str]) -> type["FunctionView"]:
        """Return the view for a path that names these values; raise InvalidHandler."""
        handler = cls._parameters.bound_by_name(path, names)
        namespace = {
            "__doc__": cls.__doc__,
            "__module__": cls.__module__,
            "methods": cls.methods,
            **{word: staticmethod(handler) for word in cls.methods},
        }
        return cast("type[FunctionView]", MethodViewMeta(cls.__name__, (cls,), namespace))


def function_view(
    function: object, methods: str | list[str], options: RouteOptions
) -> type[FunctionView]:
    """Return a view class that answers each of the methods with a function.

    Raises InvalidHandler for what cannot be called with a request.
    """
    if inspect.isclass(function):
        raise InvalidHandler(
            f"{function.__qualname__} is a class; router.register(path, {function.__name__}, "
            "methods) registers view classes."
        )
    if not callable(function):
        raise InvalidHandler(f"A function answers a request, and {function!r} is none.")
    if options.get("blocking") and is_asynchronous(function):
        raise InvalidHandler(
            f"{_name_of(function)} is `blocking`: it runs in a thread and cannot be a coroutine "
            "or an asynchronous generator."
        )
    chosen = {name: value for name, value in options.items() if name not in {"name", "attributes"}}
    if chosen.get("auth_required", True) is None:
        del chosen["auth_required"]
    words = [methods] if isinstance(methods, str) else methods
    parameters = _Parameters(function, options.get("injected", ()))
    if options.get("blocking"):
        parameters.handler.check_thread()
    namespace = {
        **options.get("attributes", {}),
        **chosen,
        "__doc__": function.__doc__,
        "__module__": getattr(function, "__module__", __name__),
        "function": staticmethod(function),
        "_parameters": parameters,
        "methods": [normalize_method(word) for word in words],
    }
    name = getattr(function, "__name__", type(function).__name__)
    return cast("type[FunctionView]", MethodViewMeta(name, (FunctionView,), namespace))


class _Parameters:
    """The parameters of a function that answers requests; raise InvalidHandler if it cannot."""

    def __init__(self, function: Callable[..., Any], injected: Collection[str]) -> None:
        self._function = function
        self._name = _name_of(function)
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):
            raise InvalidHandler(
                f"{self._name} has no signature that Python can tell; wrap it in a function."
            ) from None
        first = parameters[0] if parameters else None
        if first is None or first.kind not in (*_POSITIONAL, inspect.Parameter.VAR_POSITIONAL):
            raise InvalidHandler(f"{self._name} must take the request as its first parameter.")
        if first.name in {"self", "cls"}:
            raise InvalidHandler(
                f"{self._name} is a method of a class, and a router needs one of an instance."
            )
        self._first = first
        self._rest = parameters if first.kind in _VARIADIC else parameters[1:]
        self._named = {p.name: p for p in self._rest if p.kind not in _VARIADIC}
        self._filled = frozenset(server_names(function, function).union(injected))
        self._check_injected(injected)
        self.handler = Handler(
            function, is_method=False, filled=self._filled, names=callers_names()
        )
        self._filled = self.handler.filled

    def _check_injected(self, injected: Collection[str]) -> None:
        takes_any = any(p.kind is p.VAR_KEYWORD for p in self._rest)
        known = {*self._named, *server_names(self._function, self._function)}
        for name in injected:
            if name not in known and not takes_any:
                raise InvalidHandler(
                    f"{self._name} has no parameter {name!r}, which `injected` names"
                    f"{_hint(name, known)}."
                )

    def bound_by_name(self, path: str, names: Sequence[str]) -> Callable[..., Any]:
        """Return a function that takes the path values in the order of `names`."""
        for name in names:
            self._check_path_name(path, name)
        for parameter in self._named.values():
            self._check_can_be_given(parameter, names)
        checking = bound(self.handler, path, names, by_name=True)
        if checking is not None:
            return checking
        positional = [p.name for p in self._rest if p.kind in _POSITIONAL]
        if positional[: len(names)] == list(names):
            return self._function
        return self._adapter(names)

    def _check_path_name(self, path: str, name: str) -> None:
        if name in self._filled:
            raise InvalidHandler(
                f"{self._name} gets {name!r} from the server, so {path!r} cannot name it too."
            )
        if name in self._named:
            return
        if name == self._first.name and self._first.kind in _POSITIONAL:
            raise InvalidHandler(
                f"{self._name} gets the request as {name!r}, its first parameter, and needs "
                f"another one for the {name!r} of {path!r}."
            )
        raise InvalidHandler(
            f"{self._name} has no parameter {name!r}, which {path!r} names"
            f"{_hint(name, self._named)}."
        )

    def _check_can_be_given(self, parameter: inspect.Parameter, names: Sequence[str]) -> None:
        name = parameter.name
        data = self.handler.data
        if name in names or name in self._filled or (data is not None and name == data.name):
            return
        is_positional_only = parameter.kind is parameter.POSITIONAL_ONLY
        is_needed = parameter.default is parameter.empty
        if is_positional_only and not is_needed:
            following = list(self._named.values())[list(self._named).index(name) + 1 :]
            is_needed = any(p.kind is p.POSITIONAL_ONLY and p.name in names for p in following)
        if is_needed and (is_positional_only or name in RESERVED_NAMES):
            why = "is positional-only" if is_positional_only else "has a reserved name"
            raise InvalidHandler(
                f"{self._name} needs {name!r}, which no client can give because it {why}."
            )

    def _adapter(self, names: Sequence[str]) -> Callable[..., Any]:
        """Compile a function; one that takes `*values` and calls with a dict is much slower."""
        value_of = {name: f"value{index}" for index, name in enumerate(names)}
        in_path = [p for p in self._named.values() if p.name in value_of]
        given = [
            value_of[p.name] if p.kind is p.POSITIONAL_ONLY else f"{p.name}={value_of[p.name]}"
            for p in in_path
        ]
        others = [
            p if p.kind is p.VAR_KEYWORD else p.replace(kind=p.KEYWORD_ONLY)
            for p in self._rest
            if p.name not in value_of and p.kind not in {p.POSITIONAL_ONLY, p.VAR_POSITIONAL}
        ]
        more = ["**arguments"] if others else []
        source = (
            f"def call({', '.join(['request', *value_of.values(), '/', *more])}):\n"
            f"    return function({', '.join(['request', *given, *more])})"
        )
        namespace: dict[str, Any] = {"function": self._function}
        exec(source, namespace)  # noqa: S102  its names are identifiers of a signature
        adapter: Any = functools.update_wrapper(namespace["call"], self._function)
        first = "request" if self._first.kind in _VARIADIC else self._first.name
        positional_only = inspect.Parameter.POSITIONAL_ONLY
        adapter.__signature__ = inspect.Signature(
            [*(inspect.Parameter(name, positional_only) for name in (first, *names)), *others]
        )
        return cast("Callable[..., Any]", adapter)


def _name_of(function: object) -> str:
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def _hint(name: str, known: Collection[str]) -> str:
    nearest = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""
