"""Request bodies: JSON, default content type, and whether they can be sent again."""

import io
from collections.abc import Iterable, Mapping
from typing import Any

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.hdrs import CONTENT_TYPE
from multidict import MultiMapping

from networkpype._headers import has_header
from networkpype._values import encode_json
from networkpype.rest.method import RESTMethod

__all__ = (
    "UnclosedFilePayload",
    "is_replayable",
    "json_if_container",
    "seek_position",
    "with_default_content_type",
    "without_none",
)


def without_none(params: Any) -> Any:
    """Return query parameters without None values, or None if nothing is left."""
    if not params:
        return None
    pairs: Iterable[tuple[Any, Any]]
    if isinstance(params, MultiMapping):
        kept = [(name, value) for name, value in params.items() if value is not None]
        return kept or None
    if isinstance(params, Mapping):
        return {name: value for name, value in params.items() if value is not None} or None
    if isinstance(params, list | tuple):
        pairs = params
        return [(name, value) for name, value in pairs if value is not None] or None
    return params


def json_if_container(data: object) -> object:
    """Return a dict (without its None values), list or tuple as JSON, anything else unchanged."""
    if data is None:
        return None
    if isinstance(data, Mapping):
        return encode_json({key: value for key, value in data.items() if value is not None})
    if isinstance(data, list | tuple):
        return encode_json(data)
    return data


def with_default_content_type(
    headers: Mapping[str, Any] | None, method: RESTMethod, data: object
) -> Mapping[str, Any]:
    """Return the headers, with a Content-Type if the caller has set none.

    aiohttp sets the type of a form or a file: a multipart form is unreadable without its boundary.
    """
    headers = {} if headers is None else headers
    if has_header(headers, CONTENT_TYPE):
        return headers
    if data is not None and isinstance(
        data, aiohttp.FormData | aiohttp.payload.Payload | io.IOBase
    ):
        return headers
    if method is RESTMethod.POST or method is RESTMethod.PUT:
        return {**headers, CONTENT_TYPE: "application/json"}
    return {**headers, CONTENT_TYPE: "application/x-www-form-urlencoded"}


def is_replayable(data: object) -> bool:
    """Return whether a body can be sent more than once."""
    if data is None:
        return True
    if isinstance(data, io.IOBase):
        return data.seekable()
    return isinstance(data, str | bytes | bytearray | memoryview | Mapping | list | tuple)


def seek_position(data: object) -> int | None:
    """Return the position of a seekable file, None for anything else."""
    if data is None or not isinstance(data, io.IOBase) or not data.seekable():
        return None
    return data.tell()


class UnclosedFilePayload(aiohttp.payload.Payload):
    """A file as a body, which aiohttp's own payload would close.

    The caller closes the file; until then it can be sent again.
    """

    def __init__(self, file: io.IOBase) -> None:
        inner = aiohttp.get_payload(file, disposition=None)
        super().__init__(file, content_type=inner.content_type, filename=inner.filename)
        self._inner = inner

    @property
    def size(self) -> int | None:
        """The number of bytes to send, None if unknown."""
        return self._inner.size

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the content as text."""
        return self._inner.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send all bytes."""
        await self._inner.write(writer)

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        """Send at most `content_length` bytes."""
        await self._inner.write_with_length(writer, content_length)

    async def as_bytes(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Return all bytes."""
        return await self._inner.as_bytes(encoding, errors)

    async def close(self) -> None:
        """Leave the file open."""
