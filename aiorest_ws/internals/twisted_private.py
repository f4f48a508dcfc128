"""What Twisted does not say in public: the loop under its reactor, and unsent bytes."""

import asyncio
from typing import Any

from twisted.internet._producer_helpers import _PullToPush as PullToPush
from twisted.internet.asyncioreactor import AsyncioSelectorReactor

__all__ = ("PullToPush", "loop_of", "set_high_water", "unsent_bytes")


def loop_of(reactor: Any) -> asyncio.AbstractEventLoop | None:
    """Return the event loop of an asyncio reactor, None for any other reactor."""
    if isinstance(reactor, AsyncioSelectorReactor):
        return reactor._asyncioEventloop
    return None


def unsent_bytes(transport: Any) -> int:
    """Return how many bytes wait in one of Twisted's transports."""
    # Of TLSMemoryBIOProtocol: what is not encrypted yet.
    unencrypted = sum(map(len, getattr(transport, "_appSendBuffer", ())))
    # Of FileDescriptor; TLSMemoryBIOProtocol passes on to the transport under it.
    unsent = len(getattr(transport, "dataBuffer", b"")) - getattr(transport, "offset", 0)
    return unencrypted + unsent + int(getattr(transport, "_tempDataLen", 0))


def set_high_water(transport: Any, size: int) -> None:
    """Let one of Twisted's transports pause its producer when more than `size` bytes wait."""
    getattr(transport, "transport", transport).bufferSize = size
