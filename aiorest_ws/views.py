"""Views: classes with a method for each HTTP method that they answer."""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, partial, partialmethod
from types import FunctionType, MappingProxyType
from typing import Any, ClassVar

from aiorest_ws.exceptions import (
    BaseAPIException,
    IncorrectArgument,
    IncorrectMethodNameType,
    InvalidRenderer,
    MethodNotAllowed,
    NotSpecifiedMethodName,
)
from aiorest_ws.renderers import BaseRenderer, JSONRenderer
from aiorest_ws.wrappers import Request, normalize_method

__all__ = (
    "RESERVED_NAMES",
    "HandlerSignature",
    "MethodBasedView",
    "MethodViewMeta",
    "View",
    "http_methods",
    "is_asynchronous",
    "layers",
    "method_word",
    "server_names",
    "signature_of",
)

# A message can reach no other attribute of a view.
http_methods = frozenset({"get", "post", "put", "patch", "delete", "head", "options", "trace"})

# Parameters of dispatch() and get_renderer().
RESERVED_NAMES = frozenset({"self", "request", "preferred_format"})

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def method_word(method: object) -> str:
    """Return the method of a request in lower case, one of `http_methods`.

    Raises NotSpecifiedMethodName, IncorrectMethodNameType or MethodNotAllowed.
    """
    if method is None or method == "":
        raise NotSpecifiedMethodName
    if not isinstance(method, str):
        raise IncorrectMethodNameType
    word = normalize_method(method)
    if word not in http_methods:
        raise MethodNotAllowed
    return word


class HandlerSignature:
    """The parameters of a handler, without `self` and `request`.

    `server_names` are parameters that the server fills; a client cannot give them.
    """

    __slots__ = (
        "_keyword_only_required",
        "_keywords",
        "_own_names",
        "_positional",
        "_positional_only",
        "_required_positional",
        "_takes_any_keyword",
        "_takes_any_positional",
    )

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        is_method: bool = True,
        server_names: Collection[str] = (),
    ) -> None:
        parameters = list(inspect.signature(function).parameters.values())
        own = 2 if is_method else 1
        while own and (len(parameters) < own or parameters[own - 1].kind not in _POSITIONAL):
            own -= 1  # it takes them as `*args`
        own_names = {p.name for p in parameters[:own]}.union(server_names)
        parameters = [p for p in parameters[own:] if p.name not in server_names]
        positional = [p for p in parameters if p.kind in _POSITIONAL]
        keyword_only = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        self._own_names = RESERVED_NAMES | own_names
        self._positional = tuple(p.name for p in positional)
        self._required_positional = sum(p.default is p.empty for p in positional)
        self._keywords = frozenset(
            p.name for p in positional + keyword_only if p.kind is not p.POSITIONAL_ONLY
        )
        self._keyword_only_required = tuple(p.name for p in keyword_only if p.default is p.empty)
        self._positional_only = frozenset(
            p.name for p in positional if p.kind is p.POSITIONAL_ONLY
        )
        self._takes_any_positional = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self._takes_any_keyword = any(p.kind is p.VAR_KEYWORD for p in parameters)

    def bind(
        self, values_in_path: int, arguments: Mapping[str, Any], path_names: Collection[str] = ()
    ) -> Mapping[str, Any]:
        """Return the keywords to call the handler with.

        Raises IncorrectArgument for a mistake of the client, TypeError if the handler does not
        take that many path values.
        """
        if values_in_path > len(self._positional) and not self._takes_any_positional:
            raise TypeError(
                f"the path has {values_in_path} values, the view takes {len(self._positional)}"
            )
        keywords = self._accept(arguments, path_names, values_in_path) if arguments else {}
        needed = self._positional[values_in_path : self._required_positional]
        for name in needed + self._keyword_only_required:
            if name not in keywords or name in self._positional_only:
                raise IncorrectArgument(f"The argument {name!r} is missing.")
        return keywords

    def _accept(
        self, arguments: Mapping[str, Any], path_names: Collection[str], values_in_path: int
    ) -> Mapping[str, Any]:
        bound = self._positional[:values_in_path]
        for name in arguments:
            if name in self._own_names:
                raise IncorrectArgument(f"The argument {name!r} is reserved.")
            if name in path_names or name in bound:
                raise IncorrectArgument(f"The argument {name!r} is already given by the URL.")
            if name not in self._keywords and not self._takes_any_keyword and name != "format":
                raise IncorrectArgument(f"The argument {name[:100]!r} is not taken here.")
        # `format` chooses the renderer. Only a handler with such a parameter gets it.
        if (
            "format" in arguments
            and "format" not in self._keywords
            and not self._takes_any_keyword
        ):
            return {name: value for name, value in arguments.items() if name != "format"}
        return arguments

    def misplaced(self, path_names: Sequence[str]) -> tuple[str, str] | None:
        """Return a path value and the parameter that gets it, but has the name of another."""
        for name, parameter in zip(path_names, self._positional, strict=False):
            if parameter != name and parameter in path_names:
                return name, parameter
        return None

    def keywords_after(
        self, path_names: tuple[str, ...]
    ) -> tuple[frozenset[str], tuple[str | None, ...]]:
        """Return the keywords that `bind` accepts unchanged, and those that it requires.

        If every call needs `bind`, the first are empty (a handler with `**kwargs`) or None is
        among the second (a handler that does not take that many path values).
        """
        bound = len(path_names)
        if bound > len(self._positional) and not self._takes_any_positional:
            return frozenset(), (None,)
        needed = self._positional[bound : self._required_positional] + self._keyword_only_required
        if self._takes_any_keyword:
            return frozenset(), needed
        taken = self._own_names.union(path_names, self._positional[:bound])
        return self._keywords - taken, needed


def layers(handler: Any) -> Iterator[Any]:
    """Yield a callable and all that it wraps: partials, methods, decorated functions."""
    seen: list[Any] = []
    while handler is not None and all(handler is not layer for layer in seen):
        seen.append(handler)
        yield handler
        if isinstance(handler, (partial, partialmethod)):
            handler = handler.func
        elif isinstance(handler, (staticmethod, classmethod)) or inspect.ismethod(handler):
            handler = handler.__func__
        elif hasattr(handler, "__wrapped__"):
            handler = handler.__wrapped__
        elif callable(handler) and not inspect.isroutine(handler) and not inspect.isclass(handler):
            handler = type(handler).__call__
        else:
            return


def is_asynchronous(handler: Any) -> bool:
    """Tell whether calls of a handler return a coroutine or an asynchronous generator."""
    for layer in layers(handler):
        if inspect.iscoroutinefunction(layer) or inspect.isasyncgenfunction(layer):
            return True
        if isinstance(layer, FunctionType):
            return False  # it may run what it wraps in a loop of its own
    return False


def server_names(handler: Any, function: Any) -> set[str]:
    """Return the parameters of a handler that the server fills; `function` is how it is called.

    A partial binds them, an object its `self`, or a decorator leaves them out of `__signature__`.
    The signature does not show them, except those that a partial binds by keyword.
    """
    bound: set[str] = set()
    hidden: set[str] = set()
    shown: Collection[str] = ()
    with suppress(TypeError, ValueError):
        shown = inspect.signature(function).parameters
    is_hiding = False
    for layer in layers(handler):
        if is_hiding:
            with suppress(TypeError, ValueError):  # it has no signature
                parameters = inspect.signature(layer, follow_wrapped=False).parameters.values()
                hidden.update(p.name for p in parameters if p.kind not in _VARIADIC)
        if isinstance(layer, (partial, partialmethod)):
            bound.update(layer.keywords)
        is_plain = isinstance(layer, (FunctionType, staticmethod))
        is_hiding = is_hiding or not is_plain or "__signature__" in vars(layer)
    return bound.union(hidden.difference(shown))


@lru_cache(maxsize=4096)
def signature_of(view_class: type[Any], word: str, attribute: str = "") -> HandlerSignature:
    """Return the signature of `attribute`, by default the handler for `word`.

    Neither takes from a client what the server fills in the handler. It must be defined.
    """
    handler = inspect.getattr_static(view_class, word, None)
    found = inspect.getattr_static(view_class, attribute) if attribute else handler
    # A callable object in a class is not bound to an instance, unlike a function.
    is_method = hasattr(type(found), "__get__") and not isinstance(
        found, (staticmethod, classmethod)
    )
    filled = server_names(handler, getattr(view_class, word, None))
    return HandlerSignature(
        getattr(view_class, attribute or word),
        is_method=is_method,
        server_names=filled.union(getattr(view_class, "injected", ())),
    )


class View:
    """The root of all views."""


class MethodViewMeta(type):
    """Set `methods` of a view class to the methods that it defines."""

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> None:
        super().__init__(name, bases, namespace)
        if "methods" not in namespace:
            cls.methods = sorted(
                word for word in http_methods if callable(getattr(cls, word, None))
            )


class MethodBasedView(View, metaclass=MethodViewMeta):
    """Answer a request with the method that has its name, in lower case.

    The method gets the request, the path values (strings, in order) and the request's `args` as
    keywords. It may return a value, a coroutine or a Deferred. `blocking` runs it in the server's
    thread pool. `ordered` runs the calls of one connection one after another. After
    `call_seconds` a call is cancelled and answered with 408.

    `injected` names the parameters that a decorator fills, or an override of `dispatch`: a client
    cannot give them.

    `raises` are errors that its calls may end with; each DeclaredError among them is sent with its
    name and its fields. `errors` maps exceptions of the program to errors, before any error
    handler. `idempotent` tells whether a call may be repeated: None means that GET, HEAD and
    OPTIONS may.

    With `auth_required`, only requests with a verified token or an authenticated user reach the
    view (else 401), and in any case only those that each of `permission_classes` allows (else
    403). Both are judged after the middlewares.
    """

    renderers: ClassVar[Any] = ()
    methods: ClassVar[list[str]]
    blocking: ClassVar[bool] = False
    ordered: ClassVar[bool] = False
    call_seconds: ClassVar[float | None] = None
    injected: Collection[str] = ()
    raises: Sequence[type[BaseAPIException]] = ()
    errors: Mapping[type[BaseException], type[BaseAPIException]] = MappingProxyType({})
    idempotent: bool | None = None
    auth_required: bool = False
    permission_classes: Sequence[Any] = ()

    def dispatch(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        """Call the handler of the request's method."""
        word = method_word(request.method)
        handler = getattr(self, word, None)
        if not callable(handler):
            raise MethodNotAllowed
        # An override of this method has injected them: from a client they are rejected before.
        injected = {name: kwargs.pop(name) for name in self.injected if name in kwargs}
        keywords = signature_of(type(self), word).bind(len(args), kwargs)
        return handler(request, *args, **keywords, **injected)

    def get_renderer(self, preferred_format: object, *args: Any, **kwargs: Any) -> BaseRenderer:  # noqa: ARG002  for overrides
        """Return the renderer for `preferred_format`, or the first one."""
        renderers = self.renderers
        if not isinstance(renderers, (list, tuple)):
            raise InvalidRenderer
        if not renderers:
            return JSONRenderer()
        for renderer in renderers:
            if preferred_format is not None and renderer.format == preferred_format:
                return renderer()  # type: ignore[no-any-return]
        return renderers[0]()  # type: ignore[no-any-return]
