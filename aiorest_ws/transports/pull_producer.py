"""Pull producers, on transports that know only push producers."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ("PullAdapter", "PullTransport")


class PullTransport(Protocol):
    """What an adapter needs of its transport."""

    is_full: bool
    write: Callable[[bytes], None]

    def fail(self, exc: BaseException) -> None:
        """Close the connection: the producer has raised."""


class PullAdapter:
    """A push producer that asks a pull producer for more while there is room."""

    __slots__ = ("_is_asking_soon", "_is_paused", "_producer", "_transport", "_write")

    def __init__(self, transport: PullTransport, producer: Any) -> None:
        self._is_asking_soon = False
        self._is_paused = transport.is_full
        self._producer = producer
        self._transport = transport
        self._write = transport.write

    def __repr__(self) -> str:
        return repr(self._producer)

    def start(self) -> None:
        """Ask for the first piece."""
        self._transport.write = self._write_and_ask
        self._producer.resumeProducing()

    def stop(self) -> None:
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
        """Tell the producer that the connection is lost."""
        self._is_paused = True
        self._producer.stopProducing()

    def _write_and_ask(self, data: bytes) -> None:
        # Only after a write: a producer that writes nothing when asked would be asked for ever.
        self._write(data)
        self._ask_soon()

    def _ask_soon(self) -> None:
        if not self._is_asking_soon:
            self._is_asking_soon = True
            asyncio.get_running_loop().call_soon(self._ask)

    def _ask(self) -> None:
        self._is_asking_soon = False
        if not self._is_paused:
            try:
                self._producer.resumeProducing()
            except BaseException as exc:  # noqa: BLE001
                self._transport.fail(exc)
