"""Run an application's connect and disconnect hooks."""

from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from typing import Any

from twisted.internet.defer import Deferred

from aiorest_ws.awaiting import drive, failure_of, start
from aiorest_ws.interfaces import Connection
from aiorest_ws.log import logger

__all__ = ("ConnectionHook", "run_connect_hooks", "run_disconnect_hooks")

ConnectionHook = Callable[[Any], Any]


def run_connect_hooks(hooks: Iterable[ConnectionHook], connection: Connection) -> Any:
    """Return whether all hooks have succeeded, or a Deferred of it."""
    return drive(_connect(hooks, connection))


def run_disconnect_hooks(
    hooks: Iterable[ConnectionHook], connection: Connection
) -> list[Deferred[Any]]:
    """Run all hooks at once; return those that have not finished."""
    running = [start(_succeeds("on_disconnect", hook, connection)) for hook in hooks]
    return [one for one in running if not one.called]


async def _connect(hooks: Iterable[ConnectionHook], connection: Connection) -> bool:
    context = copy_context()  # which the hooks share
    for hook in hooks:
        if not await _succeeds("on_connect", hook, connection, context):
            return False
    return True


async def _succeeds(
    name: str, hook: ConnectionHook, connection: Connection, context: Context | None = None
) -> bool:
    exc = await failure_of(hook, connection, context)
    if exc is not None:
        logger.error("an %s hook failed", name, exc_info=exc)
    return exc is None
