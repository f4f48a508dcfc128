"""A supervisor notices that a worker does not answer, and ends it after a limit."""

from collections.abc import Collection
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from aiorest_ws.log import logger
from aiorest_ws.serving.child import Child

__all__ = ("WorkerWatch",)

LOOK_SECONDS = 1

# A worker that has not answered for so long is logged, whatever its limit.
SILENT_SECONDS = 5


class WorkerWatch:
    """Looks once a second whether each of the workers has answered.

    Only workers that listen and have not been told to stop are watched. One is ended at each look:
    the stacks that several print at once would be mixed.
    """

    def __init__(self, reactor: Any, children: Collection[Child]) -> None:
        self._reactor = reactor
        self._children = children
        self._looked_at = 0.0
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Look, until `stop` is called."""
        self._looked_at = self._reactor.seconds()
        self._timer = self._reactor.callLater(LOOK_SECONDS, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        last, self._looked_at = self._looked_at, self._reactor.seconds()
        # After a late look the workers may have been late as well: the machine was suspended.
        is_late = self._looked_at - last >= 2 * LOOK_SECONDS
        overdue = None
        for child in list(self._children):
            if child.is_ready and child.ready_at <= last and not child.is_stopping:
                self._look_at(child, is_late)
                if child.blocked_seconds and child.silent_seconds >= child.blocked_seconds:
                    overdue = overdue or child
        if overdue is not None:
            overdue.abort()
        self._timer = self._reactor.callLater(LOOK_SECONDS, self._look)

    def _look_at(self, child: Child, is_late: bool) -> None:
        if child.has_answered():
            if child.silent_seconds >= SILENT_SECONDS:
                logger.warning("%s answers again after %d s", child, child.silent_seconds)
            child.silent_seconds = 0
        elif not is_late:
            child.silent_seconds += LOOK_SECONDS
            if child.silent_seconds == SILENT_SECONDS:
                logger.warning("%s has not answered for %d s", child, child.silent_seconds)
