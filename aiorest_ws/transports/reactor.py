"""The reactor of a server: asyncio's, on uvloop where that is installed."""

import asyncio
import sys
import time
from typing import Any

from twisted.internet import asyncioreactor
from twisted.internet.interfaces import IReactorCore

from aiorest_ws.internals.stdlib_private import loop_that_is_set
from aiorest_ws.internals.twisted_private import loop_of

__all__ = ("describe_reactor", "install_reactor")


def install_reactor() -> Any:
    """Return the reactor; if none is installed, install asyncio's.

    It runs on the loop that the program has set, with its tasks, if there is one, else on a new
    one, uvloop's if possible.
    """
    if "twisted.internet.reactor" not in sys.modules:
        loop = loop_that_is_set()
        if loop is None:
            loop = _new_loop()
            asyncio.set_event_loop(loop)
        asyncioreactor.install(loop)
        from twisted.internet import reactor

        # Twisted's is the wall clock: set forward, it would fire all timers at once.
        reactor.seconds = time.monotonic  # type: ignore[method-assign]
    from twisted.internet import reactor

    return reactor


def describe_reactor(reactor: IReactorCore) -> str:
    """Return the name of a reactor, and that of its asyncio loop if it has one."""
    name = type(reactor).__name__
    loop = loop_of(reactor)
    return name if loop is None else f"{name} on {type(loop).__module__}.{type(loop).__qualname__}"


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.SelectorEventLoop()
    return uvloop.new_event_loop()
