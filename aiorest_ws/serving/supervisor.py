"""A supervisor: it has the listening socket, and starts the workers that serve on it."""

import signal
import threading
import time
from contextlib import suppress
from socket import socket
from types import FrameType
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.python.failure import Failure
from zope.interface import implementer

from aiorest_ws.awaiting import start
from aiorest_ws.log import logger
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.serving.banner import Banner
from aiorest_ws.serving.child import Child
from aiorest_ws.serving.failure import end_with, report
from aiorest_ws.serving.service import Once
from aiorest_ws.serving.watchdog import is_duplicate_signal
from aiorest_ws.serving.worker_watch import WorkerWatch
from aiorest_ws.transports.loop_port import LoopServerEndpoint
from aiorest_ws.transports.sockets import Address, ListeningSocket, address_of

__all__ = ("Slot", "Supervisor")

# The pause before a worker that has died is replaced doubles up to the maximum, and starts anew
# after a worker that has run for long enough.
MIN_PAUSE_SECONDS = 0.1
MAX_PAUSE_SECONDS = 10.0
RESET_PAUSE_SECONDS = 10.0


class Supervisor:
    """The server of workers: it starts them, replaces those that die, and stops them.

    `listening` fires when all of them listen. SIGHUP replaces one after the other. `cut_off`
    counts workers that did not stop cleanly.
    """

    def __init__(
        self,
        workers: int,
        factory: RequestHandlerFactory,
        endpoint: LoopServerEndpoint,
        banner: Banner,
    ) -> None:
        self.factory = factory
        self.failure: BaseException | None = None
        self.listening: Deferred[IListeningPort] = Deferred()
        self.port: IListeningPort | None = None
        self.cut_off = 0
        self.is_stopping = False
        self._reactor: Any = factory.reactor
        self._banner = banner
        self._shared = _SharedPort(endpoint.where)
        self._slots = [Slot(number) for number in range(1, workers + 1)]
        self._children: set[Child] = set()
        self._is_announced = False
        self._wants_restart = False
        self._is_restarting = False
        self._worker_watch = WorkerWatch(self._reactor, self._children)
        self._signals = _Signals(self)
        self._stop_once = Once(self._stop)

    # Start

    def prepare(self) -> None:
        """Listen."""
        if self.port is not None or self.failure is not None:
            return
        try:
            self._shared.startListening()
        except CannotListenError as exc:
            report(exc, is_raised=self._banner.is_printed)
            self._fail(exc)
            return
        self.port = self._shared

    def start(self) -> None:
        """Listen, and start the workers when the reactor runs."""
        self.prepare()
        if self.failure is None:
            self._reactor.callWhenRunning(self._start_workers)

    def _fail(self, failure: BaseException) -> None:
        self.failure = failure
        end_with(failure)
        self._reactor.callLater(0, self._stop_reactor)

    def _stop_reactor(self) -> None:
        with suppress(ReactorNotRunning):  # the program has stopped it
            self._reactor.stop()

    def _start_workers(self) -> None:
        if not self.is_stopping:
            self._signals.start()
            self._worker_watch.start()
            for slot in self._slots:
                slot.child = self._spawn(slot)
                if slot.child is None:
                    self._fail(SystemExit(1))
                    return

    def _spawn(self, slot: "Slot") -> Child | None:
        try:
            child = Child(
                slot.number,
                self._reactor,
                self._shared.inheritable(),
                self.factory.limits.stop_seconds,
            )
        except OSError as exc:
            logger.error("worker %d cannot be started: %s", slot.number, exc)
            return None
        self._children.add(child)
        child.until_ready().addCallback(self._ready, slot)
        child.until_end().addCallback(self._ended, child, slot)
        return child

    def _ready(self, is_ready: bool, slot: "Slot") -> bool:
        if is_ready:
            slot.was_ready = True
            if self.is_stopping or self._is_announced:
                return is_ready
            if all(slot.was_ready for slot in self._slots):
                self._is_announced = True
                self._banner.show(self._shared, len(self._slots))
                self.listening.callback(self._shared)
                self._restart_if_wanted()
        return is_ready

    # The end of a worker

    def _ended(self, status: int, child: Child, slot: "Slot") -> int:
        self._children.discard(child)
        if self.is_stopping:
            if not child.has_stopped_cleanly:
                self.cut_off += 1
                logger.warning("%s, ended %s", child, child.exit_description)
        elif child.is_replaced:
            if not child.has_stopped_cleanly:
                logger.warning("%s, which was replaced, ended %s", child, child.exit_description)
        elif slot.child is child:
            slot.child = None
            if slot.was_ready:
                self._replace(slot, child)
            elif self.failure is None:
                logger.critical("%s, ended %s before it listened", child, child.exit_description)
                self._fail(SystemExit(max(status, 1)))
        return status

    def _replace(self, slot: "Slot", child: Child) -> None:
        seconds = slot.next_pause(self._reactor.seconds() - child.started_at)
        logger.warning("%s, ended %s; the next in %g s", child, child.exit_description, seconds)
        slot.timer = self._reactor.callLater(seconds, self._respawn, slot)

    def _respawn(self, slot: "Slot") -> None:
        slot.timer = None
        slot.child = self._spawn(slot)
        if slot.child is None:
            slot.timer = self._reactor.callLater(slot.next_pause(0), self._respawn, slot)

    # Rolling restart

    def restart(self) -> None:
        """Replace all workers, one after the other; called meanwhile, do so once more."""
        self._wants_restart = True
        self._restart_if_wanted()

    def _restart_if_wanted(self) -> None:
        is_possible = self._is_announced and not (self._is_restarting or self.is_stopping)
        if self._wants_restart and is_possible:
            self._wants_restart = False
            self._is_restarting = True
            start(self._restart()).addErrback(_log_failure).addCallback(self._restarted)

    def _restarted(self, _: Any) -> None:
        self._is_restarting = False
        self._restart_if_wanted()

    async def _restart(self) -> None:
        logger.info("rolling restart of %d workers", len(self._slots))
        for slot in self._slots:
            if self.is_stopping:
                return
            child = self._spawn(slot)
            is_ready = child is not None and await child.until_ready()
            if self.is_stopping:
                return
            if child is None or not is_ready:
                if child is not None:
                    await child.until_end()
                    logger.error("%s, ended %s before it listened", child, child.exit_description)
                logger.error("the rolling restart is aborted; the workers of before go on")
                return
            old, slot.child = slot.child, child
            slot.cancel_timer()
            slot.pause = 0.0
            if child.status is not None:
                slot.child = None
                self._replace(slot, child)
            if old is not None:
                old.is_replaced = True
                old.stop(do_all=False)
                await old.until_end()
        logger.info("rolling restart: done")

    # Stop

    def stop(self, *, ends_process: bool) -> Deferred[None]:  # noqa: ARG002  a worker's needs it
        """Tell the workers to answer their calls and end, and wait for that."""
        return self._stop_once()

    def end_now(self, why: str) -> None:
        """Tell the workers to end at once."""
        logger.critical("all workers end: %s", why)
        for child in list(self._children):
            child.end_now()

    async def _stop(self) -> None:
        self.is_stopping = True
        self._worker_watch.stop()
        for slot in self._slots:
            slot.cancel_timer()
        self._shared.stopListening()
        self.port = None
        for child in self._children:
            child.stop(do_all=True)
        await DeferredList([child.until_end() for child in self._children])
        if not self._signals.has_signal:
            self._signals.end()


@implementer(IListeningPort)
class _SharedPort:
    """A listening socket that only other processes accept from."""

    def __init__(self, where: ListeningSocket) -> None:
        self._where = where
        self._sockets: list[socket] = []
        self._name: Any = None

    def startListening(self) -> None:
        """Listen; raise CannotListenError."""
        self._sockets = self._where.open_all()
        self._name = self._sockets[0].getsockname()

    def stopListening(self) -> Deferred[None]:
        """Close the sockets in this process, and remove their file."""
        if self._sockets:
            for one in self._sockets:
                one.close()
            self._sockets = []
            self._where.close()
        return succeed(None)

    def getHost(self) -> Address:
        """Return the address of the socket."""
        return address_of(self._name)

    def inheritable(self) -> tuple[list[int], int]:
        """Return the descriptors of the listening sockets, and their backlog."""
        return [one.fileno() for one in self._sockets], self._where.backlog


class Slot:
    """The place of one worker: its process, and the pause before the next one."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.child: Child | None = None
        self.was_ready = False
        self.pause = 0.0
        self.timer: IDelayedCall | None = None

    def next_pause(self, lived: float) -> float:
        """Return the pause in seconds after a worker that has lived for `lived` seconds."""
        if lived >= RESET_PAUSE_SECONDS or not self.pause:
            self.pause = MIN_PAUSE_SECONDS
        else:
            self.pause = min(2 * self.pause, MAX_PAUSE_SECONDS)
        return self.pause

    def cancel_timer(self) -> None:
        """Start no other worker."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class _Signals:
    """The signal handlers of a supervisor: SIGHUP, and a second signal to stop."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._reactor: Any = supervisor.factory.reactor
        self._replaced_handlers: dict[int, Any] = {}
        self.has_signal = False
        self._signalled_at = 0.0

    def start(self) -> None:
        """Replace the handlers of the reactor; a program's own handlers stay."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if getattr(handler, "__self__", None) is self._reactor:
                self._replaced_handlers[number] = handler
                signal.signal(number, self._on_stop)
        # Also where nohup ignores it: no terminal is left that could send it.
        if signal.getsignal(signal.SIGHUP) in (signal.SIG_DFL, signal.SIG_IGN):
            self._replaced_handlers[signal.SIGHUP] = signal.getsignal(signal.SIGHUP)
            signal.signal(signal.SIGHUP, self._on_hangup)

    def end(self) -> None:
        """Put back the handlers that nobody else has replaced since."""
        for number, handler in self._replaced_handlers.items():
            if signal.getsignal(number) in (self._on_stop, self._on_hangup):
                signal.signal(number, handler)

    def _on_hangup(self, *_: Any) -> None:
        self._reactor.callFromThread(self._supervisor.restart)

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        is_duplicate = is_duplicate_signal(self._signalled_at)
        if not self.has_signal:
            self.has_signal = True
            self._replaced_handlers[number](number, frame)
            self._signalled_at = time.monotonic()
        elif self._supervisor.is_stopping or not is_duplicate:
            why = f"a second signal, {signal.Signals(number).name}"
            self._reactor.callFromThread(self._supervisor.end_now, why)


def _log_failure(failure: Failure) -> None:
    logger.error("the rolling restart failed", exc_info=failure.value)
