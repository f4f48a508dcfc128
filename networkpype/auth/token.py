"""Auth by a token that is fetched, and refreshed before it expires."""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from networkpype._single_flight import SingleFlight
from networkpype.auth.base import RESTOnlyAuth, set_header
from networkpype.exceptions import AuthError
from networkpype.rest.request import RESTRequest
from networkpype.time_synchronizer import TimeSynchronizer

__all__ = ("Token", "TokenAuth")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Token:
    """A token and its lifetime in seconds, counted from the start of the fetch."""

    value: str = field(repr=False)
    expires_in_s: float | None = None


class TokenAuth(RESTOnlyAuth):
    """Send a token from `fetch`; concurrent requests share one fetch.

    Fetches a new token `refresh_ahead_s` before the current one expires (but not before half of
    its lifetime), and after a 401 response to the current one. Cancelling a waiting request does
    not cancel the fetch. `fetch` may use the same manager for unsigned requests. Raises AuthError
    from the error of `fetch` if there is no valid token.
    """

    resign_after_s = None

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Token]],
        *,
        header: str = "Authorization",
        scheme: str = "Bearer",
        refresh_ahead_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        time_provider: TimeSynchronizer | None = None,
    ) -> None:
        super().__init__(time_provider)
        self._fetch = fetch
        self._header = header
        self._scheme = scheme
        self._refresh_ahead_s = refresh_ahead_s
        self._clock = clock
        self._value: str | None = None
        self._expires_at: float | None = None
        self._refresh_at: float | None = None
        self._flight = SingleFlight(self._refresh)

    def invalidate(self) -> None:
        """Discard the token; the next request fetches a new one."""
        self._value = None

    def unauthorized(self, request: RESTRequest) -> None:
        """Discard the token if `request` was sent with it."""
        sent = (request.headers or {}).get(self._header)
        if self._value is not None and sent == self._header_value(self._value):
            self.invalidate()

    async def before_admission(self) -> None:
        """Fetch a token if there is none, or if it expires soon."""
        if not self._flight.is_inside():
            await self._current()

    async def rest_authenticate(self, request: RESTRequest) -> RESTRequest:
        """Set the header."""
        if self._flight.is_inside():
            raise AuthError("The request that fetches the token requires that token.")
        set_header(request, self._header, self._header_value(await self._current()))
        return request

    def _header_value(self, token: str) -> str:
        return f"{self._scheme} {token}" if self._scheme else token

    async def _current(self) -> str:
        value = self._value
        if value is not None and not _is_past(self._refresh_at, self._clock()):
            return value
        try:
            return await self._flight.join()
        except Exception as error:
            if value is None or _is_past(self._expires_at, self._clock()):
                raise AuthError("Could not fetch a token.") from error
            # The text of the error may quote secrets, so it is not logged.
            logger.warning(
                "Could not fetch a new token (%s); the current one is still valid.",
                type(error).__name__,
            )
            return value

    async def _refresh(self) -> str:
        started_at = self._clock()
        token = await self._fetch()
        if not token.value:
            raise AuthError("The fetched token is empty.")
        self._value = token.value
        self._expires_at = self._refresh_at = None
        if token.expires_in_s is not None:
            ahead_s = min(self._refresh_ahead_s, token.expires_in_s / 2)
            self._expires_at = started_at + token.expires_in_s
            self._refresh_at = self._expires_at - ahead_s
        return token.value


def _is_past(moment: float | None, now: float) -> bool:
    return moment is not None and now >= moment
