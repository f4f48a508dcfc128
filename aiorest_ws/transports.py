"""The reactor that a server runs on, and the endpoints that it listens on."""

import asyncio
import sys
from typing import Any

from twisted.internet import asyncioreactor
from twisted.internet.interfaces import IReactorCore

__all__ = ("describe_reactor", "install_reactor")


def install_reactor() -> Any:
    """Return the reactor; install the asyncio one, on uvloop where it exists, if there is none."""
    if "twisted.internet.reactor" not in sys.modules:
        loop = _new_loop()
        asyncio.set_event_loop(loop)
        asyncioreactor.install(loop)
    from twisted.internet import reactor

    return reactor


def describe_reactor(reactor: IReactorCore) -> str:
    """Name a reactor, and the asyncio loop under it if there is one."""
    name = type(reactor).__name__
    if isinstance(reactor, asyncioreactor.AsyncioSelectorReactor):
        loop = reactor._asyncioEventloop
        return f"{name} on {type(loop).__module__}.{type(loop).__qualname__}"
    return name


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.SelectorEventLoop()
    return uvloop.new_event_loop()
