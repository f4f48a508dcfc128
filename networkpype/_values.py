"""The text of a value in a query, a form or JSON: exact, or an error."""

import io
import json
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple, SupportsIndex
from uuid import UUID

import msgspec
from multidict import MultiMapping

__all__ = ("encode_json", "form_fields", "query_pairs", "value_text")

# Far above any float; fixed point takes a digit for each power of ten.
_MAX_EXPONENT = 1_000


class _Style(NamedTuple):
    """What JSON looks like, apart from its values."""

    quote: Callable[[str], str]
    comma: str
    colon: str


_quote_ascii = json.JSONEncoder().encode
_quote_unicode = json.JSONEncoder(ensure_ascii=False).encode


def _quote(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which only an escape can write
        return _quote_ascii(text)
    return _quote_unicode(text)


_STANDARD = _Style(_quote_ascii, ", ", ": ")
_COMPACT = _Style(_quote, ",", ":")


def query_pairs(params: Any) -> Any:
    """Return query parameters with values of type str; a query string unchanged.

    Raises what `value_text` raises.
    """
    if isinstance(params, str):
        return params
    pairs = params.items() if isinstance(params, Mapping | MultiMapping) else params
    return [(name, text) for name, value in pairs for text in _texts(name, value)]


def form_fields(fields: Any) -> list[tuple[str, Any]]:
    """Return the fields of a form with values of type str; files and bytes unchanged.

    Raises what `value_text` raises.
    """
    pairs = fields.items() if isinstance(fields, Mapping | MultiMapping) else fields
    return [
        (name, part)
        for name, value in pairs
        for part in ((value,) if _is_file(value) else _texts(name, value))
    ]


def value_text(value: object) -> str:
    """Return a scalar as text: numbers in fixed point, an Enum as its value, times in RFC 3339.

    Raises ValueError for NaN and infinity, TypeError for a type without one obvious form.
    """
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime | date | time):
        return str(msgspec.to_builtins(value))
    text = _number(value)
    if text is None:
        raise TypeError(
            f"a value of type {type(value).__name__} has to be written as a str first."
        )
    return text


def encode_json(value: Any, *, is_compact: bool = False) -> str:
    """Encode `value`, with numbers as `value_text` writes them.

    Takes what `json.dumps` and msgspec take. Compact JSON has no spaces and leaves characters
    outside of ASCII as they are. Raises ValueError for NaN, infinity and values that are nested
    too deeply, TypeError for types that JSON cannot carry.
    """
    pieces: list[str] = []
    try:
        _write(value, pieces.append, _COMPACT if is_compact else _STANDARD)
    except RecursionError:
        raise ValueError("The value is nested too deeply for JSON, or contains itself.") from None
    return "".join(pieces)


def _write(value: Any, write: Callable[[str], None], style: _Style) -> None:
    if isinstance(value, Enum):
        _write(value.value, write, style)
    elif isinstance(value, str):
        write(style.quote(str.__str__(value)))
    elif value is None:
        write("null")
    elif isinstance(value, bool):
        write("true" if value else "false")
    elif isinstance(value, Mapping):
        separator = ""
        write("{")
        for key, item in value.items():
            write(f"{separator}{style.quote(_key(key))}{style.colon}")
            _write(item, write, style)
            separator = style.comma
        write("}")
    elif isinstance(value, list | tuple):
        separator = ""
        write("[")
        for item in value:
            write(separator)
            _write(item, write, style)
            separator = style.comma
        write("]")
    else:
        number = _number(value)
        if number is None:
            _write(_plain(value), write, style)
        else:
            write(number)


def _plain(value: object) -> object:
    """Return a Struct, dataclass, set, UUID, time and so on as what JSON has."""
    try:
        return msgspec.to_builtins(value, builtin_types=(Decimal,))
    except (TypeError, ValueError):
        raise TypeError(f"JSON cannot carry a value of type {type(value).__name__}.") from None


def _key(key: object) -> str:
    if key is None or isinstance(key, bool):
        return json.dumps(key)
    return value_text(key)


def _number(value: object) -> str | None:
    """Return a number in fixed point, None for what is no number."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        text = float.__repr__(value)
        if not math.isfinite(value):
            raise ValueError(f"{text} cannot be sent: it is not a number.")
        return format(Decimal(text), "f") if "e" in text else text
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"{value} cannot be sent: it is not a number.")
        if abs(value.adjusted()) > _MAX_EXPONENT:
            raise ValueError(f"A Decimal with an exponent of {value.adjusted()} cannot be sent.")
        return format(value, "f")
    # An integer of numpy, say.
    return int.__repr__(operator.index(value)) if isinstance(value, SupportsIndex) else None


def _texts(name: object, value: object) -> Iterator[str]:
    """Give the text of a value, or of each value of a list."""
    for item in value if isinstance(value, list | tuple) else (value,):
        try:
            yield value_text(item)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name!r}: {error}") from None


def _is_file(value: object) -> bool:
    return isinstance(value, bytes | bytearray | memoryview | io.IOBase)
