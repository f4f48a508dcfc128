"""Auth by a token that has to be fetched, and fetched again before it expires."""

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
    """A token, and the seconds that it is good for, counted from when it was asked for."""

    value: str = field(repr=False)
    expires_in_s: float | None = None


class TokenAuth(RESTOnlyAuth):
    """Send a token that `fetch` gets; however many requests need it, it is fetched once.

    A new one is fetched `refresh_ahead_s` before the old one expires (half of its life, for one
    that lives shorter), and after a 401 that answered the current one. A request that is
    cancelled while it waits does not cancel the fetch. `fetch` may use the same manager, for
    requests that are not signed. Raises AuthError, with the error of `fetch` as its cause, if
    there is no token that is still good.
    """

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
        """Forget the token; the next request fetches another one."""
        self._value = None

    def unauthorized(self, request: RESTRequest) -> None:
        """Forget the token if `request` had it."""
        sent = (request.headers or {}).get(self._header)
        if self._value is not None and sent == self._header_value(self._value):
            self.invalidate()

    async def before_admission(self) -> None:
        """Fetch a token if one is due."""
        if not self._flight.is_inside():
            await self._current()

    async def rest_authenticate(self, request: RESTRequest) -> RESTRequest:
        """Set the header."""
        if self._flight.is_inside():
            raise AuthError("The request that fetches the token asks to be signed with it.")
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
                raise AuthError("No token could be fetched.") from error
            # Not the error's text: it may quote what was sent.
            logger.warning(
                "A new token could not be fetched (%s); the old one is still good.",
                type(error).__name__,
            )
            return value

    async def _refresh(self) -> str:
        asked_at = self._clock()
        token = await self._fetch()
        if not token.value:
            raise AuthError("The token that was fetched is empty.")
        self._value = token.value
        self._expires_at = self._refresh_at = None
        if token.expires_in_s is not None:
            ahead_s = min(self._refresh_ahead_s, token.expires_in_s / 2)
            self._expires_at = asked_at + token.expires_in_s
            self._refresh_at = self._expires_at - ahead_s
        return token.value


def _is_past(moment: float | None, now: float) -> bool:
    return moment is not None and now >= moment
