"""Find all that is wrong with a JSON value, in words of ours.

msgspec reports the first fault only. What it has rejected is walked through here once more.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

import msgspec
import msgspec.inspect as nodes

from aiorest_ws.contract.kinds import (
    bare,
    json_type,
    members_for,
    python_type,
    tag_field,
    tag_of,
    takes,
    wanted,
)
from aiorest_ws.contract.spelling import is_decimal

__all__ = ("MAX_FAULTS", "Fault", "Place", "TooLong", "faults", "own_text")

MAX_FAULTS = 20

# What a failure repeats of the names that the client has sent, and of an application's own text.
MAX_REPEATED = 100

# To look for faults in all of a large message would stop the server for a second.
MAX_VISITED = 30_000

# A class that checks its values itself is asked once more down to this depth, not below: each
# level checks all values below it again.
MAX_RECHECKED_DEPTH = 16


class TooLong(Exception):
    """A value has been looked at for as long as it may take."""


class Place(NamedTuple):
    """Where a value is: `data.items[0].price`.

    `repeated` counts what the client has named. `left` is how many values may still be looked at.
    """

    path: str
    repeated: int = 0
    depth: int = 0
    left: Iterator[int] = iter(())

    @classmethod
    def first(cls, path: str) -> "Place":
        """Return the place of a parameter."""
        return cls(path, left=iter(range(MAX_VISITED)))

    def field(self, name: str) -> "Place":
        """Return the place of a field of the type."""
        return Place(f"{self.path}.{name}", self.repeated, self.depth + 1, self.left)

    def item(self, index: int) -> "Place":
        """Return the place of an item of an array."""
        return Place(f"{self.path}[{index}]", self.repeated, self.depth + 1, self.left)

    def key(self, name: str) -> "Place":
        """Return the place of a key that the client has chosen; a long one is cut."""
        room = MAX_REPEATED - self.repeated
        shown = name if len(name) <= room else f"{name[:room]}..."
        repeated = self.repeated + min(len(name), room)
        return Place(f"{self.path}.{shown}", repeated, self.depth + 1, self.left)


class Fault(NamedTuple):
    """A value that does not fit."""

    path: str
    fault: str


def faults(node: Any, value: Any, place: Place) -> Iterator[Fault]:
    """Yield what is wrong with a value, in the order in which its type declares it.

    Raises TooLong.
    """
    if next(place.left, None) is None:
        raise TooLong
    if isinstance(node, nodes.Metadata):
        yield from faults(node.type, value, place)
    elif isinstance(node, nodes.UnionType):
        yield from _union_faults(node, value, place)
    elif not takes(node, value):
        yield Fault(place.path, f"must be {wanted(node)}, not {json_type(value)}")
    else:
        yield from _FAULTS.get(type(node), _simple_faults)(node, value, place)


# What is wrong with a value of the right JSON type


def _simple_faults(node: Any, value: Any, place: Place) -> Iterator[Fault]:
    kind = python_type(node)
    if kind is None:
        return
    try:
        if isinstance(node, nodes.DecimalType) and not _is_decimal_if_text(value):
            raise ValueError
        made = msgspec.convert(value, kind)
    except ValueError:
        yield Fault(place.path, f"must be {wanted(node)}")
        return
    needs_zone = getattr(node, "tz", None)
    if needs_zone is not None and (made.tzinfo is not None) is not needs_zone:
        yield Fault(place.path, f"must have {'a' if needs_zone else 'no'} time zone")


def _is_decimal_if_text(value: Any) -> bool:
    return not isinstance(value, str) or is_decimal(value)


def _number_faults(node: Any, value: Any, place: Place) -> Iterator[Fault]:
    broken = list(_simple_faults(node, value, place))
    yield from broken
    if broken:
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


def _string_faults(node: Any, value: str, place: Place) -> Iterator[Fault]:
    yield from _size_faults(node, len(value), "character", place)
    if node.pattern is not None and re.search(node.pattern, value) is None:
        yield Fault(place.path, f"must match the pattern {node.pattern!r}")


def _bytes_faults(node: Any, value: str, place: Place) -> Iterator[Fault]:
    broken = list(_simple_faults(node, value, place))
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
    there = place.item(0) if isinstance(value, list) else place.field(node.tag_field)
    return tag_of(node, value), there


def _own_faults(kind: Any, value: Any, place: Place) -> Iterator[Fault]:
    """Yield what a class says about its values that it checks itself."""
    try:
        msgspec.convert(value, kind, str_keys=True)
    except msgspec.ValidationError as exc:
        yield Fault(place.path, own_text(exc.__cause__))


def own_text(cause: BaseException | None) -> str:
    """Return what a class says of a value that it refuses."""
    text = "" if cause is None else str(cause)
    trace = None if cause is None else cause.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else trace.tb_frame.f_globals.get("__name__", "")
    if not text or where.partition(".")[0] in {"attr", "attrs"}:
        return "is not valid"
    return text if len(text) <= MAX_REPEATED else f"{text[:MAX_REPEATED]}..."


def _union_faults(node: Any, value: Any, place: Place) -> Iterator[Fault]:
    members = members_for(node, value)
    if not members:
        tagged = [bare(one) for one in node.types if tag_field(one)]
        if not any(takes(one, value) for one in tagged):
            yield Fault(place.path, f"must be {wanted(node)}, not {json_type(value)}")
            return
        found, there = _tag(tagged[0], value, place)
        tags = ", ".join(repr(one.tag) for one in tagged)
        yield Fault(there.path, "is missing" if found is None else f"must be one of {tags}")
        return
    found_in = [list(faults(one, value, place)) for one in members]
    if len(members) == 1:
        yield from found_in[0]
    elif all(found_in):  # an integer that is a number too, a choice beside strings
        yield Fault(place.path, f"must be {wanted(node)}")


_FAULTS: dict[type, Callable[[Any, Any, Place], Iterator[Fault]]] = {
    nodes.IntType: _number_faults,
    nodes.FloatType: _number_faults,
    nodes.StrType: _string_faults,
    nodes.BytesType: _bytes_faults,
    nodes.ByteArrayType: _bytes_faults,
    nodes.MemoryViewType: _bytes_faults,
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
