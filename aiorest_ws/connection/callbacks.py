"""Autobahn's callbacks, written by an application as coroutines: `async def onMessage`.

Autobahn on Twisted calls them and drops what they return, so a coroutine would never run.
"""

import asyncio
import inspect
from collections.abc import Callable, Generator
from contextvars import ContextVar, copy_context
from functools import wraps
from types import CoroutineType
from typing import Any

from autobahn.twisted.websocket import WebSocketServerProtocol
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from aiorest_ws.awaiting import drive
from aiorest_ws.connection.options import is_changed
from aiorest_ws.log import logger
from aiorest_ws.status import WS_UNEXPECTED_CONDITION

__all__ = ("DONE", "IS_ACCEPTED", "awaitable", "run_coroutines")

# Autobahn waits for the answer of this one, see `on_connect`.
_DECIDING = "onConnect"

_CALLBACKS = tuple(
    name
    for name in dir(WebSocketServerProtocol)
    if name[:2] == "on" and name[2:3].isupper() and name != _DECIDING
)


class _Done:
    """What a callback of ours returns: there is nothing to wait for, but it can be awaited."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, None]:
        return
        yield  # makes this a generator


DONE = _Done()


# Whether the server did not stop yet when the `onMessage` of this context began.
IS_ACCEPTED: ContextVar[bool] = ContextVar("IS_ACCEPTED", default=False)


def awaitable(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Return a callback of Autobahn's that a coroutine may await, as `await super().onPing()`."""

    @wraps(callback)
    def call(self: Any, *arguments: Any) -> Any:
        callback(self, *arguments)
        return DONE

    return call


def run_coroutines(kind: type, configured: Any) -> None:
    """Give `configured`, derived from `kind`, callbacks that run what those of `kind` return.

    Only callbacks of the application are replaced, and only in this class: a `super()` call in
    `kind` gets the coroutine itself.
    """
    for name in _CALLBACKS:
        if is_changed(kind, (name,)):
            callback = getattr(kind, name)
            run = _running_message(callback) if name == "onMessage" else _running(name, callback)
            setattr(configured, name, run)


def _running_message(callback: Callable[..., Any]) -> Callable[..., Any]:
    # For each message: without a tuple of arguments.
    @wraps(callback)
    def onMessage(self: Any, payload: bytes, isBinary: bool) -> Any:
        answer = callback(self, payload, isBinary)
        if answer is not None and answer is not DONE:
            _run(self, "onMessage", answer)

    return onMessage


def _running(name: str, callback: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(callback)
    def call(self: Any, *arguments: Any) -> Any:
        answer = callback(self, *arguments)
        if answer is None or answer is DONE:
            return None
        return _run(self, name, answer)

    return call


def _run(connection: Any, name: str, answer: Any) -> Any:
    """Run what a callback has returned; return its value, None if that is not known yet."""
    if not inspect.isawaitable(answer):
        return answer
    if isinstance(answer, Deferred):
        pending: Any = answer
    else:
        try:
            coroutine = answer if isinstance(answer, CoroutineType) else _awaited(answer)
            context = copy_context()
            context.run(IS_ACCEPTED.set, connection.accepts_calls)
            pending = drive(coroutine, context)
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001  an application's
            _failed(Failure(exc), connection, name)
            return None
        if not isinstance(pending, Deferred):
            return None if pending is DONE else pending
    if name == "onMessage":
        connection.note_handling(pending)
    pending.addErrback(_failed, connection, name)
    # asyncio does not keep it, and a server that stops waits for it.
    connection.factory.keep(pending)
    return None


async def _awaited(answer: Any) -> Any:
    return await answer


def _failed(failure: Failure, connection: Any, name: str) -> None:
    logger.error("%s: %s failed", connection.peer, name, exc_info=failure.value)
    if name == "onOpen" and connection.state == connection.STATE_OPEN:
        connection.sendCloseFrame(WS_UNEXPECTED_CONDITION, None, isReply=False)
