"""What a REST call got."""

import json
from collections.abc import AsyncIterator, Callable, Generator
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
from multidict import CIMultiDictProxy

from networkpype._deadline import Deadline
from networkpype._urls import public_part
from networkpype.exceptions import (
    BodyDecodeError,
    HTTPStatusError,
    NetworkpypeError,
    map_client_error,
)
from networkpype.rest.method import RESTMethod

__all__ = ("Progress", "RESTResponse")

Progress = Callable[[int, int | None], None]
"""Called with the bytes that came so far, and those that will come in all if the server told."""


class RESTResponse:
    """A response whose head has arrived; the body is read on demand.

    Whoever gets one reads it to its end, calls `release()` or uses `async with`; otherwise its
    connection is not free for others. Reading ends at the deadline of the request, if it has one.
    """

    def __init__(self, aiohttp_response: aiohttp.ClientResponse) -> None:
        self._response = aiohttp_response
        self._deadline: Deadline | None = None
        self._body: bytes | None = None

    def __repr__(self) -> str:
        return f"<RESTResponse {self.method} {public_part(self.url)} {self.status}>"

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
        """The URL that answered, after redirects."""
        return str(self._response.url)

    @property
    def method(self) -> RESTMethod:
        """The method of the request that was answered."""
        return RESTMethod(self._response.method.upper())

    @property
    def status(self) -> int:
        """The status code."""
        return self._response.status

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """The headers of the response."""
        return self._response.headers

    def limit_reading(self, deadline: Deadline) -> None:
        """Let reading end at the deadline of the request."""
        self._deadline = deadline

    async def json(self, content_type: str | None = "application/json") -> Any:
        """Return the body as JSON, None if it is empty.

        Raises BodyDecodeError (a json.JSONDecodeError) if it is not JSON, ResponseError (an
        aiohttp.ContentTypeError) if it is declared as anything else than `content_type`; None
        takes every type.
        """
        body = await self.read() if self._body is None else self._body
        if content_type is None and body.isascii():
            # The short way: whatever the declared charset, ASCII is read the same.
            try:
                return msgspec.json.decode(body)
            except (msgspec.DecodeError, RecursionError):
                pass  # the long way raises the better error, and takes what only `json` takes
        try:
            return await self._response.json(content_type=content_type, loads=decode_json)
        except aiohttp.ContentTypeError as error:
            raise map_client_error(error) from error
        except json.JSONDecodeError as error:
            raise BodyDecodeError(error.msg, error.doc, error.pos, status=self.status) from error

    async def text(self) -> str:
        """Return the body as text."""
        await self.read()
        return await self._response.text()

    async def read(self) -> bytes:
        """Return the whole body; it is kept, so that it can be asked for again."""
        if self._body is None:
            if self._deadline is None:
                # As below, without what there is no need for: every request comes here.
                try:
                    self._body = await self._response.read()
                except (aiohttp.ClientError, OSError) as error:
                    raise map_client_error(error) from error
            else:
                async with self._reading():
                    self._body = await self._response.read()
        return self._body

    async def iter_bytes(
        self, chunk_size: int = 65536, progress: Progress | None = None
    ) -> AsyncIterator[bytes]:
        """Give the body in pieces of at most `chunk_size` bytes as they come, decompressed.

        The memory that this needs does not depend on the size of the body. `progress` is called
        after each piece has been taken in. Leave a loop early only inside `async with`, or call
        `release()` after it.
        """
        total = self._decoded_length()
        received = 0
        while chunk := await self._next_chunk(received, chunk_size):
            received += len(chunk)
            if progress is not None:
                progress(received, total)
            yield chunk

    def release(self) -> "_Done":
        """Give the connection back, or close it if a part of the body is still to come.

        May be awaited, and need not be.
        """
        self._response.release()
        return _DONE

    def raise_for_status(self) -> "_Done":
        """Raise HTTPStatusError for a status of 400 and up.

        Its `body` is what has been read: call `read()` before, to be sure of all of it. May be
        awaited, and need not be.
        """
        if self.status >= 400:
            raise self.status_error(url=public_part(self.url))
        return _DONE

    def status_error(self, *, url: str) -> HTTPStatusError:
        """Return the error that stands for this response; `url` is for its text."""
        try:
            body = (self._body or b"").decode(self._response.charset or "utf-8", "replace")
        except LookupError:  # a charset that Python does not know
            body = (self._body or b"").decode("utf-8", "replace")
        return HTTPStatusError(
            method=str(self._response.method),
            url=url,
            status=self.status,
            headers=self.headers,
            body=body,
        )

    async def _next_chunk(self, offset: int, size: int) -> bytes:
        if self._body is not None:
            return self._body[offset : offset + size]
        async with self._reading():
            return await self._response.content.read(size)

    def _decoded_length(self) -> int | None:
        if self._body is not None:
            return len(self._body)
        # Content-Length counts the bytes on the wire.
        if "Content-Encoding" in self._response.headers:
            return None
        return self._response.content_length

    def _reading(self) -> "_Reading":
        return _Reading(self._response, self._deadline)


class _Reading:
    """Read under the deadline, if any, with the errors of aiohttp replaced."""

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
            # Where in the body the connection stands is no longer known.
            self._response.close()
        if self._scope is not None:
            await self._scope.__aexit__(error_type, error, traceback)
        is_ours = isinstance(error, NetworkpypeError)
        if isinstance(error, aiohttp.ClientError | OSError) and not is_ours:
            raise map_client_error(error) from error


class _Done:
    """What a call returns that has done its work already, also if it is awaited."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


_DONE = _Done()


def decode_json(text: str) -> Any:
    """Return the value of a JSON text, by the rules of the `json` module, only faster."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        # NaN, Infinity and lone surrogates, which `json` takes; else it raises the better error.
        return json.loads(text)
