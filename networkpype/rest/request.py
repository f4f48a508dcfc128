"""What a REST call is to send."""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
from yarl import URL

from networkpype._urls import public_part
from networkpype.exceptions import InvalidURLError
from networkpype.rest._body import position_of
from networkpype.rest.method import RESTMethod

__all__ = ("RESTRequest",)


@dataclass
class RESTRequest:
    """One request, which pre-processors and the auth may change before it is sent.

    `data` takes everything that aiohttp takes: a dict or a list of pairs becomes a form; str,
    bytes, file objects, async iterators of bytes and `aiohttp.FormData` are sent as they are.
    `endpoint_url` is not read by this package; it is for pre-processors that make `url` of it.
    With `url_is_encoded`, `url` is sent byte by byte, and must be in encoded form.
    """

    method: RESTMethod
    url: str | None = None
    endpoint_url: str | None = None
    params: Mapping[str, Any] | None = field(default=None, repr=False)
    data: Any = field(default=None, repr=False)
    headers: Mapping[str, Any] | None = field(default=None, repr=False)
    is_auth_required: bool = False
    throttler_limit_id: str | None = None
    url_is_encoded: bool = field(default=False, kw_only=True)

    def __repr__(self) -> str:
        # Params, headers, body and the query of a URL hold keys and signatures.
        url = None if self.url is None else public_part(self.url)
        return (
            f"{type(self).__name__}(method={self.method!r}, url={url!r}, "
            f"endpoint_url={self.endpoint_url!r}, is_auth_required={self.is_auth_required!r}, "
            f"throttler_limit_id={self.throttler_limit_id!r})"
        )

    def describe(self) -> str:
        """Return method and URL, without anything that may be secret."""
        return f"{self.method} {public_part(self.url or '(no URL)')}"

    def copy(self) -> Self:
        """Return a request that can be changed without changing this one.

        Containers are copied in depth, headers always become a mutable mapping; the body of a
        file, an iterator or a form is shared.
        """
        twin = copy.copy(self)
        headers = self.headers
        # CIMultiDict and the like have their own copy(); a plain dict() would lose their ways.
        twin.headers = {} if headers is None else _mutable_copy(headers)
        if self.params is not None:
            twin.params = copy.deepcopy(self.params)
        if isinstance(self.data, dict | list | tuple | bytearray):
            twin.data = copy.deepcopy(self.data)
        return twin

    def wire_url(self, *, encoded: bool = False) -> URL:
        """Return the URL as it goes on the wire, `params` included.

        Raises ValueError without a `url`.
        """
        if self.url is None:
            raise ValueError("Request URL cannot be None")
        try:
            url = URL(self.url, encoded=encoded or self.url_is_encoded)
        except ValueError as error:
            raise InvalidURLError("Request URL is not a URL.") from error
        return url.extend_query(self.params) if self.params else url

    def wire_body(self) -> tuple[Any, Mapping[str, Any] | None]:
        """Return the body in a form that aiohttp takes, and the headers to send with it.

        A list that is no form is JSON.
        """
        if isinstance(self.data, (list, tuple)) and not _is_form(self.data):
            return json.dumps(self.data), self._headers_with("Content-Type", "application/json")
        return self.data, self.headers

    async def freeze(self) -> tuple[URL, bytes]:
        """Fix URL and body in the very form in which they will be sent, and return both.

        A signer calls this and signs what it returns. A file, an iterator or a form is read into
        memory, because its bytes must be known before the head of the request is sent.
        """
        url = self.wire_url().with_fragment(None)
        self.url, self.params, self.url_is_encoded = str(url), None, True
        body, self.headers = self.wire_body()
        if isinstance(body, str):
            body = body.encode()
        elif isinstance(body, bytearray | memoryview):
            body = bytes(body)
        elif body is not None and not isinstance(body, bytes):
            body = await self._read_body(body)
        self.data = body
        return url, body or b""

    async def _read_body(self, body: Any) -> bytes:
        if isinstance(body, dict | list | tuple):
            body = aiohttp.FormData(body)
        position = position_of(body)
        payload = body() if isinstance(body, aiohttp.FormData) else aiohttp.get_payload(body)
        self.headers = self._headers_with("Content-Type", payload.content_type)
        content = await payload.as_bytes()
        if position is not None:
            body.seek(position)  # for the next attempt
        return content

    def _headers_with(self, name: str, value: str) -> Mapping[str, Any]:
        headers = self.headers or {}
        return headers if has_header(headers, name) else {**headers, name: value}


def has_header(headers: Mapping[str, Any], name: str) -> bool:
    """Tell whether `headers` has `name`, in whatever case."""
    if not headers:
        return False
    lowered = name.lower()
    return any(key.lower() == lowered for key in headers)


def _is_form(fields: list[Any] | tuple[Any, ...]) -> bool:
    return bool(fields) and all(
        isinstance(field, list | tuple) and len(field) == 2 and isinstance(field[0], str)
        for field in fields
    )


def _mutable_copy(headers: Mapping[str, Any]) -> Mapping[str, Any]:
    method = getattr(headers, "copy", None)
    return dict(headers) if method is None else method()
