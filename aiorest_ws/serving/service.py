"""`ApplicationService`: what Twisted starts and stops, around the process that serves."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextvars import copy_context
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IStreamServerEndpoint,
)
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from aiorest_ws.awaiting import drive, failure_of, shield, start
from aiorest_ws.log import logger
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.serving.banner import Banner
from aiorest_ws.serving.drain import drain
from aiorest_ws.serving.failure import end_with, report
from aiorest_ws.serving.loop_watch import LoopWatch
from aiorest_ws.serving.watchdog import SignalWatch, Watchdog
from aiorest_ws.transports.forked import guard_port
from aiorest_ws.transports.reactor import is_main_thread, run_reactor
from aiorest_ws.transports.reserved import Reservation, reserve

__all__ = ("ApplicationService", "FactoryHook", "Once", "Server", "ServerProcess")

FactoryHook = Callable[[Any], Any]

# How long a started opening handshake may still take when another worker takes over.
HANDSHAKE_SECONDS = 1.0


class Server(Protocol):
    """What a service starts and stops: a process that serves, or the supervisor of several."""

    factory: RequestHandlerFactory
    listening: Deferred[IListeningPort]
    port: IListeningPort | None
    failure: BaseException | None
    cut_off: int

    def prepare(self) -> None:
        """Do what needs the privileges that twistd gives up later."""

    def start(self) -> None:
        """Start to listen; without success set `failure` and stop the reactor."""

    def stop(self, *, ends_process: bool) -> Deferred[None]:
        """Stop; called again, return another Deferred for the same end."""

    def end_now(self, why: str) -> None:
        """End without waiting for calls."""


class ApplicationService(Service):
    """An application that listens: Twisted starts and stops it.

    Under twist and twistd a server that cannot start ends the process with status 1.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self._ends_process = False
        self._made_in = os.getpid()

    @property
    def factory(self) -> RequestHandlerFactory:
        """The factory of the connections."""
        return self.server.factory

    @property
    def listening(self) -> Deferred[IListeningPort]:
        """A Deferred that fires with the port when the server, or all of its workers, listen."""
        return self.server.listening

    @property
    def port(self) -> IListeningPort | None:
        """The port, while the server listens."""
        return self.server.port

    @property
    def failure(self) -> BaseException | None:
        """The exception that kept the server from starting, which also stops the reactor."""
        return self.server.failure

    @property
    def cut_off(self) -> int:
        """How many clients were cut off from their last replies, or how many workers failed."""
        return self.server.cut_off

    def privilegedStartService(self) -> None:
        """Take the address while twistd may still bind a port under 1024.

        In a process that twistd has forked, raise the exception that prevents it.
        """
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self.server.prepare()
        self._tell_parent()

    def startService(self) -> None:
        """Run the start-up hooks, then listen."""
        super().startService()  # type: ignore[no-untyped-call]
        self.server.start()
        self._tell_parent()

    def _tell_parent(self) -> None:
        # The parent of a daemon waits until its services are started: it learns of exceptions.
        if self.failure is not None and os.getpid() != self._made_in:
            sys.tracebacklimit = 0  # the log has the line that explains it
            raise self.failure from None

    def stopService(self) -> Deferred[None]:
        """Stop listening, answer the running calls, close every connection with 1012.

        Then the shutdown hooks run. It takes at most `drain_seconds` and twice `closing_seconds`
        of the factory's limits: after that the process is ended.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        return self.server.stop(ends_process=self._ends_process)

    def end_now(self, why: str) -> None:
        """End the process, with status 1 if a call has not been answered."""
        self.server.end_now(why)

    def run(self) -> None:
        """Run the reactor with this service until it is stopped; raise its `failure`.

        Raises SystemExit(1) if a client was cut off from its last replies. The program must exit
        soon after that: the time to stop began with the signal, and when it is over the process
        is ended. In another thread than the main one, it gets no signals, and does not end the
        process.
        """
        reactor = self.factory.reactor
        stop = self._stop_with_process if is_main_thread() else self.stopService
        reactor.addSystemEventTrigger("before", "shutdown", stop)
        self.startService()
        # What the program has made so far stays: the garbage collector, which large messages
        # trigger often, need not look at it each time.
        gc.collect()
        gc.freeze()
        run_reactor(reactor)
        if self.failure is not None:
            raise self.failure
        if self.cut_off:
            raise SystemExit(1)

    def _stop_with_process(self) -> Deferred[None]:
        self._ends_process = True
        return self.stopService()


class Once:
    """Runs a coroutine function once, for all who call."""

    def __init__(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._function = function
        self._running: Deferred[None] | None = None

    def __call__(self) -> Deferred[None]:
        if self._running is None:
            self._running = start(self._function())
        return shield(self._running)


class ServerProcess:
    """The server of this process: it starts, listens, and stops in time.

    With `is_replaced` other processes go on accepting on its socket when it stops.
    """

    def __init__(
        self,
        factory: RequestHandlerFactory,
        endpoint: IStreamServerEndpoint,
        banner: Banner,
        *,
        startup_hooks: Sequence[FactoryHook] = (),
        shutdown_hooks: Sequence[FactoryHook] = (),
        is_replaced: bool = False,
    ) -> None:
        self.factory = factory
        self.failure: BaseException | None = None
        self.listening: Deferred[IListeningPort] = Deferred()
        self.port: IListeningPort | None = None
        self.cut_off = 0
        self._endpoint = endpoint
        self._reservation: Reservation | None = None
        self._banner = banner
        self._startup_hooks = startup_hooks
        self._shutdown_hooks = shutdown_hooks
        self._is_replaced = is_replaced
        self._is_started = False
        self._delayed_start: IDelayedCall | None = None
        self._starting: Deferred[Any] | None = None
        self._is_start_cancelled = False
        self._watchdog = Watchdog(factory, lambda: self.cut_off)
        self._signals = SignalWatch(factory, self._watchdog)
        self.loop_watch = LoopWatch(factory.reactor, lambda: self._watchdog.is_started)
        self._stop_once = Once(self._stop)

    def prepare(self) -> None:
        """Listen; if something has to happen before that needs the loop, take the address."""
        if not (self._startup_hooks or self.factory.topics.broker.is_shared):
            self._start_now()
        elif not self._is_replaced:
            try:
                self._reservation = reserve(self._endpoint)
            except CannotListenError as exc:
                self._is_started = True
                self._fail(exc)

    def start(self) -> None:
        """Run the start-up hooks and listen, when the reactor runs."""
        self.factory.reactor.callWhenRunning(self._signals.start)
        if not self._is_started:
            # Services are started before the loop that a hook may need.
            self._delayed_start = self.factory.reactor.callLater(0, self._start_now)

    def stop(self, *, ends_process: bool) -> Deferred[None]:
        """Stop in time, or the watchdog ends the process."""
        self._watchdog.start()

        def stopped(result: Any) -> Any:
            if not (ends_process or self._signals.has_signal):
                # Only the service has stopped: the program may go on.
                self._watchdog.cancel()
                self._signals.end()
            return result

        return self._stop_once().addBoth(stopped)

    def stop_from_thread(self) -> None:
        """Stop the process unless it is stopping; may be called from any thread."""
        if not (self._signals.has_signal or self.factory.is_stopping):
            self._signals.ignore_next()
            os.kill(os.getpid(), signal.SIGTERM)

    def end_now(self, why: str) -> None:
        """End the process, with status 1 if a call has not been answered."""
        self._watchdog.end_now(why)

    def _start_now(self) -> None:
        self._is_started = True
        port = drive(self._start())
        if isinstance(port, Deferred):
            self._starting = port.addCallbacks(self._started, _ignore_cancellation)
        else:
            self._started(port)

    async def _start(self) -> IListeningPort | None:
        try:
            await self.factory.topics.start()
            context = copy_context()  # which the hooks share
            for hook in self._startup_hooks:
                exc = await failure_of(hook, self.factory, context)
                if exc is not None:
                    # A program may end itself here.
                    cause = exc.__cause__
                    raise cause if isinstance(cause, SystemExit | KeyboardInterrupt) else exc
            return await (self._reservation or self._endpoint).listen(self.factory)
        except GeneratorExit:
            raise
        except BaseException as exc:  # the program gets it, and the reactor is stopped
            if self._is_start_cancelled:
                raise  # the service is stopped, which is no failure
            self._release()
            self._fail(exc)
            return None

    def _fail(self, failure: BaseException) -> None:
        self.failure = failure
        report(failure, is_raised=self._banner.is_printed)
        end_with(failure)
        self.factory.reactor.callLater(0, self.factory.reactor.stop)

    def _release(self) -> None:
        reservation, self._reservation = self._reservation, None
        if reservation is not None:
            reservation.release()

    def _started(self, port: IListeningPort | None) -> None:
        if port is None:
            return
        self.port = port
        guard_port(port)
        self._banner.show(port)
        self.factory.reactor.callWhenRunning(self.loop_watch.start)
        self.listening.callback(port)

    async def _stop(self) -> None:
        factory = self.factory
        if self._delayed_start is not None and self._delayed_start.active():
            self._delayed_start.cancel()
        self._is_start_cancelled = True
        if self._starting is not None:
            self._starting.cancel()
        self._release()
        if not self._is_replaced:
            factory.is_stopping = True
        if self.port is not None:
            await maybeDeferred(self.port.stopListening)
            self.port = None
        if self._is_replaced:
            await self._finish_handshakes()
            factory.is_stopping = True
        try:
            self.cut_off = await drain(factory)
        except Exception as exc:  # noqa: BLE001  the process must end, and report the failure
            self.cut_off = max(1, len(factory.connections))
            logger.error("connections could not be closed", exc_info=exc)
        await self._run_shutdown_hooks()
        await self._stop_topics()
        self.loop_watch.stop()

    async def _finish_handshakes(self) -> None:
        """Wait for opening handshakes: other workers would have accepted these clients."""
        factory = self.factory
        end = factory.reactor.seconds() + HANDSHAKE_SECONDS
        while factory.countConnections > len(factory.connections):
            if factory.reactor.seconds() >= end:
                return
            await deferLater(factory.reactor, 0.01)

    async def _run_shutdown_hooks(self) -> None:
        seconds = self.factory.limits.closing_seconds
        try:
            await self.factory.hooks_done().addTimeout(seconds, self.factory.reactor)
        except DeferredTimeout:
            logger.warning("on_disconnect hooks did not end in %g s", seconds)
        context = copy_context()  # which the hooks share
        for hook in self._shutdown_hooks:
            exc = await failure_of(hook, self.factory, context)
            if exc is not None:
                logger.error("an on_shutdown hook failed", exc_info=exc)

    async def _stop_topics(self) -> None:
        seconds = self.factory.limits.closing_seconds
        try:
            await start(self.factory.topics.stop()).addTimeout(seconds, self.factory.reactor)
        except DeferredTimeout:
            logger.warning("the topics did not stop in %g s", seconds)
        except Exception as exc:  # noqa: BLE001  everything else has stopped
            logger.error("the topics could not be stopped", exc_info=exc)


def _ignore_cancellation(failure: Failure) -> None:
    failure.trap(CancelledError, asyncio.CancelledError)
