"""Requests on an aiohttp session, without limits, processors or auth."""

import io
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

from networkpype._deadline import Deadline
from networkpype._session import Exchange, SessionSource, check_keywords, current_exchange
from networkpype.exceptions import (
    ClosedError,
    ConnectionFailedError,
    RedirectError,
    StaleConnectionError,
    map_client_error,
)
from networkpype.rest._body import KeptOpenPayload
from networkpype.rest.request import RESTRequest
from networkpype.rest.response import RESTResponse

__all__ = ("RESTConnection",)

# Above this, aiohttp warns that a bytes body written in one piece stalls the loop.
_ONE_PIECE_BYTES = 2**20

_SAID_BY_REQUEST = frozenset({"method", "str_or_url", "params", "data", "json", "headers"})

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class RESTConnection:
    """Send requests on a session: one that the caller keeps open, or a factory's."""

    def __init__(self, aiohttp_client_session: aiohttp.ClientSession | SessionSource) -> None:
        self._source = aiohttp_client_session

    async def call(
        self, request: RESTRequest, encoded: bool = False, **aiohttp_kwargs: Any
    ) -> RESTResponse:
        """Send `request`, return the response as soon as its head is there.

        With `encoded`, the URL is sent as it is. Further arguments are those of
        `aiohttp.ClientSession.request`. Raises ValueError without a `url`, TransportError and
        its kin when there is no response, ClosedError when the session is closed.
        """
        check_request_keywords(aiohttp_kwargs)
        return await self._request(self._session(), request, encoded, aiohttp_kwargs)

    async def exchange(
        self,
        request: RESTRequest,
        *,
        encoded: bool,
        deadline: Deadline,
        on_sent: Callable[[], None],
        aiohttp_kwargs: Mapping[str, Any],
    ) -> RESTResponse:
        """Do as `call()` does, and tell more; for managers.

        `on_sent` is called before the first byte leaves; on a session that is not a factory's,
        before the connection is looked for. A request with `is_auth_required` is not redirected
        to another origin, on such a session to nowhere. Raises StaleConnectionError where aiohttp
        would send the request a second time.
        """
        session = self._session()
        keywords = dict(aiohttp_kwargs)
        if deadline.loop_time is not None:
            # The deadline is ours; the session's own total of 300 s must not come before it.
            limits = session.timeout
            keywords["timeout"] = aiohttp.ClientTimeout(
                None, limits.connect, limits.sock_read, limits.sock_connect
            )
        if self._source is session:
            on_sent()
            if not request.is_auth_required or "allow_redirects" in keywords:
                return await self._request(session, request, encoded, keywords)
            response = await self._request(
                session, request, encoded, {**keywords, "allow_redirects": False}
            )
            if response.status in _REDIRECTS:
                response.release()
                raise RedirectError("A signed request was redirected; not followed.")
            return response
        exchange = Exchange(on_sent, is_signed=request.is_auth_required)
        token = current_exchange.set(exchange)
        try:
            return await self._request(session, request, encoded, keywords)
        except ConnectionFailedError as error:
            if exchange.was_resent:
                raise StaleConnectionError(
                    "The server closed the connection as the request was sent."
                ) from error
            raise
        finally:
            current_exchange.reset(token)

    def deadline(self, describe: Callable[[], str], timeout_s: float | None) -> Deadline:
        """Return a deadline that also ends when the factory of this connection closes."""
        source = self._source
        interruptions = None if isinstance(source, aiohttp.ClientSession) else source
        return Deadline(describe, timeout_s, interruptions)

    def _session(self) -> aiohttp.ClientSession:
        if not isinstance(self._source, aiohttp.ClientSession):
            return self._source.current()
        if self._source.closed:
            raise ClosedError("The aiohttp session that this RESTConnection was given is closed.")
        return self._source

    async def _request(
        self,
        session: aiohttp.ClientSession,
        request: RESTRequest,
        encoded: bool,
        aiohttp_kwargs: Mapping[str, Any],
    ) -> RESTResponse:
        url = request.wire_url(encoded=encoded)
        body, headers = request.wire_body()
        if body is not None:
            body = _sendable(body)
        try:
            response = await session.request(
                str(request.method), url, data=body, headers=headers, **aiohttp_kwargs
            )
        except (aiohttp.ClientError, OSError) as error:
            raise map_client_error(error) from error
        result = RESTResponse(response)
        # An error body that has come with its head is kept for raise_for_status().
        if response.status >= 400 and response.content.is_eof():
            await result.read()
        return result


def _sendable(body: Any) -> Any:
    if isinstance(body, (str, bytes)) and len(body) > _ONE_PIECE_BYTES:
        return io.BytesIO(body.encode() if isinstance(body, str) else body)
    return KeptOpenPayload(body) if isinstance(body, io.IOBase) else body


def check_request_keywords(keywords: Mapping[str, Any]) -> None:
    """Raise TypeError for a name that `aiohttp.ClientSession.request` does not take.

    Or that says again what the request says: it would pass by the auth.
    """
    for name in _SAID_BY_REQUEST & keywords.keys():
        raise TypeError(f"{name!r} is a part of the request; give a body as `data`.")
    check_keywords(aiohttp.ClientSession._request, keywords)
