"""Resolve the annotations of a function, and tell which of them can be checked."""

import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import (
    Annotated,
    Any,
    NamedTuple,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import msgspec
import msgspec.inspect as nodes

from aiorest_ws.contract.data import DATA
from aiorest_ws.contract.models import ModelChecker
from aiorest_ws.contract.spelling import is_spellable
from aiorest_ws.views import layers

__all__ = (
    "Checked",
    "Refused",
    "callers_names",
    "checked",
    "children",
    "every_part",
    "is_free",
    "resolved",
    "shown",
    "split_data",
)

_PACKAGE = __package__.partition(".")[0]

# Their constraints, which msgspec would ignore.
_FOREIGN_METADATA = frozenset({"annotated_types", "pydantic"})


class Refused(Exception):
    """An annotation cannot be checked; the text says why."""


class Checked(NamedTuple):
    """A type of which values are checked, by msgspec (then it has a node) or as models."""

    type: Any
    node: nodes.Type | None = None
    models: ModelChecker | None = None


def callers_names() -> Mapping[str, Any]:
    """Return the local names where the program calls this package."""
    frame = sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        frame = frame.f_back
    return dict(frame.f_locals)


def resolved(function: Callable[..., Any], annotation: Any, names: Mapping[str, Any]) -> Any:
    """Return an annotation of a function, with `names` as local ones; raise Refused."""

    def holder() -> None: ...

    holder.__annotations__ = {"it": annotation}
    *_, innermost = layers(function)
    module = getattr(innermost, "__globals__", {})
    try:
        return get_type_hints(holder, module, dict(names), include_extras=True)["it"]
    except NameError as exc:
        raise Refused(f"{exc.name!r} is not defined; define it above this line") from None
    except Exception as exc:
        raise Refused("it is no type") from exc


def is_free(annotation: Any) -> bool:
    """Tell whether an annotation allows any value."""
    return annotation is inspect.Parameter.empty or annotation is Any or annotation is object


def shown(annotation: Any) -> str:
    """Return an annotation as a program writes it, or nearly so."""
    try:
        return inspect.formatannotation(annotation)
    except AttributeError:  # it is Annotated, and no type
        return repr(get_args(annotation)[0])


def split_data(annotation: Any) -> tuple[Any, bool]:
    """Return an annotation without DATA, and whether it had it; raise Refused."""
    is_data = get_origin(annotation) is Annotated and DATA in annotation.__metadata__
    if is_data:
        others = tuple(one for one in annotation.__metadata__ if one is not DATA)
        base = get_args(annotation)[0]
        if isinstance(base, TypeVar):
            raise Refused("`Data` needs a type, as in `Data[NewOrder]`")
        annotation = Annotated[(base, *others)] if others else base
    marked = [one for one in _parts(annotation) if DATA in getattr(one, "__metadata__", ())]
    if marked or annotation is DATA:
        raise Refused("`Data[...]` must be the whole annotation")
    return annotation, is_data


def checked(annotation: Any) -> Checked:
    """Return what checks values of a type; raise Refused."""
    parts = list(_parts(annotation))
    models = [part for part in parts if hasattr(part, "__pydantic_validator__")]
    if models:
        return _checked_by_pydantic(annotation, parts)
    for part in _arguments(annotation):
        if isinstance(part, TypeVar):
            raise Refused(f"{part} is a type variable")
    for part in parts:
        for one in getattr(part, "__metadata__", ()):
            if type(one).__module__.partition(".")[0] in _FOREIGN_METADATA:
                raise Refused(f"{type(one).__name__} is not known here; use msgspec.Meta")
    try:
        node = nodes.type_info(annotation)
        msgspec.json.Decoder(annotation)
    except NameError as exc:
        raise Refused(f"{exc.name!r}, a name in it, is not defined") from None
    except Exception as exc:
        raise Refused(str(exc)) from exc
    for inner in every_part(node):
        _check_node(inner)
    return Checked(annotation, node)


def _check_node(node: Any) -> None:
    """Refuse what msgspec takes, and fails for with each value."""
    if isinstance(node, nodes.CustomType):
        raise Refused(f"JSON has no {getattr(node.cls, '__name__', node.cls)}")
    if isinstance(node, (nodes.RawType, nodes.ExtType)):
        raise Refused("msgspec leaves a part of it undecoded")
    if isinstance(node, nodes.DictType) and not is_spellable(node.key_type):
        raise Refused("names in an object of JSON are texts")
    if isinstance(node, (nodes.SetType, nodes.FrozenSetType)) and not _is_hashable(node.item_type):
        raise Refused("a set cannot hold its items")


def _is_hashable(node: Any, seen: tuple[int, ...] = ()) -> bool:
    if isinstance(node, (nodes.ListType, nodes.SetType, nodes.DictType, nodes.TypedDictType)):
        return False
    if isinstance(node, nodes.StructType):
        config = node.cls.__struct_config__
        if config.eq and not config.frozen:
            return False
    elif isinstance(node, nodes.DataclassType) and node.cls.__hash__ is None:
        return False
    here = (*seen, id(node))
    return all(_is_hashable(child, here) for child in children(node) if id(child) not in here)


def _checked_by_pydantic(annotation: Any, parts: list[Any]) -> Checked:
    for part in parts:
        if inspect.isclass(part) and issubclass(part, msgspec.Struct):
            raise Refused(f"it mixes models of pydantic with {part.__name__}, a Struct")
    try:
        return Checked(annotation, models=ModelChecker(annotation))
    except Exception as exc:
        raise Refused(f"pydantic does not take it ({type(exc).__name__})") from exc


def _arguments(annotation: Any) -> Iterator[Any]:
    """Yield a type and all that stand in its brackets."""
    yield annotation
    for one in get_args(annotation):
        if isinstance(one, list):
            continue
        yield from _arguments(one)


def _parts(annotation: Any, seen: list[Any] | None = None) -> Iterator[Any]:
    """Yield a type and all that its values are made of."""
    seen = [] if seen is None else seen
    for named in _arguments(annotation):
        one = getattr(named, "__value__", getattr(named, "__supertype__", named))
        if any(one is known for known in seen):
            continue
        seen.append(one)
        yield one
        if get_args(one):
            yield from _parts(one, seen)
        elif _has_fields(one):
            for hint in _hints(one).values():
                yield from _parts(hint, seen)


def _hints(kind: Any) -> dict[str, Any]:
    try:
        return get_type_hints(kind, include_extras=True)
    except Exception:  # noqa: BLE001  `checked` finds the same, and says what it is
        return {}


def _has_fields(kind: Any) -> bool:
    return inspect.isclass(kind) and (
        issubclass(kind, msgspec.Struct)
        or dataclasses.is_dataclass(kind)
        or is_typeddict(kind)
        or hasattr(kind, "__attrs_attrs__")
        or hasattr(kind, "_fields")
        or hasattr(kind, "__pydantic_validator__")
    )


def every_part(node: nodes.Type, seen: set[int] | None = None) -> Iterator[nodes.Type]:
    """Yield a node and all that it is made of, each once."""
    seen = set() if seen is None else seen
    if id(node) not in seen:
        seen.add(id(node))
        yield node
        for child in children(node):
            yield from every_part(child, seen)


def children(node: nodes.Type) -> list[nodes.Type]:
    """Return the nodes that a node is made of."""
    match node:
        case nodes.Metadata():
            return [node.type]
        case nodes.UnionType():
            return list(node.types)
        case nodes.TupleType():
            return list(node.item_types)
        case nodes.DictType():
            return [node.key_type, node.value_type]
        case nodes.CollectionType():
            return [node.item_type]
        case _:
            return [field.type for field in getattr(node, "fields", ())]
