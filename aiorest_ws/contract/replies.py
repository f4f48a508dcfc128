"""Make what a view returns of the class that its return annotation names: rows of an ORM."""

import dataclasses
import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from functools import partial
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import msgspec

from aiorest_ws.contract.annotations import Refused, checked, resolved

__all__ = ("maker_of", "reply_maker")

_LISTS = (list, tuple, set, frozenset, Sequence, Iterable)

_STREAMS = (AsyncIterator, AsyncIterable, AsyncGenerator)

# What JSON has too, and mappings, is sent as it is: an annotation describes it only.
_PLAIN = (str, int, float, bytes, NoneType, Mapping, list, tuple, set, frozenset)


def reply_maker(
    function: Callable[..., Any], names: Mapping[str, Any]
) -> Callable[[Any], Any] | None:
    """Return what makes the reply of what a function returns.

    Returns None unless its annotation is a Struct, a dataclass or an attrs class, or a list of
    them, or one of these or None, or an asynchronous iterator of these: a stream.
    """
    annotation = inspect.signature(function).return_annotation
    try:
        annotation = resolved(function, annotation, names)
        if get_origin(annotation) in _STREAMS:
            make = maker_of(get_args(annotation)[0])
            return None if make is None else partial(_items, make)
        make = maker_of(annotation)
    except Refused:  # it only describes
        return None
    return None if make is None else partial(_reply, make)


def maker_of(annotation: Any) -> Callable[[Any], Any] | None:
    """Return what makes a value of the class that a type names, or None if it names none."""
    kind, is_list = _class_in(annotation)
    if kind is None:
        return None
    checked(kind)
    return partial(_of_all if is_list else _of, kind, get_origin(kind) or kind)


def _class_in(annotation: Any) -> tuple[Any, bool]:
    """Return the class that an annotation names, and whether it is about a list of them."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        others = [one for one in arguments if one is not NoneType]
        return _class_in(others[0]) if len(others) == 1 else (None, False)
    if origin in _LISTS and arguments and arguments[1:] in ((), (...,)):
        kind, is_list = _class_in(arguments[0])
        return (None, False) if is_list else (kind, True)
    found = origin or annotation
    is_class = inspect.isclass(found) and (
        issubclass(found, msgspec.Struct)
        or dataclasses.is_dataclass(found)
        or hasattr(found, "__attrs_attrs__")
    )
    return (annotation if is_class else None), False


def _reply(make: Callable[[Any], Any], value: Any) -> Any:
    return _later(make, value) if hasattr(value, "__await__") else make(value)


async def _items(make: Callable[[Any], Any], stream: AsyncIterator[Any]) -> AsyncIterator[Any]:
    try:
        async for item in stream:
            yield make(item)
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()


async def _later(make: Callable[[Any], Any], waiting: Any) -> Any:
    return make(await waiting)


def _of(kind: Any, found: type, value: Any) -> Any:
    is_plain = isinstance(value, (found, _PLAIN)) or hasattr(value, "keys")
    if is_plain or hasattr(value, "__aiter__"):  # the last is a stream
        return value
    return msgspec.convert(value, kind, from_attributes=True)


def _of_all(kind: Any, found: type, values: Any) -> Any:
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        return _of(kind, found, values)
    return [one if isinstance(one, found) else _of(kind, found, one) for one in values]
