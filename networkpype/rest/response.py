"""REST responses."""

import codecs
import json
from collections.abc import AsyncIterator, Callable, Generator
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import msgspec
from multidict import CIMultiDictProxy

from networkpype._deadline import Deadline
from networkpype._urls import redact_url
from networkpype.exceptions import (
    BodyDecodeError,
    BodyTooLargeError,
    HTTPStatusError,
    NetworkpypeError,
    map_client_error,
)
from networkpype.rest.method import RESTMethod

__all__ = ("DEFAULT_MAX_BODY_BYTES", "Progress", "RESTResponse")

DEFAULT_MAX_BODY_BYTES: Final = 64 * 2**20

# How much of a body that is too large is kept.
_MAX_BODY_START: Final = 4096

Progress = Callable[[int, int | None], None]
"""Called with the number of bytes received, and the total if the server has announced it."""


class RESTResponse:
    """A response whose head has arrived; its body is read on demand.

    Read the body to its end, call `release()` or use `async with`; otherwise the connection is not
    free for other requests. Reading ends at the deadline of the request, if it has one.
    """

    def __init__(
        self,
        aiohttp_response: aiohttp.ClientResponse,
        *,
        max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
    ) -> None:
        self._response = aiohttp_response
        self._max_body_bytes = max_body_bytes
        self._deadline: Deadline | None = None
        self._body: bytes | None = None

    def __repr__(self) -> str:
        return f"<RESTResponse {self.method} {redact_url(self.url)} {self.status}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    @property
    def url(self) -> str:
        """The URL of the response, after redirects."""
        return str(self._response.url)

    @property
    def method(self) -> RESTMethod:
        """The method of the request."""
        return RESTMethod(self._response.method)

    @property
    def status(self) -> int:
        """The status code."""
        return self._response.status

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """The headers of the response."""
        return self._response.headers

    def set_deadline(self, deadline: Deadline) -> None:
        """End reading at the deadline of the request."""
        self._deadline = deadline

    async def json(self, content_type: str | None = "application/json") -> Any:
        """Return the body as JSON, None if it is empty.

        Raises BodyDecodeError (a json.JSONDecodeError) if it is not JSON, ResponseError (an
        aiohttp.ContentTypeError) if its declared type is not `content_type`; None accepts any
        type.
        """
        body = await self.read() if self._body is None else self._body
        if content_type is None and body.isascii():
            # The fast path: ASCII decodes the same in every declared charset.
            try:
                return msgspec.json.decode(body)
            except (msgspec.DecodeError, RecursionError):
                pass  # the slow path accepts more than msgspec, and raises the better error
        text = ""

        def decode(decoded: str) -> Any:
            nonlocal text
            text = decoded
            return decode_json(decoded)

        try:
            # Checks the type, too.
            return await self._response.json(
                content_type=content_type, encoding=self._encoding(body), loads=decode
            )
        except aiohttp.ContentTypeError as error:
            raise map_client_error(error) from error
        except json.JSONDecodeError as error:
            raise self._decode_error(error.msg, error.doc, error.pos) from error
        except UnicodeError as error:
            raise self._not_text_error(body, error) from error
        except RecursionError as error:
            raise self._decode_error("The body nests too deeply", text) from error
        except ValueError as error:
            # Python refuses to read an integer of thousands of digits.
            raise self._decode_error("The body contains a number out of range", text) from error

    async def text(self) -> str:
        """Return the body as text, without a byte-order mark.

        Raises BodyDecodeError if it is not text in its charset.
        """
        body = await self.read()
        try:
            return body.decode(self._encoding(body))
        except UnicodeError as error:
            raise self._not_text_error(body, error) from error

    async def read(self) -> bytes:
        """Return the whole body, and keep it for further calls.

        Raises BodyTooLargeError if it exceeds `max_body_bytes`, and closes the connection.
        """
        if self._body is None:
            self._bound_body()
            if self._deadline is None:
                # The same as below with less overhead; most requests take this path.
                try:
                    self._body = await self._response.read()
                except (aiohttp.ClientError, OSError) as error:
                    raise map_client_error(error) from error
            else:
                async with self._reading():
                    self._body = await self._response.read()
        return self._body

    async def read_error(self) -> bytes:
        """Return the body of an error; if it exceeds `max_body_bytes`, its beginning."""
        try:
            return await self.read()
        except BodyTooLargeError as error:
            self._body = error.body_start
            return self._body

    async def iter_bytes(
        self, chunk_size: int = 65536, progress: Progress | None = None
    ) -> AsyncIterator[bytes]:
        """Yield the decompressed body in chunks of at most `chunk_size` bytes as they arrive.

        The memory in use does not depend on the size of the body. `progress` is called after each
        chunk. To leave the loop early, use `async with` or call `release()` afterwards.
        """
        total = self._decoded_length()
        received = 0
        while chunk := await self._next_chunk(received, chunk_size):
            received += len(chunk)
            if progress is not None:
                progress(received, total)
            yield chunk

    def release(self) -> "_Completed":
        """Release the connection; close it if part of the body has not arrived.

        Awaiting the result is optional.
        """
        self._response.release()
        return _COMPLETED

    def raise_for_status(self) -> "_Completed":
        """Raise HTTPStatusError for a status of 400 and up.

        Its `body` is what has been read so far: call `read()` first to have all of it. Awaiting
        the result is optional.
        """
        if self.status >= 400:
            raise self.status_error(url=redact_url(self.url))
        return _COMPLETED

    def status_error(self, *, url: str) -> HTTPStatusError:
        """Return an HTTPStatusError for this response; `url` is used in its text."""
        body = (self._body or b"").decode(self._encoding(self._body), "replace")
        return HTTPStatusError(
            method=str(self._response.method),
            url=url,
            status=self.status,
            headers=self.headers,
            body=body,
        )

    def _bound_body(self) -> None:
        """Make the read of the whole body end at `max_body_bytes`."""
        response = self._response
        length = response.content_length
        is_short = length is not None and length <= self._max_body_bytes
        if is_short and "Content-Encoding" not in response.headers:
            return  # most responses
        url = redact_url(self.url)
        # `aiohttp.ClientResponse.read()` reads from `content`.
        bounded: Any = _BoundedReader(response.content, self._max_body_bytes, self.status, url)
        response.content = bounded

    def _encoding(self, body: bytes | None) -> str:
        """Return the charset of `body`; UTF-8 if none that Python knows is declared."""
        if body is None or body.startswith(codecs.BOM_UTF8):
            return "utf-8-sig"
        try:
            charset = self._response.get_encoding()
            "a".encode(charset)
        except (LookupError, UnicodeError):  # not a charset, but another codec of Python
            return "utf-8"
        except RuntimeError:  # the body was too large, and none is declared
            return "utf-8"
        return charset

    def _not_text_error(self, body: bytes, error: UnicodeError) -> BodyDecodeError:
        text = body.decode("utf-8", "replace")
        start = error.start if isinstance(error, UnicodeDecodeError) else 0
        position = len(body[:start].decode("utf-8", "replace"))
        return self._decode_error("The body is not text in its charset", text, position)

    def _decode_error(self, message: str, text: str, position: int = 0) -> BodyDecodeError:
        url = redact_url(self.url)
        return BodyDecodeError(message, text, position, status=self.status, url=url)

    async def _next_chunk(self, offset: int, size: int) -> bytes:
        if self._body is not None:
            return self._body[offset : offset + size]
        async with self._reading():
            return await self._response.content.read(size)

    def _decoded_length(self) -> int | None:
        if self._body is not None:
            return len(self._body)
        # Content-Length is the compressed length.
        if "Content-Encoding" in self._response.headers:
            return None
        return self._response.content_length

    def _reading(self) -> "_Reading":
        return _Reading(self._response, self._deadline)


class _BoundedReader:
    """Read all of a stream, up to a bound."""

    def __init__(self, stream: aiohttp.StreamReader, bound: int, status: int, url: str) -> None:
        self._stream = stream
        self._bound = bound
        self._status = status
        self._url = url

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def read(self, size: int = -1) -> bytes:
        if size >= 0:
            return await self._stream.read(size)
        chunks: list[bytes] = []
        received = 0
        while chunk := await self._stream.readany():
            chunks.append(chunk)
            received += len(chunk)
            if received > self._bound:
                raise BodyTooLargeError(
                    max_body_bytes=self._bound,
                    status=self._status,
                    url=self._url,
                    body_start=b"".join(chunks)[: min(self._bound, _MAX_BODY_START)],
                )
        return b"".join(chunks)


class _Reading:
    """Read under the deadline, if any, and replace errors of aiohttp."""

    __slots__ = ("_response", "_scope")

    def __init__(self, response: aiohttp.ClientResponse, deadline: Deadline | None) -> None:
        self._response = response
        self._scope = None if deadline is None else deadline.scope()

    async def __aenter__(self) -> None:
        if self._scope is not None:
            await self._scope.__aenter__()

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            # The position in the body is unknown now, so the connection cannot be reused.
            self._response.close()
        if self._scope is not None:
            await self._scope.__aexit__(error_type, error, traceback)
        is_mapped = isinstance(error, NetworkpypeError)
        if isinstance(error, aiohttp.ClientError | OSError) and not is_mapped:
            raise map_client_error(error) from error


class _Completed:
    """An awaitable for work that is already done."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


_COMPLETED = _Completed()


def decode_json(text: str) -> Any:
    """Decode JSON by the rules of the `json` module, but faster."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        # `json` also accepts NaN, Infinity and lone surrogates, and raises the better error.
        return json.loads(text)
