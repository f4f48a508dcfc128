"""What a router knows of its endpoints from the moment of their registration."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from aiorest_ws.abstract import AbstractEndpoint
from aiorest_ws.endpoints import DynamicEndpoint, PlainEndpoint
from aiorest_ws.views import MethodBasedView, signature_of

__all__ = ("NO_ARGUMENTS", "BoundHandler", "Called", "Route", "has_handler")

NO_ARGUMENTS: Mapping[str, Any] = {}

# Calls of views that take any arguments are remembered for less than so many.
MOST_NAMES = 16

# A view, what it has answered, and the keywords that it was called with.
Called = tuple[Any, Any, Mapping[str, Any]]

# From a request, the values in its path and its arguments; None if the arguments are others.
_Call = Callable[[Any, Sequence[str], Any], Called | None]


class BoundHandler:
    """A view class and a method word, with all that their calls have in common.

    `attribute` is what of a view is called: the method named like the word, or the `dispatch` of
    a class that has its own. A call is simple if it needs neither a thread nor a turn. `calls` has
    what was compiled for as many arguments.
    """

    __slots__ = (
        "_accepted",
        "_path_names",
        "_required",
        "_signature",
        "attribute",
        "calls",
        "has_default_renderer",
        "is_simple",
        "view_class",
    )

    def __init__(self, view_class: type[Any], word: str, path_names: tuple[str, ...] = ()) -> None:
        self.view_class = view_class
        has_own_dispatch = view_class.dispatch is not MethodBasedView.dispatch
        self.attribute = "dispatch" if has_own_dispatch else word
        self.is_simple = not view_class.blocking and not view_class.ordered
        self.has_default_renderer = (
            view_class.get_renderer is MethodBasedView.get_renderer
            and isinstance(view_class.renderers, (list, tuple))
            and not view_class.renderers
        )
        self.calls: dict[int, _Call] = {}
        self._path_names = frozenset(path_names)
        self._signature = signature_of(view_class, self.attribute)  # type: ignore[arg-type]
        self._accepted, self._required = self._signature.keywords_after(path_names)

    def bind(self, values_in_path: int, arguments: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Return the keywords to call the view with, after that many values of the path.

        Raises IncorrectArgument for what a client can mend, TypeError when the view does not take
        as many values as its path has.
        """
        if arguments is None:
            arguments = NO_ARGUMENTS
        if self._accepted.issuperset(arguments):
            for name in self._required:
                if name not in arguments:
                    break
            else:
                return arguments
        return self._signature.bind(values_in_path, arguments, self._path_names)

    def call(self, request: Any, values: Sequence[str], arguments: Mapping[str, Any]) -> Called:
        """Call a new view; the next such call finds itself in `calls`.

        Raises what `bind` raises, and what the view does.
        """
        keywords = self.bind(len(values), arguments)
        if len(arguments) not in self.calls and len(values) == len(self._path_names):
            # Only names of the signature are compiled; and none outside of ASCII, which Python
            # spells its own way.
            if self._accepted.issuperset(arguments) and "".join(arguments).isascii():
                self.calls[len(arguments)] = self._compiled(len(values), tuple(arguments))
            elif not self._accepted and len(arguments) < MOST_NAMES:
                self.calls[len(arguments)] = self.call  # it takes any name
        view = self.view_class()
        return view, getattr(view, self.attribute)(request, *values, **keywords), keywords

    def _compiled(self, values_in_path: int, names: tuple[str, ...]) -> _Call:
        """Return a function for calls with just so many values, and arguments of these names.

        To pass them as `*values, **arguments` takes a tuple and a dict more, and twice the time.
        """
        given = [f"values[{index}]" for index in range(values_in_path)]
        given += [f"{name}=given{index}" for index, name in enumerate(names)]
        lines = ["def call(request, values, arguments):"]
        if names:
            lines.append("    try:")
            lines += [
                f"        given{index} = arguments[{name!r}]" for index, name in enumerate(names)
            ]
            lines += ["    except KeyError:", "        return None"]
        keywords = "arguments" if names else "no_arguments"
        answer = f"view.{self.attribute}({', '.join(['request', *given])})"
        lines.append("    view = view_class()")
        lines.append(f"    return view, {answer}, {keywords}")
        try:
            code = compile("\n".join(lines), "<call of a view>", "exec")
        except SyntaxError:  # of a signature that was made up
            return self.call
        namespace = {"view_class": self.view_class, "no_arguments": NO_ARGUMENTS}
        exec(code, namespace)  # noqa: S102  of names in a signature, which are identifiers
        return cast("_Call", namespace["call"])


class Route:
    """The endpoints of one path: a handler for each method word, the first that was registered.

    `handlers` knows the words in lower and in upper case. A handler is missing where only a call
    can tell: for endpoints of foreign classes, whose values nobody knows before they match.
    """

    __slots__ = ("_words", "endpoint", "handlers")

    def __init__(self, endpoint: AbstractEndpoint) -> None:
        self.endpoint = endpoint
        self.handlers: dict[str, BoundHandler] = {}
        self._words: dict[str, AbstractEndpoint] = {}
        self.add(endpoint)

    def add(self, endpoint: AbstractEndpoint) -> None:
        """Take another endpoint of the same path, for the words that no earlier one takes."""
        view_class = endpoint.handler
        for method in endpoint.methods:
            word = method.strip().lower()
            if word in self._words:
                continue
            self._words[word] = endpoint
            if type(endpoint) not in (PlainEndpoint, DynamicEndpoint) or not _is_view(view_class):
                continue
            names = endpoint.parameters if isinstance(endpoint, DynamicEndpoint) else ()
            if has_handler(view_class, word):
                handler = BoundHandler(view_class, word, names)
                self.handlers[word] = self.handlers[word.upper()] = handler

    def endpoint_for(self, method: Any) -> AbstractEndpoint:
        """Return the endpoint that takes a request's method, the first one if there is none."""
        word = method.strip().lower() if isinstance(method, str) else ""
        return self._words.get(word, self.endpoint)

    def takes(self, word: str) -> bool:
        """Tell whether an endpoint of this path was registered for a method word."""
        return word in self._words


def has_handler(view_class: type[Any], word: str) -> bool:
    """Tell whether views of a class answer a method word."""
    if view_class.dispatch is not MethodBasedView.dispatch:
        return True
    return callable(getattr(view_class, word, None))


def _is_view(handler: Any) -> bool:
    return inspect.isclass(handler) and issubclass(handler, MethodBasedView)
