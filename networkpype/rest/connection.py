"""Send requests on an aiohttp session, without limits, processors or auth."""

import io
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextvars import ContextVar
from typing import Any

import aiohttp

from networkpype import _aiohttp
from networkpype._aiohttp import (
    Exchange,
    LateParts,
    base_url_of,
    current_exchange,
    middlewares_of,
    refuse_request_while_signing,
)
from networkpype._deadline import Deadline
from networkpype._session import SessionSource, open_session
from networkpype.exceptions import (
    ConfigurationError,
    ConnectionFailedError,
    RedirectError,
    StaleConnectionError,
    map_client_error,
)
from networkpype.rest._body import UnclosedFilePayload
from networkpype.rest._credentials import credential_names, keep_from_other_origins
from networkpype.rest.request import RESTRequest
from networkpype.rest.response import DEFAULT_MAX_BODY_BYTES, RESTResponse

__all__ = ("RESTConnection",)

# aiohttp warns that writing a larger bytes body at once blocks the loop.
_MAX_SINGLE_WRITE_BYTES = 2**20

# Keyword arguments of aiohttp that a RESTRequest has as fields.
_REQUEST_FIELDS = frozenset({"method", "str_or_url", "params", "data", "json", "headers"})

# The exchange of a manager, until `call()` takes it up.
_managed_exchange: ContextVar[Exchange | None] = ContextVar(
    "networkpype_managed_exchange", default=None
)

_REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})


class RESTConnection:
    """Send requests on a session that belongs to the caller or to a factory.

    A body that is read as a whole may have `max_body_bytes`, decompressed; `iter_bytes()` has no
    bound. Headers that look like credentials (`Authorization`, `X-API-Key`, `Cookie` and the
    like), and those whose names are in `credential_headers`, do not follow a redirect to another
    origin.
    """

    def __init__(
        self,
        aiohttp_client_session: aiohttp.ClientSession | SessionSource,
        *,
        max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
        credential_headers: Collection[str] = (),
    ) -> None:
        if max_body_bytes < 1:
            raise ConfigurationError(f"max_body_bytes must be at least 1, not {max_body_bytes!r}.")
        self._source = aiohttp_client_session
        self._max_body_bytes = max_body_bytes
        self._credential_headers = frozenset(name.lower() for name in credential_headers)

    async def call(
        self, request: RESTRequest, encoded: bool = False, **aiohttp_kwargs: Any
    ) -> RESTResponse:
        """Send `request` and return the response as soon as its head has arrived.

        A manager sends its requests with this method too, so a subclass may override it.
        With `encoded`, the URL is sent unchanged. Further arguments are those of
        `aiohttp.ClientSession.request`. Raises ValueError without a `url`, a TransportError when
        there is no response, ClosedError when the session is closed.
        """
        check_request_keywords(aiohttp_kwargs)
        refuse_request_while_signing()
        session = self._session()
        exchange = _managed_exchange.get()
        if exchange is None or not exchange.claim():
            # Not for a manager, or an additional request of a subclass.
            return await self._request(session, request, encoded, aiohttp_kwargs)
        if self._source is session:
            exchange.on_sent()
            return await self._request_unobserved(session, request, encoded, aiohttp_kwargs)
        token = current_exchange.set(exchange)
        try:
            return await self._request(session, request, encoded, aiohttp_kwargs)
        except ConnectionFailedError as error:
            if exchange.was_resend_blocked:
                raise StaleConnectionError(
                    "The server closed the connection as the request was sent."
                ) from error
            error.was_sent = exchange.was_sent
            raise
        finally:
            current_exchange.reset(token)

    async def exchange(
        self,
        request: RESTRequest,
        *,
        encoded: bool,
        deadline: Deadline,
        on_sent: Callable[[], None],
        aiohttp_kwargs: Mapping[str, Any],
        sign_again: Callable[[], Awaitable[RESTRequest]] | None = None,
        resign_after_s: float = 0.0,
    ) -> RESTResponse:
        """Send `request` for a manager with `call()`.

        On a session of a factory, `on_sent` is called before the first byte is sent, a request
        with `is_auth_required` is not redirected to another origin, and StaleConnectionError is
        raised when aiohttp would send the request a second time. If there was no connection
        within `resign_after_s`, the request that `sign_again` returns is sent instead. On another
        session, `on_sent` is called before connecting, a request with `is_auth_required` is never
        redirected, and `sign_again` is not called.
        """
        keywords = dict(aiohttp_kwargs)
        if deadline.loop_time is not None:
            # The session's own total of 300 s must not end the request before its deadline.
            limits = self._session().timeout
            keywords["timeout"] = aiohttp.ClientTimeout(
                None, limits.connect, limits.sock_read, limits.sock_connect
            )
        exchange = Exchange(
            on_sent,
            is_signed=request.is_auth_required,
            sign_again=None if sign_again is None else _late_parts(sign_again, encoded),
            resign_after_s=resign_after_s,
        )
        token = _managed_exchange.set(exchange)
        try:
            return await self.call(request, encoded, **keywords)
        finally:
            _managed_exchange.reset(token)

    def resolve(self, request: RESTRequest, *, encoded: bool) -> None:
        """Set the URL of `request` to what `call()` sends, so that an auth signs that."""
        request.url_is_encoded = request.url_is_encoded or encoded
        base_url = base_url_of(self._session())
        if request.url is not None and base_url is not None:
            url = request.parsed_url()
            if not url.absolute:
                request.url = str(base_url.join(url))

    def deadline(self, describe: Callable[[], str], timeout_s: float | None) -> Deadline:
        """Return a deadline whose scopes also end when the factory of this connection closes."""
        source = self._source
        registry = None if isinstance(source, aiohttp.ClientSession) else source
        return Deadline(describe, timeout_s, registry)

    def _session(self) -> aiohttp.ClientSession:
        return open_session(self._source, "RESTConnection")

    async def _request_unobserved(
        self,
        session: aiohttp.ClientSession,
        request: RESTRequest,
        encoded: bool,
        aiohttp_kwargs: Mapping[str, Any],
    ) -> RESTResponse:
        """Send `request` without observing redirects: follow none if it is signed."""
        if not request.is_auth_required or "allow_redirects" in aiohttp_kwargs:
            return await self._request(session, request, encoded, aiohttp_kwargs)
        response = await self._request(
            session, request, encoded, {**aiohttp_kwargs, "allow_redirects": False}
        )
        if response.status in _REDIRECT_STATUSES:
            response.release()
            raise RedirectError("A signed request was redirected; not followed.")
        return response

    async def _request(
        self,
        session: aiohttp.ClientSession,
        request: RESTRequest,
        encoded: bool,
        aiohttp_kwargs: Mapping[str, Any],
    ) -> RESTResponse:
        url = request.wire_url(encoded=encoded)
        body, headers = request.wire_body()
        body = _sendable(body)
        keywords = self._without_leaks(session, headers, aiohttp_kwargs)
        try:
            response = await session.request(
                str(request.method), url, data=body, headers=headers, **keywords
            )
        except (aiohttp.ClientError, OSError) as error:
            raise map_client_error(error) from error
        result = RESTResponse(response, max_body_bytes=self._max_body_bytes)
        # Keep an error body that arrived with its head, for raise_for_status().
        if response.status >= 400 and response.content.is_eof():
            await result.read_error()
        return result

    def _without_leaks(
        self,
        session: aiohttp.ClientSession,
        headers: Mapping[str, Any] | None,
        aiohttp_kwargs: Mapping[str, Any],
    ) -> Mapping[str, Any]:
        """Return the arguments, and with them what keeps credentials from other origins."""
        credentials = credential_names(headers or (), self._credential_headers)
        if session.headers:
            credentials += credential_names(session.headers, self._credential_headers)
        if not credentials:
            return aiohttp_kwargs
        others = aiohttp_kwargs.get("middlewares")
        if others is None:
            others = middlewares_of(session)
        return {
            **aiohttp_kwargs,
            "middlewares": (keep_from_other_origins(credentials), *others),
        }


def _late_parts(
    sign_again: Callable[[], Awaitable[RESTRequest]], encoded: bool
) -> Callable[[], Awaitable[LateParts]]:
    async def sign() -> LateParts:
        signed = await sign_again()
        body, headers = signed.wire_body()
        return LateParts(signed.wire_url(encoded=encoded), _sendable(body), headers)

    return sign


def _sendable(body: object) -> object:
    if body is None:
        return None
    if isinstance(body, (str, bytes)) and len(body) > _MAX_SINGLE_WRITE_BYTES:
        return io.BytesIO(body.encode() if isinstance(body, str) else body)
    return UnclosedFilePayload(body) if isinstance(body, io.IOBase) else body


def check_request_keywords(keywords: Mapping[str, object]) -> None:
    """Raise TypeError for a name that `aiohttp.ClientSession.request` does not take.

    Refuses fields of the request too, because the auth would not see them.
    """
    if not keywords:
        return
    for name in _REQUEST_FIELDS & keywords.keys():
        raise TypeError(f"{name!r} is a part of the request; pass a body as `data`.")
    _aiohttp.check_request_keywords(keywords)
