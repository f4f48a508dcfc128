"""Check the arguments of a registration."""

import inspect
from collections.abc import Sequence
from typing import Any

from aiorest_ws.exceptions import (
    InvalidHandler,
    InvalidPathArgument,
    NotSupportedArgumentType,
)
from aiorest_ws.values import Converter
from aiorest_ws.views import MethodBasedView, http_methods, is_asynchronous, signature_of
from aiorest_ws.wrappers import normalize_method

__all__ = (
    "BaseValidator",
    "EndpointNameValidator",
    "HandlerValidator",
    "MethodValidator",
    "PathValidator",
    "RouteArgumentsValidator",
    "check_and_set_subclass",
    "check_encoder",
    "check_methods",
    "check_path",
    "check_path_order",
    "check_route",
)


class BaseValidator:
    """Checks arguments; a subclass raises for wrong ones."""

    def validate(self, *args: Any, **kwargs: Any) -> None:
        """Accept anything."""


class PathValidator(BaseValidator):
    """Checks the path of an endpoint."""

    def validate(self, path: object) -> None:
        """Raise InvalidPathArgument unless `path` starts with `/` and has no query."""
        check_path(path)


class HandlerValidator(BaseValidator):
    """Checks the view class of an endpoint."""

    def validate(self, handler: object) -> None:
        """Raise InvalidHandler or NotSupportedArgumentType for what cannot be a view."""
        if not inspect.isclass(handler) or not issubclass(handler, MethodBasedView):
            raise InvalidHandler(
                f"A handler must be a subclass of MethodBasedView, not {handler!r}."
            )
        injected = handler.injected
        if isinstance(injected, str) or not all(isinstance(name, str) for name in injected):
            raise NotSupportedArgumentType(
                f"`injected` must be names in a tuple, not {injected!r}."
            )
        if handler.blocking:
            for word in (*handler.methods, "dispatch"):
                if is_asynchronous(inspect.getattr_static(handler, word, None)):
                    raise InvalidHandler(
                        f"{handler.__qualname__} is `blocking`: its `{word}` runs in a thread "
                        "and cannot be a coroutine or an asynchronous generator."
                    )


class MethodValidator(BaseValidator):
    """Checks the methods of an endpoint."""

    def validate(self, methods: object) -> None:
        """Raise NotSupportedArgumentType unless `methods` are a list or a str of HTTP methods."""
        check_methods(methods)


class EndpointNameValidator(BaseValidator):
    """Checks the name of an endpoint."""

    def validate(self, name: object) -> None:
        """Raise NotSupportedArgumentType unless `name` is a str or None."""
        if name is not None and not isinstance(name, str):
            raise NotSupportedArgumentType(f"`name` must be a str, not {type(name).__name__}.")


class RouteArgumentsValidator(BaseValidator):
    """Checks the arguments of a registration; a router has one as `args_validator`."""

    path_validator: BaseValidator = PathValidator()
    handler_validator: BaseValidator = HandlerValidator()
    methods_validator: BaseValidator = MethodValidator()
    endpoint_name_validator: BaseValidator = EndpointNameValidator()

    def validate(
        self, path: object, handler: object, methods: object, name: object = None
    ) -> None:
        """Raise InvalidPathArgument, InvalidHandler or NotSupportedArgumentType."""
        self.path_validator.validate(path)
        self.handler_validator.validate(handler)
        self.methods_validator.validate(methods)
        self.endpoint_name_validator.validate(name)


def check_route(path: object, handler: object, methods: object, name: object = None) -> None:
    """Check the arguments of a registration, as RouteArgumentsValidator does."""
    RouteArgumentsValidator().validate(path, handler, methods, name)


def check_path(path: object) -> None:
    """Raise InvalidPathArgument unless `path` can be that of an endpoint."""
    if not isinstance(path, str) or not path.startswith("/"):
        raise InvalidPathArgument(f"A path must start with `/`; this one is {path!r}.")
    if "?" in path:
        raise InvalidPathArgument(f"A path cannot contain `?`, which starts a query: {path!r}.")


def check_path_order(
    path: str, names: Sequence[str], view: type[MethodBasedView], words: list[str]
) -> None:
    """Raise InvalidHandler if a view takes the path values `names` by name in another order."""
    if len(names) < 2:
        return
    own = "" if view.dispatch is MethodBasedView.dispatch else "dispatch"
    for word in words:
        if not own and not callable(getattr(view, word, None)):
            continue
        misplaced = signature_of(view, word, own).misplaced(names)
        if misplaced is not None:
            name, parameter = misplaced
            raise InvalidHandler(
                f"{view.__qualname__} would get the {name!r} of {path!r} as its {parameter!r}: "
                f"path values come in the order of the path."
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
