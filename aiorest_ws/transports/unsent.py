"""How much waits in a transport, of the loop's or of Twisted's."""

from typing import Any

from aiorest_ws.transports.loop_transport import HIGH_WATER_BYTES, LoopTransport

__all__ = ("set_high_water", "unsent_bytes")


def unsent_bytes(transport: Any) -> int:
    """Return how many bytes a transport has taken, and the system has not; 0 if nobody knows."""
    if isinstance(transport, LoopTransport):
        return transport.unsent_bytes
    # Twisted's have no name for it. Inside TLS the first is what is not encrypted yet.
    waiting = sum(map(len, getattr(transport, "_appSendBuffer", ())))
    rest = len(getattr(transport, "dataBuffer", b"")) - getattr(transport, "offset", 0)
    return waiting + rest + int(getattr(transport, "_tempDataLen", 0))


def set_high_water(transport: Any, size: int) -> None:
    """Let a transport tell its producer to pause when more bytes than `size` wait."""
    if size == HIGH_WATER_BYTES:
        return  # as they are made
    if isinstance(transport, LoopTransport):
        transport.set_high_water(size)
    else:
        getattr(transport, "transport", transport).bufferSize = size
