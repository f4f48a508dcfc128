"""What this package uses of aiohttp beyond its documentation.

All of it is here, and tests/networkpype/test_aiohttp.py fails with a sentence when a
release of aiohttp changes it.
"""

import asyncio
import difflib
import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple

import aiohttp
from aiohttp.connector import Connection
from yarl import URL

from networkpype.exceptions import AuthError, RedirectError

__all__ = (
    "Exchange",
    "LateParts",
    "base_url_of",
    "check_request_keywords",
    "check_session_keywords",
    "current_exchange",
    "middlewares_of",
    "observed_request_class",
    "refuse_request_while_signing",
)


class LateParts(NamedTuple):
    """What a signature may change of a request."""

    url: URL
    data: object
    headers: Mapping[str, Any] | None


class Exchange:
    """Observe what aiohttp does with one request.

    `on_sent` is called before the first byte is sent. If there was no connection within
    `resign_after_s`, `sign_again` is awaited with the connection in hand.
    """

    __slots__ = (
        "_had_inner_request",
        "_is_claimed",
        "_is_signed",
        "_origin",
        "_resign_at",
        "_response",
        "_sign_again",
        "is_signing",
        "on_sent",
        "was_resend_blocked",
        "was_sent",
    )

    def __init__(
        self,
        on_sent: Callable[[], None],
        *,
        is_signed: bool,
        sign_again: Callable[[], Awaitable[LateParts]] | None = None,
        resign_after_s: float = 0.0,
    ) -> None:
        self.on_sent = on_sent
        self._is_claimed = False
        self._is_signed = is_signed
        self._origin: URL | None = None
        self._response: aiohttp.ClientResponse | None = None
        self.was_resend_blocked = False
        self.was_sent = False
        self._sign_again = sign_again
        self._resign_at = 0.0
        if sign_again is not None:
            self._resign_at = asyncio.get_running_loop().time() + resign_after_s
        self.is_signing = False
        self._had_inner_request = False

    def claim(self) -> bool:
        """Return True for the first caller, which sends the request of this exchange."""
        is_first = not self._is_claimed
        self._is_claimed = True
        return is_first

    def is_signature_old(self) -> bool:
        """Return whether it took too long to have a connection."""
        if self._sign_again is None:
            return False
        return asyncio.get_running_loop().time() >= self._resign_at

    async def sign_late(self, url: URL) -> LateParts | None:
        """Sign again; `url` has the first signature, which is kept if this returns None."""
        sign, self._sign_again = self._sign_again, None
        if sign is None:
            return None
        self.is_signing = True
        try:
            parts = await sign()
        except Exception:
            if self._had_inner_request:
                return None  # the first signature has to do
            raise
        finally:
            self.is_signing = False
        # The connection leads to that origin.
        return parts if parts.url.origin() == url.origin() else None

    def refuse_inner_request(self) -> None:
        """Raise AuthError: a request for a signature might wait for this very connection."""
        self._had_inner_request = True
        raise AuthError("An auth sent a request while the request to sign had its connection.")

    def before_send(self, url: URL, connection: Connection) -> None:
        """Check a request whose head is about to be written."""
        if self._response is None:
            transport = connection.transport
            if transport is None or transport.is_closing():
                # Lost before the first byte. aiohttp makes a new connection if this one was kept.
                raise aiohttp.ServerDisconnectedError
            self.on_sent()
            self.was_sent = True
        elif self._response.status is None:
            # The previous attempt got no response head: the kept connection was closed. aiohttp
            # would now send the request again by itself, uncounted by any limit and with a used
            # signature. Block that; the manager decides.
            self.was_resend_blocked = True
            raise aiohttp.ServerDisconnectedError
        if self._is_signed:
            # On a redirect to another origin, aiohttp removes `Authorization`, but no other
            # header or parameter that a signer may have set.
            origin = url.origin()
            if self._origin not in (None, origin):
                raise RedirectError("A signed request was redirected to another origin.")
            self._origin = origin

    def after_send(self, response: aiohttp.ClientResponse) -> None:
        """Remember the response, whose head has not arrived yet: its `status` is None."""
        self._response = response


# The exchange of the request that the current task is sending.
current_exchange: ContextVar[Exchange | None] = ContextVar("networkpype_exchange", default=None)


@functools.cache
def observed_request_class(base: type[aiohttp.ClientRequest]) -> type[aiohttp.ClientRequest]:
    """Return a subclass of `base` that reports to `current_exchange`."""

    class ObservedRequest(base):  # type: ignore[valid-type, misc]
        async def send(self, conn: Connection) -> aiohttp.ClientResponse:
            exchange = current_exchange.get()
            if exchange is not None:
                if exchange.is_signature_old():
                    parts = await exchange.sign_late(self.url)
                    if parts is not None:
                        await self._replace(parts)
                exchange.before_send(self.url, conn)
            response: aiohttp.ClientResponse = await super().send(conn)
            if exchange is not None:
                exchange.after_send(response)
            return response

        async def _replace(self, parts: LateParts) -> None:
            self.url = parts.url.with_fragment(None)
            for name in parts.headers or ():
                self.headers.popall(name, None)
            self.headers.extend(parts.headers or {})
            await self.update_body(parts.data)

    return ObservedRequest


def refuse_request_while_signing() -> None:
    """Raise AuthError for a request that is part of a late signature."""
    exchange = current_exchange.get()
    if exchange is not None and exchange.is_signing:
        exchange.refuse_inner_request()


def base_url_of(session: aiohttp.ClientSession) -> URL | None:
    """Return the URL that relative URLs of a session are joined to, None without one."""
    return session._base_url


def middlewares_of(session: aiohttp.ClientSession) -> tuple[aiohttp.ClientMiddlewareType, ...]:
    """Return the middlewares of a session, which those of a request replace."""
    return tuple(session._middlewares)


def check_session_keywords(names: Iterable[str]) -> None:
    """Raise TypeError for a name that is not a keyword argument of `aiohttp.ClientSession`."""
    _check_keywords(aiohttp.ClientSession, "ClientSession", names)


def check_request_keywords(names: Iterable[str]) -> None:
    """Raise TypeError for a name that is not a keyword argument of `ClientSession.request`."""
    # The public method takes **kwargs; only the private one has the names.
    _check_keywords(aiohttp.ClientSession._request, "ClientSession.request", names)


def _check_keywords(
    function: Callable[..., object], public_name: str, names: Iterable[str]
) -> None:
    known = _keywords_of(function)
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise TypeError(
                f"{name!r} is not a keyword argument of aiohttp.{public_name}(); "
                f"did you mean {nearest!r}?"
            )


@functools.cache
def _keywords_of(function: Callable[..., object]) -> tuple[str, ...]:
    return tuple(
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    )
