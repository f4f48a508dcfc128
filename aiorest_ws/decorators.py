"""`@endpoint`: use a function as a view."""

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from aiorest_ws.registration.options import warn_of_near_misses
from aiorest_ws.validators import check_methods
from aiorest_ws.views import MethodBasedView
from aiorest_ws.wrappers import normalize_method

__all__ = ("EndpointFunction", "endpoint")


class EndpointFunction:
    """A function with the arguments of its registration; it can still be called.

    Called without arguments it returns those of `register`: path, view class, methods and name.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        path: str,
        methods: str | list[str],
        name: str | None,
        attributes: dict[str, Any],
    ) -> None:
        update_wrapper(self, function)
        self.function = function
        self.path = path
        self.methods = methods
        self.name = name
        self.attributes = attributes

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not args and not kwargs:
            return self.path, self.as_view(), self.methods, self.name
        return self.function(*args, **kwargs)

    def as_view(self) -> type[MethodBasedView]:
        """Return a view class that answers each of its methods with the function."""
        check_methods(self.methods)
        words = [self.methods] if isinstance(self.methods, str) else self.methods
        handlers = {normalize_method(word): staticmethod(self.function) for word in words}
        namespace = {
            **self.attributes,
            **handlers,
            "__doc__": self.function.__doc__,
            "__module__": getattr(self.function, "__module__", __name__),
        }
        name = getattr(self.function, "__name__", type(self.function).__name__)
        return type(name, (MethodBasedView,), namespace)


def endpoint(
    path: str, methods: str | list[str], name: str | None = None, **attrs: Any
) -> Callable[[Callable[..., Any]], EndpointFunction]:
    """Prepare a function `f(request, *args, **kwargs)` for `register_endpoint`, as in 1.1.

    Path values are passed in the order of the path. `attrs` become attributes of the view
    (`renderers`, `blocking`, `injected`, ...); warns of one that nearly has the name of an option.
    """
    warn_of_near_misses(attrs, stacklevel=3)

    def decorate(function: Callable[..., Any]) -> EndpointFunction:
        return EndpointFunction(function, path, methods, name, attrs)

    return decorate
