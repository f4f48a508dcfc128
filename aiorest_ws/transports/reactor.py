"""The reactor that a server runs on: asyncio's, on uvloop where it exists."""

import asyncio
import sys
import time
from typing import Any

from twisted.internet import asyncioreactor
from twisted.internet.interfaces import IReactorCore

__all__ = ("describe_reactor", "install_reactor", "loop_of")


def install_reactor() -> Any:
    """Return the reactor; install the asyncio one, on uvloop where it exists, if there is none."""
    if "twisted.internet.reactor" not in sys.modules:
        loop = _new_loop()
        asyncio.set_event_loop(loop)
        asyncioreactor.install(loop)
        from twisted.internet import reactor

        # Twisted's clock is the wall's: set forward, it would let all timers go at once.
        reactor.seconds = time.monotonic  # type: ignore[method-assign]
    from twisted.internet import reactor

    return reactor


def describe_reactor(reactor: IReactorCore) -> str:
    """Name a reactor, and the asyncio loop under it if there is one."""
    name = type(reactor).__name__
    loop = loop_of(reactor)
    return name if loop is None else f"{name} on {type(loop).__module__}.{type(loop).__qualname__}"


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.SelectorEventLoop()
    return uvloop.new_event_loop()


def loop_of(reactor: Any) -> asyncio.AbstractEventLoop | None:
    if isinstance(reactor, asyncioreactor.AsyncioSelectorReactor):
        return reactor._asyncioEventloop
    return None
