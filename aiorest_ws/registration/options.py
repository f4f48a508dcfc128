"""The options of a route."""

import difflib
import inspect
import math
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypedDict

from aiorest_ws.dispatch.declared import errors_fault
from aiorest_ws.exceptions import BaseAPIException, NotSupportedArgumentType
from aiorest_ws.renderers import BaseRenderer
from aiorest_ws.views import MethodBasedView

__all__ = (
    "RouteOptions",
    "check_errors",
    "check_options",
    "check_permissions",
    "warn_of_near_misses",
)

# How alike two names are that are probably meant to be the same: `auth_requird` is at 0.96,
# `block` for `blocking` at 0.77.
LIKENESS = 0.75


class RouteOptions(TypedDict, total=False):
    """What `router.get` and its kin take besides the path.

    - `name`: for `router.reverse`.
    - `blocking`, `ordered`, `call_seconds`, `renderers`, `injected`, `auth_required`,
      `permission_classes`: as in `MethodBasedView`. The router may have an `auth_required`, which
      is used if the route has none, and `permission_classes`, which are checked first.
    - `raises`, `errors`, `idempotent`: as in `MethodBasedView`.
    - `attributes`: further attributes of the view, for middlewares and permissions.
    """

    name: str | None
    blocking: bool
    ordered: bool
    call_seconds: float | None
    renderers: Sequence[type[BaseRenderer]]
    auth_required: bool | None
    permission_classes: Sequence[Any]
    injected: Collection[str]
    raises: Sequence[type[BaseAPIException]]
    errors: Mapping[type[BaseException], type[BaseAPIException]]
    idempotent: bool | None
    attributes: Mapping[str, Any]


_OPTIONS = tuple(RouteOptions.__annotations__)


def check_options(options: RouteOptions) -> None:
    """Raise TypeError for an unknown option, NotSupportedArgumentType for a wrong value."""
    for name in options:
        if name not in _OPTIONS:
            nearest = difflib.get_close_matches(name.lower(), _OPTIONS, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(_OPTIONS)}"
            raise TypeError(f"unknown option {name!r}; {hint}")
    for name, value in options.items():
        fault = _fault(name, value)
        if fault:
            raise NotSupportedArgumentType(f"`{name}` must be {fault}, not {value!r}.")
    attributes = options.get("attributes", {})
    for name in attributes:
        if name in _OPTIONS:
            raise NotSupportedArgumentType(f"{name!r} is an option, and not for `attributes`.")
        if hasattr(MethodBasedView, name) or name == "function":
            raise NotSupportedArgumentType(
                f"`attributes` cannot replace {name!r}, a member of the view."
            )
    warn_of_near_misses(attributes, stacklevel=5)  # in the program


def check_permissions(permissions: object) -> None:
    """Raise NotSupportedArgumentType unless these are `permission_classes`."""
    fault = _fault("permission_classes", permissions)
    if fault:
        raise NotSupportedArgumentType(
            f"`permission_classes` must be {fault}, not {permissions!r}."
        )


def check_errors(view: type[MethodBasedView]) -> None:
    """Raise NotSupportedArgumentType for a wrong `raises` or `errors` of a view class."""
    for name in ("raises", "errors"):
        value = getattr(view, name)
        fault = errors_fault(name, value)
        if fault:
            raise NotSupportedArgumentType(
                f"`{name}` of {view.__qualname__} must be {fault}, not {value!r}."
            )


def warn_of_near_misses(attributes: Iterable[str], *, stacklevel: int) -> None:
    """Warn of attributes of a view that nearly have the name of an option."""
    for name in attributes:
        if name in _OPTIONS or hasattr(MethodBasedView, name):
            continue
        nearest = difflib.get_close_matches(name.lower(), _OPTIONS, n=1, cutoff=LIKENESS)
        if nearest:
            warnings.warn(
                f"the view gets an attribute {name!r}; did you mean {nearest[0]!r}?",
                stacklevel=stacklevel,
            )


def _fault(name: str, value: Any) -> str | None:
    """Return what the value of an option must be, or None if it is."""
    match name:
        case "blocking" | "ordered":
            is_right, wanted = isinstance(value, bool), "True or False"
        case "auth_required" | "idempotent":
            is_right, wanted = value is None or isinstance(value, bool), "True, False or None"
        case "raises" | "errors":
            return errors_fault(name, value)
        case "name":
            is_right, wanted = value is None or isinstance(value, str), "a str"
        case "call_seconds":
            is_right, wanted = value is None or _is_time(value), "a positive number of seconds"
        case "attributes":
            is_right = isinstance(value, Mapping) and all(map(_is_name, value))
            wanted = "a mapping of names"
        case "injected":
            is_right = isinstance(value, (list, tuple, set, frozenset)) and all(
                map(_is_name, value)
            )
            wanted = "names in a tuple"
        case "renderers":
            is_right = isinstance(value, (list, tuple)) and all(
                inspect.isclass(one) and callable(getattr(one, "render", None)) for one in value
            )
            wanted = "renderer classes in a tuple"
        case _:
            is_right = isinstance(value, (list, tuple)) and all(
                callable(getattr(one, "check", None)) for one in value
            )
            wanted = "permissions in a tuple"
    return None if is_right else wanted


def _is_time(value: object) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 < value < math.inf  # type: ignore[operator]


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value.isidentifier()
