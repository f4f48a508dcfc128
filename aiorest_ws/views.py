"""Views: classes with a method for each HTTP method that they answer."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from aiorest_ws.exceptions import (
    IncorrectArgument,
    IncorrectMethodNameType,
    InvalidRenderer,
    MethodNotAllowed,
    NotSpecifiedMethodName,
)
from aiorest_ws.renderers import BaseRenderer, JSONRenderer
from aiorest_ws.wrappers import Request, normalize_method

__all__ = (
    "HandlerSignature",
    "MethodBasedView",
    "MethodViewMeta",
    "View",
    "http_methods",
    "method_word",
    "signature_of",
)

# A message can reach no other attribute of a view.
http_methods = frozenset({"get", "post", "put", "patch", "delete", "head", "options", "trace"})

# Parameters of dispatch() and get_renderer().
_RESERVED_NAMES = frozenset({"self", "request", "preferred_format"})

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


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
    """The parameters of a handler, without `self` and `request`."""

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

    def __init__(self, function: Callable[..., Any], *, is_method: bool = True) -> None:
        parameters = list(inspect.signature(function).parameters.values())
        own = 2 if is_method else 1
        while own and (len(parameters) < own or parameters[own - 1].kind not in _POSITIONAL):
            own -= 1  # it takes them as `*args`
        own_names, parameters = {p.name for p in parameters[:own]}, parameters[own:]
        positional = [p for p in parameters if p.kind in _POSITIONAL]
        keyword_only = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        self._own_names = _RESERVED_NAMES | own_names
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


@lru_cache(maxsize=4096)
def signature_of(view_class: type, word: str) -> HandlerSignature:
    """Return the signature of the handler for `word`, which must be defined."""
    found = inspect.getattr_static(view_class, word)
    # A callable object in a class is not bound to an instance, unlike a function.
    is_method = hasattr(type(found), "__get__") and not isinstance(
        found, (staticmethod, classmethod)
    )
    return HandlerSignature(getattr(view_class, word), is_method=is_method)


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

    With `auth_required`, only requests with a verified token or an authenticated user reach the
    view (else 401), and in any case only those that each of `permission_classes` allows (else
    403). Both are judged after the middlewares.
    """

    renderers: ClassVar[Any] = ()
    methods: ClassVar[list[str]]
    blocking: ClassVar[bool] = False
    ordered: ClassVar[bool] = False
    call_seconds: ClassVar[float | None] = None
    auth_required: bool = False
    permission_classes: Sequence[Any] = ()

    def dispatch(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        """Call the handler of the request's method."""
        word = method_word(request.method)
        handler = getattr(self, word, None)
        if not callable(handler):
            raise MethodNotAllowed
        keywords = signature_of(type(self), word).bind(len(args), kwargs)
        return handler(request, *args, **keywords)

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
