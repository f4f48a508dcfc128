"""What the standard library does not say in public: the transport under asyncio's TLS."""

import asyncio
import sys
from types import FrameType
from typing import Any

__all__ = ("stack_of_thread", "transport_under_tls")


def transport_under_tls(transport: asyncio.BaseTransport) -> Any:
    """Return the transport that one of asyncio's TLS transports writes to; None if unknown."""
    return getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)


def stack_of_thread(identifier: int) -> FrameType | None:
    """Return the innermost frame of a running thread."""
    return sys._current_frames().get(identifier)
