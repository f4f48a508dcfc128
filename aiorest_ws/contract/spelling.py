"""Values in URLs: text that spells what would be a JSON value in a message."""

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec.inspect as nodes

__all__ = ("Misspelt", "is_decimal", "is_spellable", "reader", "spelled")

_integer = re.compile(r"-?(?:0|[1-9][0-9]*)").fullmatch
_number = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?").fullmatch
_uuid = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}").fullmatch

_ARRAYS = (nodes.CollectionType, nodes.TupleType)
_OBJECTS = (
    nodes.DictType,
    nodes.StructType,
    nodes.TypedDictType,
    nodes.DataclassType,
    nodes.NamedTupleType,
)


class Misspelt(ValueError):
    """A text in a URL does not spell a value of its type."""


def is_decimal(text: str) -> bool:
    """Tell whether a text is a number as in JSON."""
    return _number(text) is not None


def is_spellable(node: nodes.Type) -> bool:
    """Tell whether one text can spell a value: whether it is no array, object or null."""
    if isinstance(node, nodes.Metadata):
        return is_spellable(node.type)
    if isinstance(node, nodes.UnionType):
        members = [one for one in node.types if not isinstance(one, nodes.NoneType)]
        return all(map(is_spellable, members))
    return not isinstance(node, (*_ARRAYS, *_OBJECTS, nodes.NoneType))


def spelled(node: nodes.Type, text: Any) -> Any:
    """Return the JSON value that a text, or a list of them, spells; raise Misspelt.

    The value need not fit the type. A list is what a repeated name in a query gives.
    """
    if isinstance(node, nodes.Metadata):
        return spelled(node.type, text)
    if isinstance(node, nodes.UnionType):
        return _spelled_in_union(node, text)
    if isinstance(node, _ARRAYS):
        return _spelled_items(node, text if isinstance(text, list) else [text])
    if not isinstance(text, str):
        return text
    spell = _SPELLINGS.get(type(node))
    return text if spell is None else spell(node, text)


def reader(node: nodes.Type) -> Callable[[str], Any] | None:
    """Return what makes a value of a text, if nothing else of the type is to be checked."""
    is_simple = node in (nodes.IntType(), nodes.FloatType(), nodes.BoolType())
    return partial(_SPELLINGS[type(node)], node) if is_simple else None


def _spelled_items(node: Any, texts: list[Any]) -> list[Any]:
    if isinstance(node, nodes.TupleType):
        known = list(zip(node.item_types, texts, strict=False))
        return [spelled(item, text) for item, text in known] + texts[len(known) :]
    return [spelled(node.item_type, text) for text in texts]


def _spelled_in_union(node: nodes.UnionType, text: Any) -> Any:
    wants_list = isinstance(text, list)
    # Any text is a string, so that comes last. No text is null.
    members = [one for one in node.types if not isinstance(one, nodes.NoneType)]
    members.sort(key=lambda one: (isinstance(one, _ARRAYS) != wants_list, _is_text(one)))
    for member in members:
        try:
            return spelled(member, text)
        except Misspelt:
            continue
    raise Misspelt


def _is_text(node: nodes.Type) -> bool:
    return isinstance(node, nodes.StrType)


def _spelled_int(_node: nodes.Type, text: str) -> int:
    if text.isdigit() and text.isascii() and text[0] != "0" and len(text) < 19:
        return int(text)  # most are such, and this is faster
    try:
        if _integer(text):
            return int(text)
    except ValueError:  # more digits than Python converts
        pass
    raise Misspelt


def _spelled_float(_node: nodes.Type, text: str) -> float:
    value = float(text) if _number(text) else math.inf
    if math.isinf(value):
        raise Misspelt
    return value


def _spelled_bool(_node: nodes.Type, text: str) -> bool:
    if text not in ("true", "false"):
        raise Misspelt
    return text == "true"


def _spelled_choice(node: Any, text: str) -> Any:
    values = node.values if isinstance(node, nodes.LiteralType) else [m.value for m in node.cls]
    for value in values:
        if value is not None and text == _spelling(value):
            return value
    # Another value may be in the enumeration by its own rules.
    return _spelled_int(node, text) if values and type(values[0]) is int else text


def _spelling(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _checked_by(matches: Callable[[str], Any]) -> Callable[[nodes.Type, str], str]:
    def spell(_node: nodes.Type, text: str) -> str:
        if not matches(text):
            raise Misspelt
        return text

    return spell


_SPELLINGS: dict[type, Callable[[Any, str], Any]] = {
    nodes.IntType: _spelled_int,
    nodes.FloatType: _spelled_float,
    nodes.BoolType: _spelled_bool,
    nodes.DecimalType: _checked_by(_number),
    nodes.UUIDType: _checked_by(_uuid),
    nodes.EnumType: _spelled_choice,
    nodes.LiteralType: _spelled_choice,
}
