"""Convert the values that msgspec cannot write, without importing the libraries they are from."""

import collections
import dataclasses
import ipaddress
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from contextvars import ContextVar
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import msgspec

__all__ = (
    "Converter",
    "UnwritableValue",
    "convert",
    "encoder",
    "type_name",
    "with_converter",
)

# Returns what is written in place of a value; raises if it knows none.
Converter = Callable[[Any], Any]

# The program's own, for what is encoded in this context.
_converter: ContextVar[Converter | None] = ContextVar("_converter", default=None)

_raw_decoder = msgspec.json.Decoder(msgspec.Raw)
_plain_decoder = msgspec.json.Decoder()

_TEXTS = (
    collections.UserString,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
)

# numpy's units of time that are smaller than a microsecond.
_SMALL_UNITS = ("ns", "ps", "fs", "as")


class UnwritableValue(TypeError):
    """There is no JSON for a value; the text names its type, and nothing of the value."""

    def __init__(self, value: object) -> None:
        super().__init__(f"JSON cannot hold a value of the type {type_name(value)}")


def type_name(value: object) -> str:
    """Return the name of a value's type, with its module."""
    kind = type(value)
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def with_converter(converter: Converter | None, encode: Callable[..., Any], *values: Any) -> Any:
    """Return `encode(*values)`, in which `converter` converts what is not in the list below."""
    if converter is None:
        return encode(*values)
    token = _converter.set(converter)
    try:
        return encode(*values)
    finally:
        _converter.reset(token)


def convert(value: object) -> object:
    """Return what is written in place of a value; raise UnwritableValue."""
    try:
        return _convert(value)
    except UnwritableValue:
        raise
    # Code of the program or of a library.
    except Exception as exc:
        raise UnwritableValue(value) from exc


def _convert(value: Any) -> object:
    """Look for the value's type in the list of those that are written."""
    # msgspec passes these here only as keys.
    if value is None or isinstance(value, bool):
        return {None: "null", False: "false", True: "true"}[value]
    if isinstance(value, (tuple, list, dict, set, frozenset, msgspec.Raw)):
        raise UnwritableValue(value)
    for base, to_base in _BASES:
        if isinstance(value, base):
            return to_base(value)
    kind = type(value)
    if hasattr(kind, "model_dump_json") or hasattr(kind, "__fields_set__"):
        return _convert_pydantic(value)
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.generic, numpy.ndarray)):
        return _convert_numpy(value, numpy)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, _TEXTS):
        return str(value)
    container = _convert_container(value)
    return _convert_rest(value) if container is None else container


def _convert_container(value: Any) -> object:
    """Return a dict or a list; None for what is neither."""
    kind = type(value)
    # The second is what dict() takes too: sqlite3.Row.
    if isinstance(value, Mapping) or (hasattr(kind, "keys") and hasattr(kind, "__getitem__")):
        return dict(value)
    if isinstance(value, (Sequence, AbstractSet, ValuesView)):
        return list(value)
    return _fields(value)


def _convert_rest(value: object) -> object:
    """Ask the program."""
    converter = _converter.get()
    if converter is None:
        raise UnwritableValue(value)
    converted = converter(value)
    if converted is value:
        raise UnwritableValue(value)
    return converted


def _convert_pydantic(model: Any) -> object:
    """Return the JSON that a model of pydantic makes of itself."""
    # The second is of pydantic 1.
    dump = getattr(model, "model_dump_json", None) or model.json
    try:
        text = dump()
    except Exception:  # noqa: BLE001  pydantic does not know numpy, for example
        text = dump(fallback=_plain)
    try:
        return _raw_decoder.decode(text)
    except msgspec.MsgspecError:
        # A model may be configured to write NaN and Infinity, which are null here.
        return json.loads(text)


def _plain(value: object) -> object:
    """Return a value as those that every JSON library writes."""
    return _plain_decoder.decode(encoder.encode(value))


def _convert_numpy(value: Any, numpy: Any) -> object:
    kind = value.dtype.kind
    if isinstance(value, numpy.ndarray):
        if kind not in "mM":
            return value.tolist()
        return list(value) if value.ndim else value[()]
    if kind in "mM" and numpy.isnat(value):
        return None
    if kind == "M":
        return str(value)
    if kind == "m" and numpy.datetime_data(value.dtype)[0] in _SMALL_UNITS:
        value = value.astype("timedelta64[us]")
    item = value.item()
    if isinstance(item, numpy.floating):  # Python has no such float
        return float(value)
    if isinstance(item, numpy.generic) or (kind == "m" and not isinstance(item, timedelta)):
        raise UnwritableValue(value)
    return item


def _fields(value: Any) -> dict[str, Any] | None:
    """Return the fields of a value, if its class is made of fields."""
    kind: Any = type(value)
    if issubclass(kind, msgspec.Struct):
        names = dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True))
    elif dataclasses.is_dataclass(kind):
        names = {field.name: field.name for field in dataclasses.fields(kind)}
    # msgspec writes attrs classes so too, but not what inherits from them without a decorator.
    elif hasattr(kind, "__attrs_attrs__"):
        public = [one.name for one in kind.__attrs_attrs__ if not one.name.startswith("_")]
        names = dict(zip(public, public, strict=True))
    else:
        return None
    return {shown: getattr(value, name) for shown, name in names.items() if hasattr(value, name)}


def _clock(value: Any) -> time:
    parts = (value.hour, value.minute, value.second, value.microsecond)
    return time(*parts, value.tzinfo, fold=value.fold)


def _date(value: Any) -> date:
    return date(value.year, value.month, value.day)


# msgspec writes no subclasses of these.
_BASES: tuple[tuple[type, Callable[[Any], object]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (bytes, bytes),
    (bytearray, bytes),
    (Decimal, Decimal),
    (datetime, lambda value: datetime.combine(_date(value), _clock(value))),
    (date, _date),
    (time, _clock),
    (timedelta, lambda value: timedelta(value.days, value.seconds, value.microseconds)),
)

# Its output may not be valid JavaScript.
encoder = msgspec.json.Encoder(enc_hook=convert)
