"""The types of msgspec by what JSON shows of their values, and what a client is told of them."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import msgspec.inspect as nodes

__all__ = (
    "bare",
    "choices",
    "exact_types",
    "json_type",
    "members_for",
    "python_type",
    "tag_field",
    "tag_of",
    "takes",
    "wanted",
)


class _Kind(NamedTuple):
    """What a value must be, the JSON types that it can have, and what makes it of one."""

    wanted: str
    accepted: tuple[type, ...]
    python_type: Any = None


_BYTES = _Kind("bytes in base64", (str,), bytes)
_ARRAY = _Kind("an array", (list,))
_OBJECT = _Kind("an object", (dict,))

_KINDS: dict[type, _Kind] = {
    nodes.NoneType: _Kind("null", (type(None),)),
    nodes.BoolType: _Kind("true or false", (bool,)),
    nodes.IntType: _Kind("an integer", (int,)),
    nodes.FloatType: _Kind("a number", (int, float), float),
    nodes.StrType: _Kind("a string", (str,)),
    nodes.BytesType: _BYTES,
    nodes.ByteArrayType: _BYTES,
    nodes.MemoryViewType: _BYTES,
    nodes.DateTimeType: _Kind("a date and time (RFC 3339)", (str,), datetime),
    nodes.DateType: _Kind("a date (RFC 3339)", (str,), date),
    nodes.TimeType: _Kind("a time (RFC 3339)", (str,), time),
    nodes.TimeDeltaType: _Kind("a duration (ISO 8601)", (str,), timedelta),
    nodes.UUIDType: _Kind("a UUID", (str,), UUID),
    nodes.DecimalType: _Kind("a decimal number", (str, int, float), Decimal),
    nodes.ListType: _ARRAY,
    nodes.SetType: _ARRAY,
    nodes.FrozenSetType: _ARRAY,
    nodes.VarTupleType: _ARRAY,
    nodes.TupleType: _ARRAY,
    nodes.NamedTupleType: _ARRAY,
    nodes.DictType: _OBJECT,
    nodes.StructType: _OBJECT,
    nodes.TypedDictType: _OBJECT,
    nodes.DataclassType: _OBJECT,
}

_JSON_TYPES = {
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


# The order in which a client is told what it can choose.
_CHOICES = (str, int, bool, type(None))


_EXACT = (
    (nodes.IntType(), int),
    (nodes.FloatType(), float),
    (nodes.StrType(), str),
    (nodes.BoolType(), bool),
    (nodes.NoneType(), type(None)),
)


def json_type(value: Any) -> str:
    """Return what a JSON value is."""
    return _JSON_TYPES.get(type(value), f"of the type {type(value).__name__}")


def choices(node: Any) -> list[Any]:
    """Return the values of an enumeration or a Literal."""
    if isinstance(node, nodes.EnumType):
        return [member.value for member in node.cls]
    return sorted(node.values, key=lambda one: _CHOICES.index(type(one)))


def bare(node: Any) -> Any:
    """Return a type without what only describes it."""
    return node.type if isinstance(node, nodes.Metadata) else node


def _kind(node: Any) -> _Kind:
    return _ARRAY if getattr(node, "array_like", False) else _KINDS[type(node)]


def python_type(node: Any) -> Any:
    """Return the type that values of a simple type have; None if JSON has it too."""
    if isinstance(node, nodes.EnumType):
        return node.cls
    return _KINDS[type(node)].python_type if type(node) in _KINDS else None


def takes(node: Any, value: Any) -> bool:
    """Tell whether a JSON value has one of the JSON types of a type."""
    if isinstance(node, nodes.AnyType):
        return True
    if isinstance(node, (nodes.EnumType, nodes.LiteralType)):
        return type(value) in map(type, choices(node))
    return type(value) in _kind(node).accepted


def wanted(node: Any) -> str:
    """Return what a value of a type must be: `an integer or null`."""
    if isinstance(node, nodes.Metadata):
        return wanted(node.type)
    if isinstance(node, nodes.UnionType):
        words = list(dict.fromkeys(map(wanted, node.types)))
        *others, last = sorted(words, key="null".__eq__)
        return f"{', '.join(others)} or {last}" if others else last
    if isinstance(node, (nodes.EnumType, nodes.LiteralType)):
        values = [_word(value) for value in choices(node)]
        return f"one of {', '.join(values)}" if len(values) > 1 else "".join(values)
    return _kind(node).wanted


def _word(value: Any) -> str:
    if isinstance(value, str):
        return repr(value)
    return "null" if value is None else str(value).lower()


def exact_types(node: Any) -> tuple[type, ...]:
    """Return the types whose values need no check for a simple type; none for another one.

    That is so for text of a query too.
    """
    members = node.types if isinstance(node, nodes.UnionType) else (node,)
    found = tuple(kind for member in members for simple, kind in _EXACT if member == simple)
    is_mixed = str in found and not {str, type(None)}.issuperset(found)  # `5` would be an integer
    return () if is_mixed or len(found) < len(members) else found


def members_for(node: nodes.UnionType, value: Any) -> list[nodes.Type]:
    """Return the members of a union that a JSON value may be of, by its JSON type and its tag."""
    members = [one for one in node.types if takes(bare(one), value)]
    if len(members) == 1 or not any(map(tag_field, members)):
        return members
    return [one for one in members if bare(one).tag == tag_of(bare(one), value)]


def tag_field(node: Any) -> str | None:
    """Return the name of the field that tells the classes of a union apart."""
    return getattr(bare(node), "tag_field", None)


def tag_of(node: Any, value: Any) -> Any:
    """Return the tag in a JSON value, None if it is missing."""
    if isinstance(value, list):
        return value[0] if value else None
    return value.get(node.tag_field)
