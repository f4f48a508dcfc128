"""REST requests."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
from multidict import MultiMapping
from yarl import URL

from networkpype._headers import has_header
from networkpype._urls import redact_url
from networkpype._values import encode_json, form_fields, query_pairs
from networkpype.exceptions import InvalidURLError
from networkpype.rest._body import seek_position
from networkpype.rest.method import RESTMethod

__all__ = ("RESTRequest",)


@dataclass
class RESTRequest:
    """A request, which pre-processors and the auth may change before it is sent.

    `data` accepts what aiohttp accepts: a dict or a list of pairs becomes a form; str, bytes,
    file objects, async iterators of bytes and `aiohttp.FormData` are sent as they are.
    `endpoint_url` is for pre-processors that build `url` from it; this package does not read it.
    With `url_is_encoded`, `url` is already percent-encoded and sent unchanged.
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
        # Params, headers, body and the query of a URL may contain keys and signatures.
        url = None if self.url is None else redact_url(self.url)
        return (
            f"{type(self).__name__}(method={self.method!r}, url={url!r}, "
            f"endpoint_url={self.endpoint_url!r}, is_auth_required={self.is_auth_required!r}, "
            f"throttler_limit_id={self.throttler_limit_id!r})"
        )

    def describe(self) -> str:
        """Return method and URL without secrets."""
        return f"{self.method} {redact_url(self.url or '(no URL)')}"

    def copy(self) -> Self:
        """Return a request that can be changed without changing this one.

        Copies containers deeply; headers become a mutable mapping. A file, an iterator or a form
        is shared.
        """
        duplicate = copy.copy(self)
        headers = self.headers
        # CIMultiDict and similar types have a copy(); dict() would lose their behaviour.
        duplicate.headers = {} if headers is None else _mutable_copy(headers)
        if self.params is not None:
            duplicate.params = copy.deepcopy(self.params)
        if isinstance(self.data, dict | list | tuple | bytearray):
            duplicate.data = copy.deepcopy(self.data)
        return duplicate

    def parsed_url(self, *, encoded: bool = False) -> URL:
        """Return the URL without `params`.

        Raises ValueError without a `url`.
        """
        if self.url is None:
            raise ValueError("Request URL cannot be None")
        try:
            return URL(self.url, encoded=encoded or self.url_is_encoded)
        except ValueError as error:
            raise InvalidURLError("Request URL is not a URL.") from error

    def wire_url(self, *, encoded: bool = False) -> URL:
        """Return the URL as it is sent, including `params`.

        Raises ValueError without a `url`.
        """
        url = self.parsed_url(encoded=encoded)
        return url.extend_query(query_pairs(self.params)) if self.params else url

    def wire_body(self) -> tuple[Any, Mapping[str, Any] | None]:
        """Return the body in a form that aiohttp accepts, and the headers to send with it.

        A list that is not a form is sent as JSON.
        """
        data = self.data
        if data is None:
            return None, self.headers
        if isinstance(data, Mapping | MultiMapping) or _is_form(data):
            return form_fields(data), self.headers
        if isinstance(data, list | tuple):
            return encode_json(data), self._headers_with("Content-Type", "application/json")
        return data, self.headers

    async def freeze(self) -> tuple[URL, bytes]:
        """Replace URL and body by the exact form in which they are sent, and return both.

        An auth signs what this returns. Reads a file, an iterator or a form into memory, because
        its bytes must be known before the head of the request is sent.
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
        if isinstance(body, list):
            body = aiohttp.FormData(body)
        position = seek_position(body)
        payload = body() if isinstance(body, aiohttp.FormData) else aiohttp.get_payload(body)
        self.headers = self._headers_with("Content-Type", payload.content_type)
        content = await payload.as_bytes()
        if position is not None:
            body.seek(position)  # for the next attempt
        return content

    def _headers_with(self, name: str, value: str) -> Mapping[str, Any]:
        headers = self.headers or {}
        return headers if has_header(headers, name) else {**headers, name: value}


def _is_form(fields: object) -> bool:
    return (
        isinstance(fields, list | tuple)
        and bool(fields)
        and all(
            isinstance(field, list | tuple) and len(field) == 2 and isinstance(field[0], str)
            for field in fields
        )
    )


def _mutable_copy(headers: Mapping[str, Any]) -> Mapping[str, Any]:
    method = getattr(headers, "copy", None)
    return dict(headers) if method is None else method()
