"""A reply to bytes, in the format that a view offers and a client asks for."""

import json
import re
from io import StringIO
from typing import Any, ClassVar
from xml.sax.saxutils import XMLGenerator
from xml.sax.xmlreader import AttributesImpl

from aiorest_ws.codecs import encode_json, load_json
from aiorest_ws.conf import settings
from aiorest_ws.exceptions import SerializerError

__all__ = ("BaseRenderer", "JSONRenderer", "XMLRenderer")


class BaseRenderer:
    """Render replies; a subclass names its `format` and defines `render`."""

    format: ClassVar[str | None] = None
    charset: ClassVar[str | None] = "utf-8"

    def render(self, data: Any) -> bytes:
        """Return `data`, the whole reply, as bytes; raise SerializerError if that cannot be."""
        raise NotImplementedError


class _FromSettings:
    """A class attribute with the value of a setting, read when it is used."""

    def __init__(self, name: str, *, negated: bool = False) -> None:
        self._name = name
        self._negated = negated

    def __get__(self, instance: object, owner: type | None = None) -> bool:
        return bool(getattr(settings, self._name)) is not self._negated


class JSONRenderer(BaseRenderer):
    """Render JSON in UTF-8, without blanks when `compact`, in ASCII only when `ensure_ascii`.

    The settings COMPACT_JSON and UNICODE_JSON give the defaults; a subclass may set both.
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
        # What msgspec takes is more than the standard library does, hence the way through JSON.
        text = json.dumps(load_json(encoded), ensure_ascii=ensure_ascii, separators=separators)
        return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode()


# XML 1.0, productions 2 (Char) and 5 (Name).
_XML_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_XML_NAME = re.compile(r"[^\W\d][\w.\-]*")


class XMLRenderer(BaseRenderer):
    """Render XML: a dict is its keys as elements, a list is `list-item` elements, None is empty.

    SerializerError is raised for a key that is no XML name and for characters XML cannot hold.
    """

    format = "xml"
    root_name: ClassVar[str] = "root"
    item_name: ClassVar[str] = "list-item"

    def render(self, data: Any) -> bytes:
        """Return `data` as an XML document."""
        stream = StringIO()
        xml = XMLGenerator(stream, encoding=self.charset or "utf-8")
        try:
            xml.startDocument()
            self._write_element(xml, self.root_name, data)
            xml.endDocument()
            return stream.getvalue().encode(self.charset or "utf-8")
        # str() of a value is the user's code.
        except Exception as exc:
            raise SerializerError from exc

    def _write_element(self, xml: XMLGenerator, name: str, value: Any) -> None:
        if not isinstance(name, str) or not _XML_NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of an XML element")
        xml.startElement(name, AttributesImpl({}))
        if isinstance(value, dict):
            for key, member in value.items():
                self._write_element(xml, key, member)
        elif isinstance(value, (list, tuple)):
            for item in value:
                self._write_element(xml, self.item_name, item)
        elif value is not None:
            text = str(value)
            if _XML_FORBIDDEN.search(text):
                raise ValueError("the text holds a character that XML cannot")
            xml.characters(text)
        xml.endElement(name)
