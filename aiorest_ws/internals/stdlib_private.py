"""What the standard library does not say in public: the transport under asyncio's TLS."""

import asyncio
import atexit
import os
import sys
from types import FrameType
from typing import Any, cast

__all__ = ("exit_with", "loop_that_is_set", "stack_of_thread", "transport_under_tls")


def transport_under_tls(transport: asyncio.BaseTransport) -> Any:
    """Return the transport that one of asyncio's TLS transports writes to; None if unknown."""
    return getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)


def loop_that_is_set() -> asyncio.AbstractEventLoop | None:
    """Return the loop that a program has set in this thread, unless it runs or is closed."""
    loop: Any
    if sys.version_info >= (3, 14):
        try:
            loop = asyncio.get_event_loop()
        except RuntimeError:
            return None
    else:
        # Its `get_event_loop` makes a loop if there is none.
        policy: Any = asyncio.get_event_loop_policy()
        loop = getattr(getattr(policy, "_local", None), "_loop", None)
    is_usable = loop is not None and not (loop.is_closed() or loop.is_running())
    return cast("asyncio.AbstractEventLoop", loop) if is_usable else None


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
