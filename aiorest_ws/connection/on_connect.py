"""`onConnect` of an application: it may await anything; its exceptions do not reach the client."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from autobahn.websocket.types import ConnectionDeny
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from aiorest_ws.awaiting import drive, is_awaitable
from aiorest_ws.connection.opening import show_request
from aiorest_ws.interfaces import Connection
from aiorest_ws.log import logger

__all__ = ("deciding",)


def deciding(decide: Callable[..., Any]) -> Callable[..., Any]:
    """Return an `onConnect` that may await anything, and fails with a plain 500."""

    def onConnect(self: Any, request: Any) -> Any:
        show_request(self, request)
        try:
            answer = decide(self, request)
            if is_awaitable(answer) and not isinstance(answer, Deferred):
                answer = drive(_awaited(answer))
        except ConnectionDeny:
            raise
        # Autobahn would send its text to the client.
        except BaseException as exc:
            raise _denial(self, exc) from exc
        if not isinstance(answer, Deferred):
            return answer
        self._decision = answer
        return answer.addErrback(failed, self)

    def failed(failure: Failure, self: Any) -> Any:
        if failure.check(ConnectionDeny):
            return failure
        if self._state == self.STATE_CLOSED:
            raise ConnectionDeny(499, "the client is gone")
        raise _denial(self, failure.value)

    return onConnect


def _denial(connection: Connection, exc: BaseException | None) -> ConnectionDeny:
    logger.error("%s: onConnect failed", connection.peer, exc_info=exc)
    return ConnectionDeny(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal server error")


async def _awaited(answer: Any) -> Any:
    return await answer
