"""Find all that is wrong with a JSON value, in words of ours.

msgspec reports the first fault only. What it has rejected is walked through here once more.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, time
from itertools import chain
from typing import Any, NamedTuple

import msgspec
import msgspec.inspect as nodes

from aiorest_ws.contract.annotations import children
from aiorest_ws.contract.spelling import is_decimal

__all__ = (
    "MAX_FAULTS",
    "Fault",
    "Place",
    "faults",
    "has_only_decimals",
    "holds_decimals",
    "own_text",
    "wanted",
)

MAX_FAULTS = 20

# What a failure repeats of the names that the client has sent, and of an application's own text.
MAX_REPEATED = 100

# A class that checks its values itself is asked once more down to this depth, not below: each
# level checks all values below it again.
MAX_RECHECKED_DEPTH = 16


class Place(NamedTuple):
    """Where a value is: `data.items[0].price`. `repeated` counts what the client has named."""

    path: str
    repeated: int = 0
    depth: int = 0

    def field(self, name: str) -> "Place":
        """Return the place of a field of the type."""
        return Place(f"{self.path}.{name}", self.repeated, self.depth + 1)

    def item(self, index: int) -> "Place":
        """Return the place of an item of an array."""
        return Place(f"{self.path}[{index}]", self.repeated, self.depth + 1)

    def key(self, name: str) -> "Place":
        """Return the place of a key that the client has chosen; a long one is cut."""
        room = MAX_REPEATED - self.repeated
        shown = name if len(name) <= room else f"{name[:room]}..."
        return Place(f"{self.path}.{shown}", self.repeated + min(len(name), room), self.depth + 1)


class Fault(NamedTuple):
    """A value that does not fit."""

    path: str
    fault: str


def faults(node: Any, value: Any, place: Place) -> Iterator[Fault]:
    """Yield what is wrong with a value, in the order in which its type declares it."""
    if isinstance(node, nodes.Metadata):
        yield from faults(node.type, value, place)
    elif isinstance(node, nodes.UnionType):
        yield from _union_faults(node, value, place)
    elif not _takes(node, value):
        yield Fault(place.path, f"must be {wanted(node)}, not {_json_type(value)}")
    else:
        yield from _FAULTS.get(type(node), _text_faults)(node, value, place)


def wanted(node: Any) -> str:
    """Return what a value of a type must be: `an integer or null`."""
    if isinstance(node, nodes.Metadata):
        return wanted(node.type)
    if isinstance(node, nodes.UnionType):
        words = list(dict.fromkeys(wanted(one) for one in node.types))
        *others, last = sorted(words, key="null".__eq__)
        return f"{', '.join(others)} or {last}" if others else last
    if isinstance(node, (nodes.EnumType, nodes.LiteralType)):
        words = [repr(one) if isinstance(one, str) else _json_word(one) for one in _values(node)]
        return f"one of {', '.join(words)}" if len(words) > 1 else ", ".join(words)
    if getattr(node, "array_like", False):
        return "an array"
    return _KINDS[type(node)].wanted


def holds_decimals(node: Any, seen: tuple[int, ...] = ()) -> bool:
    """Tell whether a Decimal can be in a value."""
    if isinstance(node, nodes.DecimalType):
        return True
    if id(node) in seen:
        return False
    return any(holds_decimals(child, (*seen, id(node))) for child in children(node))


def has_only_decimals(node: Any, value: Any) -> bool:
    """Tell whether each string for a Decimal is a number as in JSON, unlike `1_000` and `NaN`."""
    if isinstance(value, (list, dict)) or isinstance(node, (nodes.UnionType, nodes.Metadata)):
        return not any(
            one.fault.startswith(_KINDS[nodes.DecimalType].fault)
            for one in faults(node, value, Place(""))
        )
    return not (isinstance(node, nodes.DecimalType) and isinstance(value, str)) or is_decimal(
        value
    )


# By what JSON shows


class _Kind(NamedTuple):
    wanted: str
    accepted: tuple[type, ...]

    @property
    def fault(self) -> str:
        return f"must be {self.wanted}"


_OBJECT = _Kind("an object", (dict,))
_ARRAY = _Kind("an array", (list,))

_KINDS: dict[type, _Kind] = {
    nodes.AnyType: _Kind("anything", (object,)),
    nodes.NoneType: _Kind("null", (type(None),)),
    nodes.BoolType: _Kind("true or false", (bool,)),
    nodes.IntType: _Kind("an integer", (int,)),
    nodes.FloatType: _Kind("a number", (int, float)),
    nodes.StrType: _Kind("a string", (str,)),
    nodes.BytesType: _Kind("bytes in base64", (str,)),
    nodes.ByteArrayType: _Kind("bytes in base64", (str,)),
    nodes.MemoryViewType: _Kind("bytes in base64", (str,)),
    nodes.DateTimeType: _Kind("a date and time (RFC 3339)", (str,)),
    nodes.DateType: _Kind("a date (RFC 3339)", (str,)),
    nodes.TimeType: _Kind("a time (RFC 3339)", (str,)),
    nodes.TimeDeltaType: _Kind("a duration (ISO 8601)", (str,)),
    nodes.UUIDType: _Kind("a UUID", (str,)),
    nodes.DecimalType: _Kind("a decimal number", (str, int, float)),
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


def _json_type(value: Any) -> str:
    return _JSON_TYPES.get(type(value), "what it is")


def _json_word(value: Any) -> str:
    return {None: "null", True: "true", False: "false"}.get(value, str(value))


def _values(node: Any) -> list[Any]:
    if isinstance(node, nodes.EnumType):
        return [member.value for member in node.cls]
    return list(node.values)


def _takes(node: Any, value: Any) -> bool:
    """Tell whether a value of this JSON type can be one of a type."""
    if isinstance(node, (nodes.EnumType, nodes.LiteralType)):
        return type(value) in map(type, _values(node))
    accepted = (list,) if getattr(node, "array_like", False) else _KINDS[type(node)].accepted
    return isinstance(value, accepted) and (
        bool in accepted or type(value) is not bool or accepted == (object,)
    )


# What is wrong with a value of the right JSON type


def _convert_faults(kind: Any, node: Any, value: Any, place: Place) -> Iterator[Fault]:
    try:
        msgspec.convert(value, kind, str_keys=True)
    except (msgspec.ValidationError, ValueError, OverflowError):
        yield Fault(place.path, f"must be {wanted(node)}")


def _number_faults(node: Any, value: Any, place: Place) -> Iterator[Fault]:
    kind = float if isinstance(node, nodes.FloatType) else int
    broken = list(_convert_faults(kind, node, value, place))
    if broken:
        yield from broken
        return
    factor = node.multiple_of
    for is_kept, fault in (
        (node.gt is None or value > node.gt, f"must be greater than {node.gt}"),
        (node.ge is None or value >= node.ge, f"must be at least {node.ge}"),
        (node.lt is None or value < node.lt, f"must be less than {node.lt}"),
        (node.le is None or value <= node.le, f"must be at most {node.le}"),
        (factor is None or not value % factor, f"must be a multiple of {factor}"),
    ):
        if not is_kept:
            yield Fault(place.path, fault)


def _text_faults(node: Any, value: Any, place: Place) -> Iterator[Fault]:
    kind = _TEXTS.get(type(node))
    if isinstance(node, nodes.DecimalType) and isinstance(value, str) and not is_decimal(value):
        yield Fault(place.path, f"must be {wanted(node)}")
    elif kind is not None:
        broken = list(_convert_faults(kind, node, value, place))
        yield from broken
        needs_zone = getattr(node, "tz", None)
        if broken or needs_zone is None:
            return
        if (msgspec.convert(value, kind).tzinfo is not None) is not needs_zone:
            yield Fault(place.path, f"must have {'a' if needs_zone else 'no'} time zone")


def _string_faults(node: Any, value: str, place: Place) -> Iterator[Fault]:
    yield from _size_faults(node, len(value), "character", place)
    if node.pattern is not None and re.search(node.pattern, value) is None:
        yield Fault(place.path, f"must match the pattern {node.pattern!r}")


def _bytes_faults(node: Any, value: str, place: Place) -> Iterator[Fault]:
    broken = list(_convert_faults(bytes, node, value, place))
    yield from broken
    if not broken:
        yield from _size_faults(node, len(msgspec.convert(value, bytes)), "byte", place)


def _size_faults(node: Any, size: int, unit: str, place: Place) -> Iterator[Fault]:
    least, most = node.min_length, node.max_length
    if least is not None and size < least:
        yield Fault(place.path, f"must have at least {_count(least, unit)}")
    if most is not None and size > most:
        yield Fault(place.path, f"must have at most {_count(most, unit)}")


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"


def _enum_faults(node: Any, value: Any, place: Place) -> Iterator[Fault]:
    return _convert_faults(node.cls, node, value, place)


def _literal_faults(node: Any, value: Any, place: Place) -> Iterator[Fault]:
    if not any(type(one) is type(value) and one == value for one in node.values):
        yield Fault(place.path, f"must be {wanted(node)}")


def _array_faults(node: Any, value: list[Any], place: Place) -> Iterator[Fault]:
    yield from _size_faults(node, len(value), "item", place)
    for index, item in enumerate(value):
        yield from faults(node.item_type, item, place.item(index))


def _tuple_faults(node: Any, value: list[Any], place: Place) -> Iterator[Fault]:
    if len(value) != len(node.item_types):
        yield Fault(place.path, f"must have {_count(len(node.item_types), 'item')}")
    for index, (item_type, item) in enumerate(zip(node.item_types, value, strict=False)):
        yield from faults(item_type, item, place.item(index))


def _dict_faults(node: Any, value: Mapping[str, Any], place: Place) -> Iterator[Fault]:
    yield from _size_faults(node, len(value), "item", place)
    for name, item in value.items():
        here = place.key(name)
        for fault in faults(node.key_type, _as_key(node.key_type, name), here):
            yield Fault(here.path, f"has a name that {fault.fault.partition(', not ')[0]}")
        yield from faults(node.value_type, item, here)


def _as_key(node: Any, name: str) -> Any:
    """Return the number that a name in an object spells, if one is wanted."""
    for kind, wanted_node in ((int, nodes.IntType), (float, nodes.FloatType)):
        members = node.types if isinstance(node, nodes.UnionType) else [node]
        if any(isinstance(one, wanted_node) for one in members):
            try:
                (key,) = msgspec.convert({name: None}, dict[kind, None], str_keys=True)  # type: ignore[valid-type]
            except msgspec.ValidationError:
                continue
            return key
    return name


def _object_faults(node: Any, value: Any, place: Place) -> Iterator[Fault]:
    """Yield the faults of the fields, in their order; then those of the object itself."""
    found = False
    for fault in chain(_tag_faults(node, value, place), _field_faults(node, value, place)):
        found = True
        yield fault
    if not found and place.depth <= MAX_RECHECKED_DEPTH:
        yield from _own_faults(node.cls, value, place)


def _field_faults(node: Any, value: Any, place: Place) -> Iterator[Fault]:
    if isinstance(value, list):
        yield from _array_like_faults(node, value, place)
        return
    for field in node.fields:
        if field.encode_name in value:
            yield from faults(field.type, value[field.encode_name], place.field(field.encode_name))
        elif field.required:
            yield Fault(place.field(field.encode_name).path, "is missing")
    if getattr(node, "forbid_unknown_fields", False):
        known = {field.encode_name for field in node.fields}.union([node.tag_field])
        for name in value:
            if name not in known:
                yield Fault(place.key(name).path, "is unknown")


def _array_like_faults(node: Any, value: list[Any], place: Place) -> Iterator[Fault]:
    items = value[1:] if getattr(node, "tag_field", None) else value
    needed = sum(field.required for field in node.fields)
    most = len(node.fields)
    if len(items) < needed:
        yield Fault(place.path, f"must have at least {_count(needed, 'item')}")
    is_closed = isinstance(node, nodes.NamedTupleType) or node.forbid_unknown_fields
    if is_closed and len(items) > most:
        yield Fault(place.path, f"must have at most {_count(most, 'item')}")
    start = len(value) - len(items)
    for index, (field, item) in enumerate(zip(node.fields, items, strict=False), start):
        yield from faults(field.type, item, place.item(index))


def _tag_faults(node: Any, value: Any, place: Place) -> Iterator[Fault]:
    if getattr(node, "tag_field", None) is None:
        return
    found, there = _tag(node, value, place)
    if found is None:
        if isinstance(value, list):
            yield Fault(there.path, "is missing")
    elif found != node.tag or type(found) is not type(node.tag):
        yield Fault(there.path, f"must be {node.tag!r}")


def _tag(node: Any, value: Any, place: Place) -> tuple[Any, Place]:
    if isinstance(value, list):
        return (value[0] if value else None), place.item(0)
    return value.get(node.tag_field), place.field(node.tag_field)


def _own_faults(kind: Any, value: Any, place: Place) -> Iterator[Fault]:
    """Yield what a class says about its values that it checks itself."""
    try:
        msgspec.convert(value, kind, str_keys=True)
    except msgspec.ValidationError as exc:
        yield Fault(place.path, own_text(exc.__cause__))


def own_text(cause: BaseException | None) -> str:
    text = "" if cause is None else str(cause)
    trace = None if cause is None else cause.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else trace.tb_frame.f_globals.get("__name__", "")
    if not text or where.partition(".")[0] in {"attr", "attrs"}:
        return "is not valid"
    return text if len(text) <= MAX_REPEATED else f"{text[:MAX_REPEATED]}..."


def _union_faults(node: Any, value: Any, place: Place) -> Iterator[Fault]:
    members = [one for one in node.types if _takes(_bare(one), value)]
    if not members:
        yield Fault(place.path, f"must be {wanted(node)}, not {_json_type(value)}")
        return
    tagged = [one for one in members if getattr(_bare(one), "tag_field", None)]
    if len(tagged) > 1:
        found, there = _tag(_bare(tagged[0]), value, place)
        members = [one for one in tagged if _bare(one).tag == found]
        if not members:
            tags = ", ".join(repr(_bare(one).tag) for one in tagged)
            fault = "is missing" if found is None else f"must be one of {tags}"
            yield Fault(there.path, fault)
            return
    found_in = [list(faults(one, value, place)) for one in members]
    if all(found_in):
        # Of numbers that are also integers, and of choices beside strings.
        yield from (
            found_in[0] if len(members) == 1 else [Fault(place.path, f"must be {wanted(node)}")]
        )


def _bare(node: Any) -> Any:
    return node.type if isinstance(node, nodes.Metadata) else node


def _no_faults(node: Any, value: Any, place: Place) -> Iterator[Fault]:
    return iter(())


_TEXTS: dict[type, Any] = {
    nodes.DateTimeType: datetime,
    nodes.TimeType: time,
}
_FAULTS: dict[type, Callable[[Any, Any, Place], Iterator[Fault]]] = {
    nodes.AnyType: _no_faults,
    nodes.NoneType: _no_faults,
    nodes.BoolType: _no_faults,
    nodes.IntType: _number_faults,
    nodes.FloatType: _number_faults,
    nodes.StrType: _string_faults,
    nodes.BytesType: _bytes_faults,
    nodes.ByteArrayType: _bytes_faults,
    nodes.MemoryViewType: _bytes_faults,
    nodes.EnumType: _enum_faults,
    nodes.LiteralType: _literal_faults,
    nodes.ListType: _array_faults,
    nodes.SetType: _array_faults,
    nodes.FrozenSetType: _array_faults,
    nodes.VarTupleType: _array_faults,
    nodes.TupleType: _tuple_faults,
    nodes.DictType: _dict_faults,
    nodes.StructType: _object_faults,
    nodes.TypedDictType: _object_faults,
    nodes.DataclassType: _object_faults,
    nodes.NamedTupleType: _object_faults,
}
