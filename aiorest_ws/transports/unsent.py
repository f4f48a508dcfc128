"""How many bytes wait in a transport, of the loop's or of Twisted's."""

from typing import Any

from aiorest_ws.internals import twisted_private
from aiorest_ws.transports.loop_transport import HIGH_WATER_BYTES, LoopTransport

__all__ = ("set_high_water", "unsent_bytes")


def unsent_bytes(transport: Any) -> int:
    """Return how many bytes a transport has not passed on to the system; 0 if it is unknown."""
    if isinstance(transport, LoopTransport):
        return transport.unsent_bytes
    return twisted_private.unsent_bytes(transport)


def set_high_water(transport: Any, size: int) -> None:
    """Let a transport pause its producer when more than `size` bytes wait."""
    if size == HIGH_WATER_BYTES:
        return  # the default
    if isinstance(transport, LoopTransport):
        transport.set_high_water(size)
    else:
        twisted_private.set_high_water(transport, size)
