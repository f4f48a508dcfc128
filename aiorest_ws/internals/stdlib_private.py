"""What the standard library does not say in public: the transport under asyncio's TLS."""

import asyncio
import atexit
import os
import sys
from types import FrameType
from typing import Any

__all__ = ("exit_with", "stack_of_thread", "transport_under_tls")


def transport_under_tls(transport: asyncio.BaseTransport) -> Any:
    """Return the transport that one of asyncio's TLS transports writes to; None if unknown."""
    return getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)


def stack_of_thread(identifier: int) -> FrameType | None:
    """Return the innermost frame of a running thread."""
    return sys._current_frames().get(identifier)


def exit_with(status: int) -> None:
    """Let the process end with `status`, after everything that it does at its end."""
    # A function that `atexit` calls cannot change the status, but end the process, which skips
    # the functions that were registered before.
    atexit.unregister(_exit)
    atexit.register(_exit, status)


def _exit(status: int) -> None:
    atexit.unregister(_exit)
    atexit._run_exitfuncs()
    # twist and twistd replace the first two.
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.flush()
    os._exit(status)
