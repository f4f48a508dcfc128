"""Close the connections of a server that stops, within bounds, when their calls are answered."""

from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.task import deferLater

from aiorest_ws.log import logger
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.status import WS_SERVICE_RESTART

__all__ = ("drain",)

# Connections are closed in batches: all of their clients will reconnect, to whoever takes over.
BATCH_SIZE = 500
BATCH_PAUSE_SECONDS = 0.05


async def drain(factory: RequestHandlerFactory) -> int:
    """Answer the running calls and close all connections; return how many were cut off.

    Messages that arrive meanwhile are answered with 503, and so is a call that is not done after
    `drain_seconds`, or a stream, which may be endless, after `closing_seconds`. A connection is
    cut off if its client does not read its last replies.
    """
    reactor, limits = factory.reactor, factory.limits
    calls_end = reactor.seconds() + limits.drain_seconds
    streams_end = reactor.seconds() + min(limits.closing_seconds, limits.drain_seconds)
    for connection in list(factory.connections):
        connection.drain()
    while True:
        still_open = [one for one in factory.connections if one.state == one.STATE_OPEN]
        if not still_open:
            break
        if reactor.seconds() >= calls_end:
            cut = sum(connection.cut_calls() for connection in still_open)
            if cut:
                logger.warning(
                    "%d calls did not end in %g s: answered with 503", cut, limits.drain_seconds
                )
            done = still_open
        else:
            if reactor.seconds() >= streams_end:
                for connection in still_open:
                    if connection.has_only_streams:
                        connection.cut_calls()
            done = [one for one in still_open if not one.running][:BATCH_SIZE]
        for connection in done:
            try:
                connection.finish(WS_SERVICE_RESTART, limits.restart_reason)
            except BaseException as exc:  # noqa: BLE001  an application's `onMessage`
                logger.error("%s could not be closed", connection.peer, exc_info=exc)
                connection.abort_connection()
        await deferLater(reactor, BATCH_PAUSE_SECONDS)
    try:
        await factory.last_closed().addTimeout(limits.closing_seconds, reactor)
    except DeferredTimeout:
        return _abort(factory)
    return 0


def _abort(factory: RequestHandlerFactory) -> int:
    """Abort the connections that did not close; return how many have unread replies."""
    left = list(factory.connections)
    unread = sum(1 for connection in left if connection.unsent_bytes)
    logger.info("%d connections did not close and are aborted", len(left))
    if unread:
        logger.warning("%d of them have not read their last replies", unread)
    for connection in left:
        connection.abort_connection()
    return unread
