"""One `aiohttp.ClientSession` shared by many connections."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any, Protocol

import aiohttp

from networkpype._aiohttp import check_session_keywords, observed_request_class
from networkpype._deadline import Scope, ScopeRegistry
from networkpype.exceptions import ClosedError, ConfigurationError

__all__ = ("SessionSettings", "SessionSource", "SharedSession", "open_session")

SessionSettings = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
"""Keyword arguments of `aiohttp.ClientSession`, or a function that returns them."""


class SessionSource(ScopeRegistry, Protocol):
    """Gives the connections of a factory their session, each time they need it."""

    def current(self) -> aiohttp.ClientSession:
        """Return the open session; raise ClosedError if the factory is closed."""
        ...


def open_session(
    source: aiohttp.ClientSession | SessionSource, user: str
) -> aiohttp.ClientSession:
    """Return the open session, or raise ClosedError; `user` is named in its text."""
    if not isinstance(source, aiohttp.ClientSession):
        return source.current()
    if source.closed:
        raise ClosedError(f"The aiohttp session given to this {user} is closed.")
    return source


class _State(Enum):
    NEW = auto()
    OPEN = auto()
    CLOSED = auto()


class SharedSession:
    """A session that is created on first use, and replaced when it can no longer be used.

    `owner` is named in error texts. `settings` must be a function if it contains a connector,
    because a connector closes with its session.
    """

    def __init__(self, owner: str, settings: SessionSettings | None = None) -> None:
        if isinstance(settings, Mapping):
            check_session_keywords(settings)
        self._owner = owner
        self._settings = settings
        self._extra_settings: dict[str, Any] = {}
        self._state = _State.NEW
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scopes: set[Scope] = set()

    def open(self, extra_settings: Mapping[str, Any] | None = None) -> aiohttp.ClientSession:
        """Return the session; open a new one after `close()`.

        Raises ConfigurationError if the session is already open without `extra_settings`,
        TypeError for unknown ones.
        """
        if extra_settings:
            check_session_keywords(extra_settings)
            if not self._is_usable():
                self._extra_settings = dict(extra_settings)
            elif not self._was_made_with(extra_settings):
                raise ConfigurationError(
                    f"The session of this {self._owner} is already open with different values of "
                    f"{', '.join(sorted(extra_settings))}. Pass these with the first call or as "
                    f"session_kwargs of the factory, or use a separate factory."
                )
        self._state = _State.OPEN
        return self.current()

    def current(self) -> aiohttp.ClientSession:
        """Return the open session; raise ClosedError after `close()`."""
        if self._state is _State.CLOSED:
            raise ClosedError(self._closed_text())
        session = self._session
        if session is None or not self._is_usable():
            self._abandon()
            session = self._create()
        return session

    async def close(self) -> None:
        """Close the session, if there is one, and end the entered scopes."""
        if self._state is _State.OPEN:
            self._state = _State.CLOSED
        self._extra_settings = {}
        for scope in tuple(self._scopes):
            scope.interrupt(self._closed_text())
        if not self._is_usable():
            self._abandon()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def add_scope(self, scope: Scope) -> None:
        """End `scope` when the session is closed."""
        self._scopes.add(scope)

    def discard_scope(self, scope: Scope) -> None:
        """No longer end `scope`."""
        self._scopes.discard(scope)

    def _closed_text(self) -> str:
        return (
            f"This {self._owner} is closed. Its connections and managers work again once a new "
            f"one is requested from the factory."
        )

    def _was_made_with(self, settings: Mapping[str, object]) -> bool:
        made_with = {**self._fixed_settings(), **self._extra_settings}
        return all(name in made_with and made_with[name] == settings[name] for name in settings)

    def _fixed_settings(self) -> Mapping[str, object]:
        return self._settings if isinstance(self._settings, Mapping) else {}

    def _create(self) -> aiohttp.ClientSession:
        settings = self._settings() if callable(self._settings) else self._settings
        keywords: dict[str, Any] = {**(settings or {}), **self._extra_settings}
        connector = keywords.get("connector")
        if connector is not None and connector.closed:
            raise ClosedError(
                f"The connector given to this {self._owner} was closed with its session. "
                f"Pass session_kwargs as a function that returns a new connector."
            )
        keywords["request_class"] = observed_request_class(
            keywords.get("request_class", aiohttp.ClientRequest)
        )
        self._loop = asyncio.get_running_loop()
        self._session = aiohttp.ClientSession(**keywords)
        return self._session

    def _is_usable(self) -> bool:
        session = self._session
        if session is None or session.closed:
            return False
        running = asyncio.get_running_loop()
        if self._loop is running:
            return True
        if self._loop is not None and self._loop.is_running():
            raise ConfigurationError(
                f"This {self._owner} is used by another event loop that is still running. "
                f"Use one factory per loop."
            )
        return False

    def _abandon(self) -> None:
        """Drop a session that was closed by others or whose loop is not running any more."""
        session, self._session = self._session, None
        self._scopes.clear()
        if session is not None and self._loop is not None and self._loop.is_closed():
            # On a closed loop there is nothing to wait for, so close() needs no task. If it does
            # wait, it raises RuntimeError.
            closing = session.close()
            with contextlib.suppress(StopIteration, RuntimeError):
                while True:
                    closing.send(None)
