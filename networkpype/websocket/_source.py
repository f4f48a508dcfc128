"""Where a WebSocket gets its session, and what puts an end to its waits."""

import aiohttp

from networkpype._deadline import Scope
from networkpype._session import SessionSource
from networkpype.exceptions import ClosedError

__all__ = ("Source",)


class Source:
    """A session that the caller keeps open, or a factory's; and the scopes that end with it."""

    def __init__(self, source: aiohttp.ClientSession | SessionSource) -> None:
        self._source = source
        self._scopes: set[Scope] = set()

    def session(self) -> aiohttp.ClientSession:
        """Return the open session, or raise ClosedError."""
        if not isinstance(self._source, aiohttp.ClientSession):
            return self._source.current()
        if self._source.closed:
            raise ClosedError(
                "The aiohttp session that this WebSocketConnection was given is closed."
            )
        return self._source

    def interrupt(self, reason: str) -> None:
        """End the scopes that are entered."""
        for scope in tuple(self._scopes):
            scope.interrupt(reason)

    def add_scope(self, scope: Scope) -> None:
        """End `scope` on `interrupt()`, and when the factory closes."""
        self._scopes.add(scope)
        if not isinstance(self._source, aiohttp.ClientSession):
            self._source.add_scope(scope)

    def discard_scope(self, scope: Scope) -> None:
        """Leave `scope` alone from now on."""
        self._scopes.discard(scope)
        if not isinstance(self._source, aiohttp.ClientSession):
            self._source.discard_scope(scope)
