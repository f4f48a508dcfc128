"""Work that runs in the background until it is done."""

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from aiorest_ws.awaiting import start
from aiorest_ws.exceptions import TopicsUnavailable
from aiorest_ws.log import logger

__all__ = ("Background",)


class Background:
    """Runs coroutines, keeps them alive, and logs what they raise."""

    def __init__(self) -> None:
        self.running: set[Deferred[Any]] = set()

    def run(self, work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """Run a coroutine; return a Deferred that fires with None if it raises."""
        running = start(work)
        self.running.add(running)

        def done(result: Any) -> None:
            self.running.discard(running)
            if isinstance(result, Failure) and not result.check(CancelledError, TopicsUnavailable):
                logger.error("topics: background work failed", exc_info=result.value)

        running.addBoth(done)
        return running

    def cancel(self) -> None:
        """Cancel all that runs."""
        for running in list(self.running):
            running.cancel()
