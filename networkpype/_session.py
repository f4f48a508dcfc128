"""One `aiohttp.ClientSession` for many connections."""

import asyncio
import contextlib
import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from enum import Enum, auto
from typing import Any, Protocol

import aiohttp
from yarl import URL

from networkpype._deadline import Interruptions, Scope
from networkpype.exceptions import ClosedError, ConfigurationError, RedirectError

__all__ = (
    "Exchange",
    "SessionSource",
    "SharedSession",
    "check_keywords",
    "current_exchange",
    "request_class",
)


class SessionSource(Interruptions, Protocol):
    """Where connections of a factory get their session, each time that they need it."""

    def current(self) -> aiohttp.ClientSession:
        """Return the open session; raise ClosedError if the factory is closed."""
        ...


class Exchange:
    """What becomes of one request inside aiohttp, told to us by `request_class`."""

    __slots__ = ("_is_signed", "_on_sent", "_origin", "_response", "was_resent")

    def __init__(self, on_sent: Callable[[], None], *, is_signed: bool) -> None:
        self._on_sent = on_sent
        self._is_signed = is_signed
        self._origin: URL | None = None
        self._response: aiohttp.ClientResponse | None = None
        self.was_resent = False

    def sending(self, url: URL) -> None:
        """Take note that a head is about to be written."""
        if self._response is None:
            self._on_sent()
        elif self._response.status is None:
            # No head came for the one before: a kept connection turned out to be closed. aiohttp
            # now sends by itself once more what no limit has counted, with a signature that has
            # been used. Stop it, and leave it to the manager.
            self.was_resent = True
            raise aiohttp.ServerDisconnectedError
        if self._is_signed:
            # Of a redirect to another origin aiohttp takes away `Authorization`, but no other
            # header and no parameter that a signer may have used.
            origin = url.origin()
            if self._origin not in (None, origin):
                raise RedirectError("A signed request was redirected to another origin.")
            self._origin = origin

    def sent(self, response: aiohttp.ClientResponse) -> None:
        """Take note of the response that was made, whose head is still to come."""
        self._response = response


# The exchange that the current task has given to aiohttp.
current_exchange: ContextVar[Exchange | None] = ContextVar("networkpype_exchange", default=None)


@functools.cache
def request_class(base: type[Any]) -> type[Any]:
    """Return a subclass of `base`, a class of aiohttp requests, that tells its exchange."""

    class ToldRequest(base):  # type: ignore[misc]
        async def send(self, conn: Any) -> aiohttp.ClientResponse:
            exchange = current_exchange.get()
            if exchange is not None:
                exchange.sending(self.url)
            response: aiohttp.ClientResponse = await super().send(conn)
            if exchange is not None:
                exchange.sent(response)
            return response

    return ToldRequest


class _State(Enum):
    NEW = auto()
    OPEN = auto()
    CLOSED = auto()


class SharedSession:
    """A session that is made on first use, and made again when it is of no use any more.

    `owner` is named in errors. `settings` are keyword arguments of `aiohttp.ClientSession`, or a
    function that makes them anew for each session, which a connector needs: it closes with its
    session.
    """

    def __init__(
        self,
        owner: str,
        settings: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        if isinstance(settings, Mapping):
            check_keywords(aiohttp.ClientSession, settings)
        self._owner = owner
        self._settings = settings
        self._extra_settings: dict[str, Any] = {}
        self._state = _State.NEW
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scopes: set[Scope] = set()

    def open(self, extra_settings: Mapping[str, Any] | None = None) -> aiohttp.ClientSession:
        """Return the session, also after `close()`.

        Raises ConfigurationError if `extra_settings` come too late, TypeError for unknown ones.
        """
        if extra_settings:
            check_keywords(aiohttp.ClientSession, extra_settings)
            if not self._is_usable():
                self._extra_settings = dict(extra_settings)
            elif not self._was_made_with(extra_settings):
                raise ConfigurationError(
                    f"The session of this {self._owner} is open already, with other settings than "
                    f"{', '.join(sorted(extra_settings))}. Give them with the first call, or to "
                    f"the factory as session_kwargs, or use a factory of their own."
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
            session = self._make()
        return session

    async def close(self) -> None:
        """Close the session, if there is one, and end the scopes that are entered."""
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
        """End `scope` when this is closed."""
        self._scopes.add(scope)

    def discard_scope(self, scope: Scope) -> None:
        """Leave `scope` alone from now on."""
        self._scopes.discard(scope)

    def _closed_text(self) -> str:
        return (
            f"This {self._owner} is closed. What it handed out works again as soon as the factory "
            f"is asked for a connection or a manager."
        )

    def _was_made_with(self, settings: Mapping[str, Any]) -> bool:
        made_with = {**self._fixed_settings(), **self._extra_settings}
        return all(name in made_with and made_with[name] == settings[name] for name in settings)

    def _fixed_settings(self) -> Mapping[str, Any]:
        return self._settings if isinstance(self._settings, Mapping) else {}

    def _make(self) -> aiohttp.ClientSession:
        settings = self._settings() if callable(self._settings) else self._settings
        keywords: dict[str, Any] = {**(settings or {}), **self._extra_settings}
        connector = keywords.get("connector")
        if connector is not None and connector.closed:
            raise ClosedError(
                f"The connector that this {self._owner} was given has closed with its session. "
                f"Give session_kwargs as a function that makes a new connector."
            )
        keywords["request_class"] = request_class(
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
                f"This {self._owner} is in use by another event loop that is still running. "
                f"Use a factory per loop."
            )
        return False

    def _abandon(self) -> None:
        """Let go of a session that was closed elsewhere, or whose loop is gone."""
        session, self._session = self._session, None
        self._scopes.clear()
        if session is not None and self._loop is not None and self._loop.is_closed():
            # On a loop that is gone there is nothing to wait for, so that this needs no task;
            # RuntimeError is what it would raise if there were.
            closing = session.close()
            with contextlib.suppress(StopIteration, RuntimeError):
                while True:
                    closing.send(None)


def check_keywords(function: Callable[..., Any], names: Iterable[str]) -> None:
    """Raise TypeError for a name that is no keyword argument of `function`."""
    known = _keywords_of(function)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise TypeError(
                f"{name!r} is not a keyword argument of {function.__qualname__}(); "
                f"the nearest one is {near[0]!r}."
            )


@functools.cache
def _keywords_of(function: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    )
