"""Write at the pace of the client: producers, and Deferreds that wait until it is writable."""

from typing import Any

from twisted.internet.defer import Deferred

from aiorest_ws.internals.twisted_private import PullToPush
from aiorest_ws.log import logger

__all__ = ("Writers",)


class Writers:
    """The producer of the application, if there is one, and Deferreds that wait for room."""

    __slots__ = ("_producer", "_waiting")

    def __init__(self) -> None:
        self._producer: Any = None
        self._waiting: list[Deferred[None]] = []

    def register(self, producer: Any, streaming: bool, consumer: Any) -> None:
        """Take a producer; raise RuntimeError if there is one."""
        if self._producer is not None:
            raise RuntimeError(f"{self._producer!r} was never unregistered.")
        if not streaming:
            # As Twisted's TLS and HTTP do it.
            producer = PullToPush(producer, consumer)
            producer.startStreaming()
        self._producer = producer

    def unregister(self) -> None:
        """Forget the producer."""
        producer, self._producer = self._producer, None
        if isinstance(producer, PullToPush):
            producer.stopStreaming()

    def stop(self) -> None:
        """Stop the producer: the connection closes."""
        producer, self._producer = self._producer, None
        try:
            if producer is not None:
                producer.stopProducing()
        except BaseException as exc:  # noqa: BLE001  it is the application's
            logger.error("a producer could not stop", exc_info=exc)

    def pause(self) -> None:
        """Pause the producer."""
        if self._producer is not None:
            self._producer.pauseProducing()

    def resume(self) -> None:
        """Resume the producer, and fire the Deferreds that wait."""
        if self._producer is not None:
            self._producer.resumeProducing()
        self.wake()

    def wait(self) -> Deferred[None]:
        """Return a Deferred that fires with `resume` or `wake`."""
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def wake(self) -> None:
        """Fire the Deferreds that wait."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)
