"""The reactor of a server: asyncio's, on uvloop where that is installed."""

import asyncio
import sys
import threading
import time
from typing import Any

from twisted.internet import asyncioreactor
from twisted.internet.error import ReactorNotRestartable
from twisted.internet.interfaces import IReactorCore

from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.internals.stdlib_private import loop_that_is_set
from aiorest_ws.internals.twisted_private import loop_of

__all__ = (
    "check_can_run",
    "describe_reactor",
    "install_reactor",
    "is_main_thread",
    "run_reactor",
)


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


def check_can_run() -> None:
    """Raise ImproperlyConfigured, which says what to do, if no reactor can run in this thread."""
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    if reactor is not None and reactor.running:
        raise ImproperlyConfigured(
            "The reactor of this process runs already: start `app.tcp_service(host, port)` with "
            "`startService()` in its thread, instead of `app.run()`."
        )
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise ImproperlyConfigured(
        "An event loop runs in this thread already: call `app.run()` before it starts, or in a "
        "thread of its own."
    )


def run_reactor(reactor: Any) -> None:
    """Run the reactor; outside of the main thread without handlers of signals.

    Raises ImproperlyConfigured if it has run before.
    """
    try:
        reactor.run(installSignalHandlers=is_main_thread())
    except ReactorNotRestartable:
        raise ImproperlyConfigured(
            "A reactor runs once in a process: serve all applications at once, each with "
            "`app.tcp_service(host, port).startService()`, or call `app.run()` in another process."
        ) from None


def is_main_thread() -> bool:
    """Tell whether this is the thread that gets signals."""
    return threading.current_thread() is threading.main_thread()


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
