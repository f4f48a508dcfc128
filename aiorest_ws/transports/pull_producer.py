"""Pull producers, for transports that tell when there is room, and not when there is none left."""

import asyncio
from typing import Any

__all__ = ("PulledProducer",)


class PulledProducer:
    """A pull producer as a push producer: asked for more when there is room for it."""

    __slots__ = ("_is_due", "_is_paused", "_producer", "_transport", "_write")

    def __init__(self, transport: Any, producer: Any) -> None:
        self._is_due = False
        self._is_paused = transport._is_full
        self._producer = producer
        self._transport = transport
        self._write = transport.write

    def __repr__(self) -> str:
        return repr(self._producer)

    def begin(self) -> None:
        """Ask for the first piece."""
        self._transport.write = self._write_and_ask
        self._producer.resumeProducing()

    def end(self) -> None:
        """Ask for no more."""
        self._is_paused = True
        if self._transport.write == self._write_and_ask:
            self._transport.write = self._write

    def pauseProducing(self) -> None:
        """Wait for room."""
        self._is_paused = True

    def resumeProducing(self) -> None:
        """Ask again: there is room."""
        self._is_paused = False
        self._ask_soon()

    def stopProducing(self) -> None:
        """Tell the producer that nobody is there any more."""
        self._is_paused = True
        self._producer.stopProducing()

    def _write_and_ask(self, data: bytes) -> None:
        # One that writes nothing when it is asked is not asked again: it would be for ever.
        self._write(data)
        self._ask_soon()

    def _ask_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._ask)

    def _ask(self) -> None:
        self._is_due = False
        if not self._is_paused:
            try:
                self._producer.resumeProducing()
            except Exception as exc:  # noqa: BLE001
                self._transport._fail(exc)
