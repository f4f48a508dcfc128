"""The bound on the time to stop, for a process whose reactor thread may be blocked by a view."""

import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from aiorest_ws.internals.stdlib_private import stack_of_thread
from aiorest_ws.log import logger
from aiorest_ws.request import RequestHandlerFactory, RequestHandlerProtocol

__all__ = ("SignalWatch", "Watchdog", "is_duplicate_signal")

# `timeout` sends a signal to its child, and once more to the process group of the child.
DUPLICATE_SIGNAL_SECONDS = 0.005

# How long the last lines may take: the blocked thread may hold the lock of the log.
LOG_SECONDS = 1


class Watchdog:
    """Ends the process in time, from a thread, whatever the reactor thread is doing.

    The exit status is 0 if every accepted call has been answered, else 1. `count_cut_off` returns
    how many connections were closed with unread replies.
    """

    def __init__(self, factory: RequestHandlerFactory, count_cut_off: Callable[[], int]) -> None:
        self._factory = factory
        self._count_cut_off = count_cut_off
        self._watched_thread = threading.get_ident()
        self._cancelled: threading.Event | None = None

    @property
    def is_started(self) -> bool:
        """Whether it will end the process."""
        return self._cancelled is not None

    def start(self) -> None:
        """End the process when the time to stop is over, unless `cancel` is called before."""
        if self._cancelled is not None:
            return
        self._cancelled = threading.Event()
        seconds = self._factory.limits.stop_seconds
        threading.Thread(
            target=self._watch, args=(self._cancelled, seconds), name="aiorest-ws end", daemon=True
        ).start()

    def cancel(self) -> None:
        """Do not end the process."""
        if self._cancelled is not None:
            self._cancelled.set()
            self._cancelled = None

    def end_now(self, why: str) -> None:
        """Log what is unanswered, and end the process."""
        status = 1 if self._has_unanswered() else 0
        log = threading.Thread(target=self._log_end, args=(why, status), daemon=True)
        log.start()
        log.join(LOG_SECONDS)
        os._exit(status)

    def _watch(self, cancelled: threading.Event, seconds: float) -> None:
        if not cancelled.wait(seconds):
            self.end_now(f"it did not stop in {seconds:g} s")

    def _has_unanswered(self) -> bool:
        connections = list(self._factory.connections)
        return (
            any(connection.unanswered for connection in connections)
            or self._count_cut_off() > 0
            or self._is_in_on_message(connections)
        )

    def _is_in_on_message(self, connections: list[RequestHandlerProtocol]) -> bool:
        """Tell whether the reactor thread is handling a message of one of the connections."""
        kinds: set[Any] = {RequestHandlerProtocol, *map(type, connections)}
        handlers = {_code_of(kind.onMessage) for kind in kinds} - {None}
        frame = self._watched_frame()
        while frame is not None:
            if frame.f_code in handlers:
                return True
            frame = frame.f_back
        return False

    def _watched_frame(self) -> FrameType | None:
        return stack_of_thread(self._watched_thread)

    def _log_end(self, why: str, status: int) -> None:
        logger.critical("the process ends, status %d: %s", status, why)
        for connection in list(self._factory.connections):
            if connection.unanswered:
                logger.critical(
                    "%s: cut off with %d unanswered calls: %s",
                    connection.peer,
                    connection.unanswered,
                    ", ".join(map(repr, connection.running)),
                )
        frame = self._watched_frame()
        if frame is not None:
            stack = "".join(traceback.format_stack(frame))
            logger.critical("the stack of the reactor thread:\n%s", stack)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        logging.shutdown()


def _code_of(function: Any) -> CodeType | None:
    code: CodeType | None = getattr(function, "__code__", None)
    return code


class SignalWatch:
    """Starts the watchdog on the first signal to stop, and ends the process on the second.

    It does so in Python's signal handlers, which run while a view blocks the reactor thread.
    """

    _SIGNALS = ("SIGINT", "SIGTERM", "SIGBREAK")

    def __init__(self, factory: RequestHandlerFactory, watchdog: Watchdog) -> None:
        self._factory = factory
        self._reactor: Any = factory.reactor
        self._watchdog = watchdog
        self._replaced_handlers: dict[int, Any] = {}
        self.has_signal = False
        self._signalled_at = 0.0
        self._ignores_next = False
        self._is_ended = False

    def start(self) -> None:
        """Replace the signal handlers of the reactor, if it has any."""
        if threading.current_thread() is not threading.main_thread():
            return
        for name in self._SIGNALS:
            number = getattr(signal, name, None)
            handler = signal.getsignal(number) if number is not None else None
            # A program's own handlers stay.
            owner = getattr(handler, "__self__", None)
            if number is not None and (owner is self._reactor or isinstance(owner, SignalWatch)):
                self._replaced_handlers[number] = handler
                signal.signal(number, self._on_signal)

    def end(self) -> None:
        """Put the handlers of the reactor back; where another one came later, only pass on."""
        self._is_ended = True
        for number, handler in self._replaced_handlers.items():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, handler)

    def ignore_next(self) -> None:
        """Ignore one signal after the next one.

        systemd sends SIGTERM to all processes of a service: a worker gets it, and the order of
        its supervisor.
        """
        self._ignores_next = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.has_signal and self._ignores_next:
            self._ignores_next = False
            return
        if self._is_ended:
            self._replaced_handlers[number](number, frame)
            return
        if self.has_signal:
            if not self._factory.is_stopping and is_duplicate_signal(self._signalled_at):
                return
            self._watchdog.end_now(f"a second signal, {signal.Signals(number).name}")
        self.has_signal = True
        self._watchdog.start()
        self._replaced_handlers[number](number, frame)
        self._signalled_at = time.monotonic()


def is_duplicate_signal(first_at: float) -> bool:
    """Tell whether a signal is the one of `first_at` once more, by the monotonic clock."""
    return time.monotonic() - first_at < DUPLICATE_SIGNAL_SECONDS
