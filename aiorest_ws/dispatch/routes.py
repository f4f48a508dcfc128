"""Routes, and what is settled about their views at registration."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, cast

from aiorest_ws.abstract import AbstractEndpoint
from aiorest_ws.dispatch.scopes import Scope
from aiorest_ws.endpoints import DynamicEndpoint, PlainEndpoint
from aiorest_ws.views import MethodBasedView, signature_of
from aiorest_ws.wrappers import normalize_method

__all__ = ("NO_ARGUMENTS", "BoundHandler", "CallResult", "Route", "has_handler")

NO_ARGUMENTS: Mapping[str, Any] = {}

# A view that takes any keyword has an entry in `calls` for each number of arguments below this.
MAX_REMEMBERED_ARGUMENTS = 16

# The view, its answer, and the keywords that it was called with.
CallResult = tuple[Any, Any, Mapping[str, Any]]

# Called with the request, the path values and the arguments; returns None if it was compiled for
# other arguments.
_Call = Callable[[Any, Sequence[str], Any], CallResult | None]


class BoundHandler:
    """A view class and a method, with what all their calls have in common.

    `attribute` names the function that is called: the one named like the method, or `dispatch` if
    the class overrides it. `calls` has the functions compiled for calls, by their number of
    arguments.
    """

    __slots__ = (
        "_accepted",
        "_required",
        "_signature",
        "attribute",
        "calls",
        "path_names",
        "view_class",
        "word",
    )

    def __init__(self, view_class: type[Any], word: str, path_names: Collection[str] = ()) -> None:
        self.view_class = view_class
        self.word = word
        has_own_dispatch = view_class.dispatch is not MethodBasedView.dispatch
        self.attribute = "dispatch" if has_own_dispatch else word
        self.calls: dict[int, _Call] = {}
        self.path_names = tuple(path_names)
        own = "dispatch" if has_own_dispatch else ""
        self._signature = signature_of(view_class, word, own)  # type: ignore[arg-type]
        self._accepted, self._required = self._signature.keywords_after(self.path_names)

    def bind(self, values_in_path: int, arguments: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Return the keywords to call the view with.

        Raises IncorrectArgument for a mistake of the client, TypeError if the view does not take
        that many path values.
        """
        if arguments is None:
            arguments = NO_ARGUMENTS
        if self._accepted.issuperset(arguments):
            for name in self._required:
                if name not in arguments:
                    break
            else:
                return arguments
        return self._signature.bind(values_in_path, arguments, self.path_names)

    def call(
        self, request: Any, values: Sequence[str], arguments: Mapping[str, Any]
    ) -> CallResult:
        """Call a new view, and add a function for such calls to `calls`.

        Raises what `bind` and the view raise.
        """
        keywords = self.bind(len(values), arguments)
        self.remember(values, arguments)
        view = self.view_class()
        return view, getattr(view, self.attribute)(request, *values, **keywords), keywords

    def remember(self, values: Sequence[str], arguments: Mapping[str, Any]) -> None:
        """Add a function for calls with such values and arguments to `calls`."""
        if len(arguments) in self.calls or len(values) != len(self.path_names):
            return
        # Only names in the signature are compiled, and only ASCII: Python normalizes others.
        if self._accepted.issuperset(arguments) and "".join(arguments).isascii():
            self.calls[len(arguments)] = self._compiled(len(values), tuple(arguments))
        elif not self._accepted and len(arguments) < MAX_REMEMBERED_ARGUMENTS:
            self.calls[len(arguments)] = self.call  # takes any names

    def _compiled(self, values_in_path: int, names: tuple[str, ...]) -> _Call:
        """Compile a function for calls with this number of path values and these arguments.

        Passing them as `*values, **arguments` takes twice the time.
        """
        given = [f"values[{index}]" for index in range(values_in_path)]
        given += [f"{name}=given{index}" for index, name in enumerate(names)]
        take = [f"given{index} = arguments[{name!r}]" for index, name in enumerate(names)]
        answer = f"view.{self.attribute}({', '.join(['request', *given])})"
        body, namespace = self._body(take, answer)
        lines = ["def call(request, values, arguments):", *(f"    {line}" for line in body)]
        try:
            code = compile("\n".join(lines), "<call of a view>", "exec")
        except SyntaxError:  # a forged signature
            return self.call
        namespace = {"view_class": self.view_class, "no_arguments": NO_ARGUMENTS, **namespace}
        exec(code, namespace)  # noqa: S102  its names are identifiers of a signature
        return cast("_Call", namespace["call"])

    def _body(
        self, take: Sequence[str], answer: str, check: Sequence[str] = ()
    ) -> tuple[list[str], dict[str, Any]]:
        """Return the lines of a compiled function, and the names in them.

        `take` are those that take the arguments, or raise KeyError if they have other names.
        `check` are those before the view is called, `answer` is that call.
        """
        lines = [f"    {line}" for line in take]
        lines = ["try:", *lines, "except KeyError:", "    return None"] if take else []
        keywords = "arguments" if take else "no_arguments"
        return [*lines, "view = view_class()", *check, f"return view, {answer}, {keywords}"], {}


class Route:
    """The endpoints of one path. For each method the endpoint that was registered first counts.

    `handlers` has the methods in lower and in upper case. Endpoints of a program's own class have
    no handler, because their path values are unknown until they match.
    """

    __slots__ = ("_scope", "_words", "endpoint", "handlers")

    def __init__(self, endpoint: AbstractEndpoint, scope: Scope) -> None:
        self.endpoint = endpoint
        self.handlers: dict[str, BoundHandler] = {}
        self._scope = scope
        self._words: dict[str, tuple[AbstractEndpoint, Scope]] = {}
        self.add(endpoint, scope)

    def add(self, endpoint: AbstractEndpoint, scope: Scope) -> None:
        """Add an endpoint with the same path, for the methods that are still free."""
        view_class = endpoint.handler
        for method in endpoint.methods:
            word = normalize_method(method)
            if word in self._words:
                continue
            self._words[word] = endpoint, scope
            if type(endpoint) not in (PlainEndpoint, DynamicEndpoint) or not _is_view(view_class):
                continue
            names = endpoint.parameters if isinstance(endpoint, DynamicEndpoint) else ()
            if has_handler(view_class, word):
                handler = BoundHandler(view_class, word, names)
                self.handlers[word] = self.handlers[word.upper()] = handler

    def endpoint_for(self, method: object) -> AbstractEndpoint:
        """Return the endpoint for a request's method, or the first one if there is none."""
        found = self._words.get(normalize_method(method))
        return self.endpoint if found is None else found[0]

    def scope_for(self, method: object) -> Scope:
        """Return the scope for a request's method, or that of the first endpoint."""
        found = self._words.get(normalize_method(method))
        return self._scope if found is None else found[1]

    def takes(self, word: str) -> bool:
        """Tell whether an endpoint of this path was registered for a method."""
        return word in self._words


def has_handler(view_class: type[Any], word: str) -> bool:
    """Tell whether views of a class answer a method."""
    if view_class.dispatch is not MethodBasedView.dispatch:
        return True
    return callable(getattr(view_class, word, None))


def _is_view(handler: object) -> bool:
    return inspect.isclass(handler) and issubclass(handler, MethodBasedView)
