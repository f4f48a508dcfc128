"""Factories of connections and managers that share one session, throttler and auth."""

from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Any, Self

from aiohttp.typedefs import LooseCookies

from networkpype._session import SessionSettings, SharedSession
from networkpype.auth import Auth
from networkpype.rest.connection import RESTConnection
from networkpype.rest.manager import RESTManager
from networkpype.rest.processor.base import RESTPostProcessor, RESTPreProcessor
from networkpype.rest.response import DEFAULT_MAX_BODY_BYTES
from networkpype.retry import RetryPolicy
from networkpype.throttler.throttler import AsyncThrottler
from networkpype.time_synchronizer import TimeSynchronizer
from networkpype.websocket.connection import WebSocketConnection
from networkpype.websocket.manager import WebSocketManager
from networkpype.websocket.processor.base import WebSocketPostProcessor, WebSocketPreProcessor
from networkpype.websocket.reconnect import ReconnectPolicy

__all__ = ("ConnectionManagersFactory", "ConnectionsFactory")


class ConnectionsFactory:
    """Create connections on one `aiohttp.ClientSession`, which is created on first use.

    Replaces a session that was closed by others or whose loop is closed. After `close()`, existing
    connections raise ClosedError until a new one is requested. `session_kwargs` are arguments of
    `aiohttp.ClientSession`, or a function that returns them for each new session; use a function
    for a connector, because a connector closes with its session. `max_body_bytes` and
    `credential_headers` are those of `RESTConnection`.
    """

    def __init__(
        self,
        *,
        session_kwargs: SessionSettings | None = None,
        max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
        credential_headers: Collection[str] = (),
    ) -> None:
        self._session = SharedSession("ConnectionsFactory", session_kwargs)
        self._max_body_bytes = max_body_bytes
        self._credential_headers = tuple(credential_headers)

    async def __aenter__(self) -> Self:
        self._session.open()
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def get_rest_connection(self) -> RESTConnection:
        """Return a new connection on the session."""
        self._session.open()
        return RESTConnection(
            self._session,
            max_body_bytes=self._max_body_bytes,
            credential_headers=self._credential_headers,
        )

    async def get_ws_connection(self, **client_session_kwargs: Any) -> WebSocketConnection:
        """Return a new connection on the session.

        The arguments are those of `aiohttp.ClientSession`. Raises ConfigurationError if the
        session already exists with other arguments, TypeError for unknown ones.
        """
        self._session.open(client_session_kwargs)
        return WebSocketConnection(self._session)

    async def update_cookies(self, cookies: LooseCookies) -> None:
        """Add cookies to the session."""
        self._session.open().cookie_jar.update_cookies(cookies)

    async def close(self) -> None:
        """Close the session; waiting and running requests raise ClosedError."""
        await self._session.close()


class ConnectionManagersFactory:
    """Create managers that share one session, one throttler and one auth.

    Safe to share between tasks. The session and `close()` work as in `ConnectionsFactory`;
    `retry` is for REST managers, `reconnect` for WebSocket managers; `max_body_bytes` and
    `credential_headers` are those of `RESTConnection`.
    """

    def __init__(
        self,
        throttler: AsyncThrottler,
        auth: Auth | None = None,
        rest_pre_processors: Sequence[RESTPreProcessor] | None = None,
        rest_post_processors: Sequence[RESTPostProcessor] | None = None,
        ws_pre_processors: Sequence[WebSocketPreProcessor] | None = None,
        ws_post_processors: Sequence[WebSocketPostProcessor] | None = None,
        time_synchronizer: TimeSynchronizer | None = None,
        *,
        session_kwargs: SessionSettings | None = None,
        retry: RetryPolicy | None = None,
        reconnect: ReconnectPolicy | None = None,
        max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
        credential_headers: Collection[str] = (),
    ) -> None:
        self._session = SharedSession("ConnectionManagersFactory", session_kwargs)
        self._throttler = throttler
        self._auth = auth
        self._rest_pre_processors = tuple(rest_pre_processors or ())
        self._rest_post_processors = tuple(rest_post_processors or ())
        self._ws_pre_processors = tuple(ws_pre_processors or ())
        self._ws_post_processors = tuple(ws_post_processors or ())
        self._time_synchronizer = time_synchronizer
        self._retry = retry
        self._reconnect = reconnect
        self._max_body_bytes = max_body_bytes
        self._credential_headers = tuple(credential_headers)

    @property
    def throttler(self) -> AsyncThrottler:
        """The throttler shared by the managers."""
        return self._throttler

    @property
    def time_synchronizer(self) -> TimeSynchronizer | None:
        """The estimate of the server's clock, if the factory has one."""
        return self._time_synchronizer

    @property
    def auth(self) -> Auth | None:
        """The auth shared by the managers."""
        return self._auth

    async def __aenter__(self) -> Self:
        self._session.open()
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def get_rest_manager(self) -> RESTManager:
        """Return a new manager on the session."""
        self._session.open()
        return RESTManager(
            RESTConnection(
                self._session,
                max_body_bytes=self._max_body_bytes,
                credential_headers=self._credential_headers,
            ),
            self._throttler,
            self._rest_pre_processors,
            self._rest_post_processors,
            self._auth,
            retry=self._retry,
        )

    async def get_ws_manager(self, **client_session_kwargs: Any) -> WebSocketManager:
        """Return a new manager on the session.

        The arguments are those of `ConnectionsFactory.get_ws_connection`.
        """
        self._session.open(client_session_kwargs)
        return WebSocketManager(
            WebSocketConnection(self._session),
            self._ws_pre_processors,
            self._ws_post_processors,
            self._auth,
            throttler=self._throttler,
            reconnect=self._reconnect,
        )

    async def update_cookies(self, cookies: LooseCookies) -> None:
        """Add cookies to the session."""
        self._session.open().cookie_jar.update_cookies(cookies)

    async def close(self) -> None:
        """Close the session; waiting and running requests raise ClosedError."""
        await self._session.close()
