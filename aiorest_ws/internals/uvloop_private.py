"""What uvloop does not say in public: the transport under its TLS."""

import asyncio
import gc
from typing import Any

__all__ = ("is_uvloop", "transport_under_tls")


def is_uvloop(loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether a loop is uvloop's, which may not be installed."""
    return type(loop).__module__.partition(".")[0] == "uvloop"


def transport_under_tls(transport: asyncio.BaseTransport) -> Any:
    """Return the transport that one of uvloop's TLS transports writes to; None if unknown."""
    protocol = transport.get_extra_info("uvloop.sslproto")
    # It is compiled and has no attributes; the garbage collector knows what it refers to.
    for referent in gc.get_referents(protocol):
        if referent is not transport and hasattr(referent, "get_write_buffer_size"):
            return referent
    return None
