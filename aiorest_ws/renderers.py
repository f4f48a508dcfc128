"""Renderers: convert a reply to bytes, in a format that the client chooses."""

import json
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, ClassVar
from uuid import UUID
from xml.sax.saxutils import escape

from msgspec import Raw

from aiorest_ws.codecs import encode_json, load_json
from aiorest_ws.conf import settings
from aiorest_ws.exceptions import SerializerError
from aiorest_ws.values import UnwritableValue, convert

__all__ = ("BaseRenderer", "JSONRenderer", "XMLRenderer")


class BaseRenderer:
    """The base class of renderers; a subclass sets `format` and defines `render`."""

    format: ClassVar[str | None] = None
    charset: ClassVar[str | None] = "utf-8"

    def render(self, data: Any) -> bytes:
        """Return `data`, the whole reply, as bytes; raise SerializerError if it cannot be."""
        raise NotImplementedError


class _FromSettings:
    """A class attribute with the value of a setting, read on each access."""

    def __init__(self, name: str, *, negated: bool = False) -> None:
        self._name = name
        self._negated = negated

    def __get__(self, instance: object, owner: type | None = None) -> bool:
        return bool(getattr(settings, self._name)) is not self._negated


class JSONRenderer(BaseRenderer):
    """Render JSON in UTF-8: without spaces if `compact`, in ASCII only if `ensure_ascii`.

    The settings COMPACT_JSON and UNICODE_JSON are the defaults; a subclass can set both.
    """

    format = "json"
    charset = None
    compact: bool = _FromSettings("COMPACT_JSON")  # type: ignore[assignment]
    ensure_ascii: bool = _FromSettings("UNICODE_JSON", negated=True)  # type: ignore[assignment]

    def render(self, data: Any) -> bytes:
        """Return `data` as JSON; NaN and infinity become null."""
        encoded = encode_json(data)
        compact, ensure_ascii = self.compact, self.ensure_ascii
        if compact and not ensure_ascii:
            return encoded
        separators = (",", ":") if compact else (", ", ": ")
        # msgspec accepts more types than the standard library, so encode, decode and encode again.
        text = json.dumps(load_json(encoded), ensure_ascii=ensure_ascii, separators=separators)
        return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode()


# XML 1.0 (fifth edition), productions 2 (Char), 4 and 4a (names, here without the colon).
_XML_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_XML_NAME_START = (
    "A-Z_a-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02ff\u0370-\u037d\u037f-\u1fff\u200c\u200d"
    "\u2070-\u218f\u2c00-\u2fef\u3001-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd\U00010000-\U000effff"
)
_XML_NAME = re.compile(
    f"[{_XML_NAME_START}][{_XML_NAME_START}\\-.0-9\u00b7\u0300-\u036f\u203f\u2040]*"
)


class XMLRenderer(BaseRenderer):
    """Render XML: keys of a dict and items of a list become elements, None an empty element.

    What JSON writes as an object or an array is written as one here, anything else as its text.
    Raises SerializerError for a key that is not an XML name, and for characters that XML cannot
    contain.
    """

    format = "xml"
    root_name: ClassVar[str] = "root"
    item_name: ClassVar[str] = "list-item"

    def render(self, data: Any) -> bytes:
        """Return `data` as an XML document."""
        charset = self.charset or "utf-8"
        parts = [f'<?xml version="1.0" encoding="{charset}"?>\n']
        try:
            self._write_element(parts, self.root_name, data)
            return "".join(parts).encode(charset)
        # str() of a value may run code of the program.
        except Exception as exc:
            reason = str(exc) if isinstance(exc, UnwritableValue) else None
            raise SerializerError(reason=reason) from exc

    def _write_element(self, parts: list[str], name: Any, value: Any) -> None:
        if not isinstance(name, str) or not _XML_NAME.fullmatch(name):
            raise ValueError("a key cannot be the name of an XML element")
        parts.append(f"<{name}>")
        value = _as_data(value)
        if isinstance(value, Mapping):
            for key, member in value.items():
                self._write_element(parts, key, member)
        elif isinstance(value, (list, tuple, AbstractSet)):
            for item in value:
                self._write_element(parts, self.item_name, item)
        elif value is not None:
            text = str(value)
            if _XML_FORBIDDEN.search(text):
                raise ValueError("the text has a character that XML cannot contain")
            # An XML parser reads a bare carriage return as a line feed (section 2.11).
            parts.append(escape(text, {"\r": "&#13;"}))
        parts.append(f"</{name}>")


# Their text is not that of JSON, so that it is still 1.1's.
_TEXTS = (str, int, float, bytes, bytearray, Decimal, date, time, timedelta, UUID, Enum)


def _as_data(value: Any) -> Any:
    """Return what JSON writes in place of a value, if that is no text; anything has a text."""
    if value is None or isinstance(value, (Mapping, list, tuple, AbstractSet, *_TEXTS)):
        return value
    try:
        converted = convert(value)
    except UnwritableValue as exc:
        if exc.__cause__ is not None:
            raise
        return str(value)
    return load_json(bytes(converted)) if isinstance(converted, Raw) else _as_data(converted)
