"""Auth by a token that is fetched, and refreshed before it expires."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from networkpype._clocks import boot_clock
from networkpype._deadline import Deadline
from networkpype._log import get_logger
from networkpype._single_flight import SingleFlight
from networkpype.auth.base import RESTOnlyAuth, set_header
from networkpype.exceptions import AuthError, ConfigurationError
from networkpype.rest.request import RESTRequest
from networkpype.time_synchronizer import TimeSynchronizer

__all__ = ("Token", "TokenAuth")

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Token:
    """A token and its lifetime in seconds, counted from the start of the fetch."""

    value: str = field(repr=False)
    expires_in_s: float | None = None


class TokenAuth(RESTOnlyAuth):
    """Send a token from `fetch`; concurrent requests share one fetch.

    Fetches a new token `refresh_ahead_s` before the current one expires (but not before half of
    its lifetime), and after a 401 response to the current one. Cancelling a waiting request does
    not cancel the fetch, which may take `fetch_timeout_s`. `fetch` may use the same manager for
    unsigned requests. Raises AuthError from the error of `fetch` if there is no valid token.

    A token expires when `clock` or `wall_clock` says so, whichever is first: while the machine is
    suspended, `clock` may stand still (the default does not on Linux).
    """

    resign_after_s = None

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Token]],
        *,
        header: str = "Authorization",
        scheme: str = "Bearer",
        refresh_ahead_s: float = 30.0,
        fetch_timeout_s: float | None = 30.0,
        clock: Callable[[], float] = boot_clock,
        wall_clock: Callable[[], float] = time.time,
        time_provider: TimeSynchronizer | None = None,
    ) -> None:
        super().__init__(time_provider)
        if fetch_timeout_s is not None and not fetch_timeout_s > 0:
            raise ConfigurationError(f"fetch_timeout_s must be above 0, not {fetch_timeout_s!r}.")
        self._fetch = fetch
        self._header = header
        self._scheme = scheme
        self._refresh_ahead_s = refresh_ahead_s
        self._fetch_timeout_s = fetch_timeout_s
        self._clock = clock
        self._wall_clock = wall_clock
        self._value: str | None = None
        self._fetched_at = self._clocks()
        # Seconds since then.
        self._expires_after: float | None = None
        self._refresh_after: float | None = None
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
        if value is not None and not self._is_past(self._refresh_after):
            return value
        try:
            return await self._flight.join()
        except Exception as error:
            if value is None or self._is_past(self._expires_after):
                raise AuthError("Could not fetch a token.") from error
            # The text of the error may quote secrets, so it is not logged.
            logger.warning(
                "Could not fetch a new token (%s); the current one is still valid.",
                type(error).__name__,
            )
            return value

    async def _refresh(self) -> str:
        started_at = self._clocks()
        token = await self._fetch_in_time()
        if not token.value:
            raise AuthError("The fetched token is empty.")
        self._value = token.value
        self._fetched_at = started_at
        self._expires_after = self._refresh_after = token.expires_in_s
        if token.expires_in_s is not None:
            ahead_s = min(self._refresh_ahead_s, token.expires_in_s / 2)
            self._refresh_after = token.expires_in_s - ahead_s
        return token.value

    async def _fetch_in_time(self) -> Token:
        deadline = Deadline(lambda: "Fetching a token", self._fetch_timeout_s)
        async with deadline.scope():
            return await self._fetch()

    def _clocks(self) -> tuple[float, float]:
        return self._clock(), self._wall_clock()

    def _is_past(self, seconds: float | None) -> bool:
        """Return whether one of the clocks has moved by `seconds` since the fetch."""
        if seconds is None:
            return False
        return any(
            now - then >= seconds
            for now, then in zip(self._clocks(), self._fetched_at, strict=True)
        )
