"""Request bodies: their JSON, their default type, and whether they can be sent again."""

import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from multidict import MultiMapping

from networkpype.rest.method import RESTMethod

__all__ = (
    "KeptOpenPayload",
    "default_content_type",
    "is_replayable",
    "json_if_container",
    "position_of",
    "without_none",
)


def without_none(params: Any) -> Any:
    """Return query parameters without those whose value is None, None if nothing is left."""
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


def json_if_container(data: Any) -> Any:
    """Return a dict, a list or a tuple as JSON text, a dict without its None values."""
    if data is None:
        return None
    if isinstance(data, Mapping):
        return json.dumps({key: value for key, value in data.items() if value is not None})
    if isinstance(data, list | tuple):
        return json.dumps(data)
    return data


def default_content_type(method: RESTMethod, data: Any) -> str | None:
    """Return the type to declare when the caller declares none, None to leave it to aiohttp.

    A form and a file know their own: a multipart form is unreadable without its boundary.
    """
    knows_its_own = (aiohttp.FormData, aiohttp.payload.Payload, io.IOBase)
    if data is not None and isinstance(data, knows_its_own):
        return None
    if method is RESTMethod.POST or method is RESTMethod.PUT:
        return "application/json"
    return "application/x-www-form-urlencoded"


def is_replayable(data: Any) -> bool:
    """Tell whether a body can be sent more than once."""
    if data is None:
        return True
    if isinstance(data, io.IOBase):
        return data.seekable()
    return isinstance(data, str | bytes | bytearray | memoryview | Mapping | list | tuple)


def position_of(data: Any) -> int | None:
    """Return where a file stands that can be read again, None for everything else."""
    if data is None or not isinstance(data, io.IOBase) or not data.seekable():
        return None
    return data.tell()


class KeptOpenPayload(aiohttp.payload.Payload):
    """A file as a body; unlike aiohttp's own payload, it leaves the file open.

    Whoever opened the file closes it, and until then it can be sent again.
    """

    def __init__(self, file: Any) -> None:
        inner = aiohttp.get_payload(file, disposition=None)
        super().__init__(file, content_type=inner.content_type, filename=inner.filename)
        self._inner = inner

    @property
    def size(self) -> int | None:
        """The bytes that will be sent, None if that is not known."""
        return self._inner.size

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the content as text."""
        return self._inner.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send the whole."""
        await self._inner.write(writer)

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        """Send at most `content_length` bytes."""
        await self._inner.write_with_length(writer, content_length)

    async def as_bytes(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Return the whole."""
        return await self._inner.as_bytes(encoding, errors)

    async def close(self) -> None:
        """Leave the file open."""
