"""The session of a WebSocket, and the scopes that end with it."""

import aiohttp

from networkpype._deadline import Scope
from networkpype._session import SessionSource, open_session

__all__ = ("Source",)


class Source:
    """A session that belongs to the caller or to a factory, and the scopes that end with it."""

    def __init__(self, source: aiohttp.ClientSession | SessionSource) -> None:
        self._source = source
        self._scopes: set[Scope] = set()

    def session(self) -> aiohttp.ClientSession:
        """Return the open session, or raise ClosedError."""
        return open_session(self._source, "WebSocketConnection")

    def interrupt(self, reason: str) -> None:
        """End the entered scopes."""
        for scope in tuple(self._scopes):
            scope.interrupt(reason)

    def abandon(self) -> None:
        """Forget the scopes, whose loop is gone."""
        self._scopes.clear()

    def add_scope(self, scope: Scope) -> None:
        """End `scope` on `interrupt()` and when the factory closes."""
        self._scopes.add(scope)
        if not isinstance(self._source, aiohttp.ClientSession):
            self._source.add_scope(scope)

    def discard_scope(self, scope: Scope) -> None:
        """No longer end `scope`."""
        self._scopes.discard(scope)
        if not isinstance(self._source, aiohttp.ClientSession):
            self._source.discard_scope(scope)
