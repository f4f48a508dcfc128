"""What Twisted does not say in public: the loop under its reactor, who runs it, unsent bytes."""

import asyncio
import sys
from types import FrameType
from typing import Any

from twisted.internet._producer_helpers import _PullToPush as PullToPush
from twisted.internet.asyncioreactor import AsyncioSelectorReactor

__all__ = ("PullToPush", "is_run_by_twisted", "loop_of", "set_high_water", "unsent_bytes")

# The functions that run a program under twist and under twistd.
_RUNNERS = {("twisted.application.twist._twist", "main"), ("twisted.application.app", "run")}


def loop_of(reactor: Any) -> asyncio.AbstractEventLoop | None:
    """Return the event loop of an asyncio reactor, None for any other reactor."""
    if isinstance(reactor, AsyncioSelectorReactor):
        return reactor._asyncioEventloop
    return None


def is_run_by_twisted() -> bool:
    """Tell whether twist or twistd runs this thread."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if (frame.f_globals.get("__name__"), frame.f_code.co_name) in _RUNNERS:
            return True
        frame = frame.f_back
    return False


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
