"""Workers: a supervisor has the socket, and processes of the same program serve on it."""

import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from socket import socket
from types import FrameType
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IStreamServerEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from aiorest_ws.awaiting import begun
from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.log import logger
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.serving.drain import ECHO_SECONDS
from aiorest_ws.serving.service import ApplicationService, FactoryHook
from aiorest_ws.serving.worker import Child, Worker
from aiorest_ws.transports.loop_port import LoopServerEndpoint, Where
from aiorest_ws.transports.loop_transport import Address, address_of

__all__ = ("SupervisorService", "service_with_workers")

# The pause before a worker that has died is replaced, and how long one lives that begins it anew.
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0
LIVED_SECONDS = 10.0


def service_with_workers(
    count: int,
    factory: RequestHandlerFactory,
    endpoint: IStreamServerEndpoint,
    *,
    startup_hooks: Sequence[FactoryHook],
    shutdown_hooks: Sequence[FactoryHook],
    make_url: Callable[[Any], str],
    banner: Callable[[str], Any] | None = None,
) -> ApplicationService:
    """Return the service of a supervisor or, in a process that one has started, of its worker.

    Raises ImproperlyConfigured for an endpoint that processes cannot share.
    """
    if not isinstance(endpoint, LoopServerEndpoint):
        raise ImproperlyConfigured(
            "Workers share a socket of the asyncio reactor's loop: tcp:, tcp6:, ssl: or unix: "
            "without sslmethod and dhParameters."
        )
    worker = Worker.take()
    if worker is None:
        return SupervisorService(count, factory, endpoint, make_url=make_url, banner=banner)
    service = ApplicationService(
        factory,
        endpoint.on(worker.socket),
        startup_hooks=startup_hooks,
        shutdown_hooks=shutdown_hooks,
        make_url=make_url,
        banner=_say_nothing,
        is_replaced=True,
    )
    worker.serve(service)
    return service


class SupervisorService(ApplicationService):
    """A socket that workers serve on: they are started, replaced when they die, and stopped.

    `listening` fires when all of them listen. SIGHUP replaces one after the other.
    """

    def __init__(
        self,
        count: int,
        factory: RequestHandlerFactory,
        endpoint: LoopServerEndpoint,
        *,
        make_url: Callable[[Any], str],
        banner: Callable[[str], Any] | None = None,
    ) -> None:
        super().__init__(
            factory,
            endpoint,
            startup_hooks=(),
            shutdown_hooks=(),
            make_url=make_url,
            banner=banner,
        )
        self.is_stopping = False
        self._reactor: Any = factory.reactor
        self._shared = _SharedPort(endpoint.where)
        self._slots = [_Slot(number) for number in range(1, count + 1)]
        self._children: set[Child] = set()
        self._is_announced = False
        self._wants_roll = False
        self._is_rolling = False
        self._hands = _Signals(self)

    # The start

    def privilegedStartService(self) -> None:
        """Listen while twistd may still bind a port under 1024."""
        Service.privilegedStartService(self)
        self._listen()

    def startService(self) -> None:
        """Listen, and start the workers when the reactor runs."""
        Service.startService(self)
        self._listen()
        if self.failure is None:
            self._reactor.callWhenRunning(self._begin_workers)

    def _listen(self) -> None:
        if self.port is not None or self.failure is not None:
            return
        try:
            self._shared.startListening()
        except CannotListenError as exc:
            if self._banner is None:
                logger.critical("the server cannot start: %s", exc)
            self._fail(exc)
            return
        self.port = self._shared

    def _fail(self, failure: BaseException) -> None:
        self.failure = failure
        self._reactor.callLater(0, self._stop_reactor)

    def _stop_reactor(self) -> None:
        with suppress(ReactorNotRunning):  # somebody else has stopped it
            self._reactor.stop()

    def _begin_workers(self) -> None:
        if self.running and not self.is_stopping:
            self._hands.begin()
            for slot in self._slots:
                slot.child = self._spawn(slot)
                if slot.child is None:
                    self._fail(SystemExit(1))
                    return

    def _spawn(self, slot: "_Slot") -> Child | None:
        limits = self.factory.limits
        seconds = limits.drain_seconds + 2 * limits.closing_seconds
        try:
            child = Child(slot.number, self._reactor, self._shared.given(), seconds)
        except OSError as exc:
            logger.error("worker %d cannot be started: %s", slot.number, exc)
            return None
        self._children.add(child)
        child.until_ready().addCallback(self._ready, slot)
        child.until_end().addCallback(self._ended, child, slot)
        return child

    def _ready(self, is_ready: bool, slot: "_Slot") -> bool:
        if is_ready:
            slot.was_ready = True
            if not self._is_announced and all(slot.was_ready for slot in self._slots):
                self._is_announced = True
                assert self.port is not None  # noqa: S101
                self._announce(self.port, len(self._slots))
                self.listening.callback(self.port)
                self._roll_if_wanted()
        return is_ready

    # The end of a worker

    def _ended(self, status: int, child: Child, slot: "_Slot") -> int:
        self._children.discard(child)
        if self.is_stopping:
            if not child.is_well:
                self.cut_off += 1
                logger.warning("%s, ended %s", child, child.end_words)
        elif child.is_leaving:
            if not child.is_well:
                logger.warning("%s, which was replaced, ended %s", child, child.end_words)
        elif slot.child is child:
            slot.child = None
            if slot.was_ready:
                self._replace(slot, child)
            elif self.failure is None:
                logger.critical("%s, ended %s before it listened", child, child.end_words)
                self._fail(SystemExit(max(status, 1)))
        return status

    def _replace(self, slot: "_Slot", child: Child) -> None:
        seconds = slot.next_pause(self._reactor.seconds() - child.begun_at)
        logger.warning("%s, ended %s; the next in %g s", child, child.end_words, seconds)
        slot.timer = self._reactor.callLater(seconds, self._respawn, slot)

    def _respawn(self, slot: "_Slot") -> None:
        slot.timer = None
        slot.child = self._spawn(slot)
        if slot.child is None:
            slot.timer = self._reactor.callLater(slot.next_pause(0), self._respawn, slot)

    # The rolling restart

    def roll(self) -> None:
        """Replace all workers, one after the other; once more if that is going on."""
        self._wants_roll = True
        self._roll_if_wanted()

    def _roll_if_wanted(self) -> None:
        if self._wants_roll and self._is_announced and not (self._is_rolling or self.is_stopping):
            self._wants_roll = False
            self._is_rolling = True
            begun(self._roll()).addErrback(_log_failure).addCallback(self._rolled)

    def _rolled(self, _: Any) -> None:
        self._is_rolling = False
        self._roll_if_wanted()

    async def _roll(self) -> None:
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
                    logger.error("%s, ended %s before it listened", child, child.end_words)
                logger.error("the rolling restart is given up; the workers that were there go on")
                return
            old, slot.child = slot.child, child
            slot.cancel_timer()
            slot.pause = 0.0
            if child.status is not None:
                slot.child = None
                self._replace(slot, child)
            if old is not None:
                old.is_leaving = True
                old.stop(do_all=False)
                await old.until_end()
        logger.info("rolling restart: done")

    # The stop

    def stopService(self) -> Deferred[None]:
        """Let the workers answer their calls and end, and wait for that."""
        Service.stopService(self)
        return self._until_stopped()

    def end_now(self, why: str) -> None:
        """Let the workers end at once."""
        logger.critical("all workers end: %s", why)
        for child in list(self._children):
            child.end_now()

    async def _stop(self) -> None:
        self.is_stopping = True
        for slot in self._slots:
            slot.cancel_timer()
        self._shared.stopListening()
        self.port = None
        for child in self._children:
            child.stop(do_all=True)
        await DeferredList([child.until_end() for child in self._children])
        if not self._hands.is_told:
            self._hands.end()


@implementer(IListeningPort)
class _SharedPort:
    """A socket that listens, and that nobody accepts from in this process."""

    def __init__(self, where: Where) -> None:
        self._where = where
        self._socket: socket | None = None
        self._name: Any = None

    def startListening(self) -> None:
        """Listen; raise CannotListenError if that cannot be."""
        self._socket = self._where.open()
        self._name = self._socket.getsockname()

    def stopListening(self) -> Deferred[None]:
        """Close it here, and remove what it has on disk."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self._where.close()
        return succeed(None)

    def getHost(self) -> Address:
        """Return the address that it listens on."""
        return address_of(self._name)

    def given(self) -> tuple[int, int]:
        """Return the descriptor and the backlog."""
        assert self._socket is not None  # noqa: S101
        return self._socket.fileno(), self._where.backlog


class _Slot:
    """The place of a worker: the one that has it, and when the next comes."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.child: Child | None = None
        self.was_ready = False
        self.pause = 0.0
        self.timer: IDelayedCall | None = None

    def next_pause(self, lived: float) -> float:
        """Return how long this place is empty, after a worker that has lived so long."""
        if lived >= LIVED_SECONDS or not self.pause:
            self.pause = FIRST_PAUSE_SECONDS
        else:
            self.pause = min(2 * self.pause, LONGEST_PAUSE_SECONDS)
        return self.pause

    def cancel_timer(self) -> None:
        """Start no other worker."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class _Signals:
    """What a supervisor does on SIGHUP, and on a second signal to stop."""

    def __init__(self, service: SupervisorService) -> None:
        self._service = service
        self._reactor: Any = service.factory.reactor
        self._before: dict[int, Any] = {}
        self.is_told = False
        self._told_at = 0.0

    def begin(self) -> None:
        """Take the place of the reactor's handlers; those of the program stay."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if getattr(handler, "__self__", None) is self._reactor:
                self._before[number] = handler
                signal.signal(number, self._on_stop)
        # nohup lets it be ignored: there is nobody whose terminal it could be.
        if signal.getsignal(signal.SIGHUP) in (signal.SIG_DFL, signal.SIG_IGN):
            self._before[signal.SIGHUP] = signal.getsignal(signal.SIGHUP)
            signal.signal(signal.SIGHUP, self._on_hangup)

    def end(self) -> None:
        """Give back what is still ours."""
        for number, handler in self._before.items():
            if signal.getsignal(number) in (self._on_stop, self._on_hangup):
                signal.signal(number, handler)

    def _on_hangup(self, *_: Any) -> None:
        self._reactor.callFromThread(self._service.roll)

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.is_told:
            self.is_told = True
            self._before[number](number, frame)
            self._told_at = now
        elif self._service.is_stopping or now - self._told_at >= ECHO_SECONDS:
            why = f"a second signal, {signal.Signals(number).name}"
            self._reactor.callFromThread(self._service.end_now, why)


def _log_failure(failure: Failure) -> None:
    logger.error("the rolling restart failed", exc_info=failure.value)


def _say_nothing(line: str) -> None:
    """Leave the banner to the supervisor."""
