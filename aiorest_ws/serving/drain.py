"""The end of a server: every call that was accepted is answered, and the end has a bound."""

import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.task import deferLater

from aiorest_ws.log import logger
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.status import WS_SERVICE_RESTART
from aiorest_ws.transports.unsent import unsent_bytes

__all__ = ("SignalWatch", "Watchdog", "drain")

# Connections that are closed at once, and the pause after them: all of their clients will connect
# again, to whoever takes over.
BATCH = 500
BATCH_SECONDS = 0.05

# A signal so soon after the first, before anything has come of that, is the same one: `timeout`
# sends it to its child, and to the group that it is in.
ECHO_SECONDS = 0.005

# What a last line in the log may take; a thread may be stopped with the lock of the log.
LAST_WORDS_SECONDS = 1


async def drain(factory: RequestHandlerFactory) -> int:
    """Answer the calls that run, and close all connections; return how many were cut off.

    What arrives in the meantime is answered with 503. A call that is not done in `drain_seconds`
    is, too, and so are streams, which may have no end, after `closing_seconds`. A connection is
    cut off if its client does not read its last replies.
    """
    reactor, limits = factory.reactor, factory.limits
    end = reactor.seconds() + limits.drain_seconds
    streams_end = reactor.seconds() + min(limits.closing_seconds, limits.drain_seconds)
    for connection in list(factory.connections):
        connection.drain()
    while True:
        still_open = [one for one in factory.connections if one.state == one.STATE_OPEN]
        if not still_open:
            break
        if reactor.seconds() >= end:
            cut = sum(connection.cut_calls() for connection in still_open)
            if cut:
                logger.warning("%d calls were not done in %g s: 503", cut, limits.drain_seconds)
            done = still_open
        else:
            if reactor.seconds() >= streams_end:
                for connection in still_open:
                    if connection.has_only_streams:
                        connection.cut_calls()
            done = [one for one in still_open if not one.running][:BATCH]
        for connection in done:
            try:
                connection.finish(WS_SERVICE_RESTART)
            except Exception as exc:  # noqa: BLE001  an `onMessage` of the application's
                logger.error("%s could not be closed", connection.peer, exc_info=exc)
                connection._transport.abortConnection()
        await deferLater(reactor, BATCH_SECONDS)
    try:
        await factory.last_closed().addTimeout(limits.closing_seconds, reactor)
    except DeferredTimeout:
        return _abort(factory)
    return 0


def _abort(factory: RequestHandlerFactory) -> int:
    left = list(factory.connections)
    unread = sum(unsent_bytes(connection._transport) > 0 for connection in left)
    logger.info("%d connections did not close, and are aborted", len(left))
    if unread:
        logger.warning("%d of them have not read their last replies", unread)
    for connection in left:
        connection._transport.abortConnection()
    return unread


class Watchdog:
    """A thread that ends the process in time, whatever the thread of the reactor is doing.

    The status is 0 if every call that was accepted has been answered, else 1.
    """

    def __init__(self, factory: RequestHandlerFactory, cut_off: Callable[[], int]) -> None:
        self._factory = factory
        self._cut_off = cut_off
        self._watched = threading.get_ident()
        self._is_over: threading.Event | None = None

    def begin(self) -> None:
        """End the process when the time is up, unless `cancel` comes before."""
        if self._is_over is not None:
            return
        self._is_over = threading.Event()
        limits = self._factory.limits
        seconds = limits.drain_seconds + 2 * limits.closing_seconds
        threading.Thread(
            target=self._watch, args=(self._is_over, seconds), name="aiorest-ws end", daemon=True
        ).start()

    def cancel(self) -> None:
        """Let the process live."""
        if self._is_over is not None:
            self._is_over.set()
            self._is_over = None

    def end_now(self, why: str) -> None:
        """End the process."""
        status = 1 if self._unanswered() else 0
        words = threading.Thread(target=self._say, args=(why, status), daemon=True)
        words.start()
        words.join(LAST_WORDS_SECONDS)
        os._exit(status)

    def _watch(self, is_over: threading.Event, seconds: float) -> None:
        if not is_over.wait(seconds):
            self.end_now(f"the time to stop, {seconds:g} s, is over")

    def _unanswered(self) -> int:
        waiting = sum(connection.unanswered for connection in list(self._factory.connections))
        return waiting + self._cut_off() + self._is_answering()

    def _is_answering(self) -> bool:
        """Tell whether the watched thread is inside of a message."""
        frame = sys._current_frames().get(self._watched)
        while frame is not None:
            if frame.f_code.co_name == "onMessage":
                return True
            frame = frame.f_back
        return False

    def _say(self, why: str, status: int) -> None:
        logger.critical("the process ends, status %d: %s", status, why)
        for connection in list(self._factory.connections):
            if connection.unanswered:
                logger.critical(
                    "%s: cut off with %d calls: %s",
                    connection.peer,
                    connection.unanswered,
                    ", ".join(map(repr, connection.running)),
                )
        frame = sys._current_frames().get(self._watched)
        if frame is not None:
            stack = "".join(traceback.format_stack(frame))
            logger.critical("the thread of the reactor was here:\n%s", stack)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        logging.shutdown()


class SignalWatch:
    """See to it that the first signal to stop starts the watchdog, and the second one ends all.

    A handler of Python's runs while a view blocks; the reactor would get to know only later.
    """

    _SIGNALS = ("SIGINT", "SIGTERM", "SIGBREAK")

    def __init__(self, factory: RequestHandlerFactory, watchdog: Watchdog) -> None:
        self._factory = factory
        self._reactor: Any = factory.reactor
        self._watchdog = watchdog
        self._before: dict[int, Any] = {}
        self.is_told = False
        self._told_at = 0.0
        self._is_over = False

    def begin(self) -> None:
        """Take the place of the reactor's handlers, if it has any."""
        if threading.current_thread() is not threading.main_thread():
            return
        for name in self._SIGNALS:
            number = getattr(signal, name, None)
            handler = signal.getsignal(number) if number is not None else None
            # A program that handles a signal itself goes on doing so.
            owner = getattr(handler, "__self__", None)
            if number is not None and (owner is self._reactor or isinstance(owner, SignalWatch)):
                self._before[number] = handler
                signal.signal(number, self._on_signal)

    def end(self) -> None:
        """Give the reactor its handlers back, or only pass signals on if somebody came later."""
        self._is_over = True
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._is_over:
            self._before[number](number, frame)
            return
        now = time.monotonic()
        if self.is_told:
            if not self._factory.is_stopping and now - self._told_at < ECHO_SECONDS:
                return
            self._watchdog.end_now(f"a second signal, {signal.Signals(number).name}")
        self.is_told = True
        self._watchdog.begin()
        self._before[number](number, frame)
        self._told_at = time.monotonic()
