"""Attributes that a connection makes on first use."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ("on_demand",)

Value = TypeVar("Value")


class _OnDemand:
    """A `functools.cached_property` without its lock: a connection belongs to one thread."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make
        self._name = make.__name__
        self.__doc__ = make.__doc__

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        value = vars(instance)[self._name] = self._make(instance)
        return value


if TYPE_CHECKING:
    # For a type checker it is the attribute that it makes: Autobahn assigns to all of them.
    def on_demand(make: Callable[[Any], Value]) -> Value: ...
else:
    on_demand = _OnDemand
