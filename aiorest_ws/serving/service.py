"""`ApplicationService`: a factory that listens, and what has to happen before and after."""

import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

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

from aiorest_ws import __version__
from aiorest_ws.awaiting import begun, drive, is_awaitable, sharing
from aiorest_ws.exceptions import TopicsUnavailable
from aiorest_ws.log import logger
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.serving.drain import SignalWatch, Watchdog, drain
from aiorest_ws.transports.reactor import describe_reactor

__all__ = ("ApplicationService", "FactoryHook")

FactoryHook = Callable[[Any], Any]

# What a handshake that has begun may still take when another process accepts in this one's place.
LET_IN_SECONDS = 1.0


class ApplicationService(Service):
    """An application that listens: Twisted starts and stops it.

    `listening` fires with the listening port. `failure` is the exception that kept the service
    from starting, which also stops the reactor. `make_url` names an address, for the banner.
    `is_replaced` means that other processes accept on its socket when it stops.
    """

    def __init__(
        self,
        factory: RequestHandlerFactory,
        endpoint: IStreamServerEndpoint,
        *,
        startup_hooks: Sequence[FactoryHook],
        shutdown_hooks: Sequence[FactoryHook],
        make_url: Callable[[Any], str],
        banner: Callable[[str], Any] | None = None,
        is_replaced: bool = False,
    ) -> None:
        self.factory = factory
        self.failure: BaseException | None = None
        self.listening: Deferred[IListeningPort] = Deferred()
        self.port: IListeningPort | None = None
        self._endpoint = endpoint
        self._startup_hooks = startup_hooks
        self._shutdown_hooks = shutdown_hooks
        self._make_url = make_url
        self._banner = banner
        self._is_begun = False
        self._delayed: IDelayedCall | None = None
        self._starting: Deferred[Any] | None = None
        # What a client has not read of its last replies, when the time was up.
        self.cut_off = 0
        self._watchdog = Watchdog(factory, lambda: self.cut_off)
        self._is_replaced = is_replaced
        self._signals = _ForgivingWatch(factory, self._watchdog)
        self._ends_process = False
        self._ending: Deferred[Any] | None = None

    def privilegedStartService(self) -> None:
        """Listen while twistd may still bind a port under 1024, unless more comes first."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        # Topics that processes share need the loop, too.
        if not (self._startup_hooks or self.factory.topics.broker.is_shared):
            self._begin()

    def startService(self) -> None:
        """Run the start-up hooks, then listen."""
        super().startService()  # type: ignore[no-untyped-call]
        self.factory.reactor.callWhenRunning(self._signals.begin)
        if not self._is_begun:
            # Not yet: services are started before the loop that a hook may need.
            self._delayed = self.factory.reactor.callLater(0, self._begin)

    def stopService(self) -> Deferred[None]:
        """Stop listening, answer the calls that run, close every connection with 1012.

        Then the shutdown hooks run. It has `drain_seconds` and twice `closing_seconds` of the
        factory's limits: after that the process is ended.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        self._watchdog.begin()
        return self._until_stopped().addBoth(self._stopped)

    def _until_stopped(self) -> Deferred[Any]:
        """Stop, if that has not begun yet: the reactor may stop after its services."""
        if self._ending is None:
            self._ending = begun(self._stop())
        return sharing(self._ending)

    def end_now(self, why: str) -> None:
        """End the process, with status 1 if a call has not been answered."""
        self._watchdog.end_now(why)

    def stop_by_supervisor(self) -> None:
        """Stop the process, unless it has been told to; may be called from any thread."""
        if not (self._signals.is_told or self.factory.is_stopping):
            self._signals.forgive()
            os.kill(os.getpid(), signal.SIGTERM)

    def _stopped(self, result: Any) -> Any:
        if not (self._ends_process or self._signals.is_told):
            # What stopped is a service; its program may go on.
            self._watchdog.cancel()
            self._signals.end()
        return result

    def run(self) -> None:
        """Run the reactor with this service until it is stopped; raise its `failure`.

        Raises SystemExit(1) if a client was cut off from its last replies. The program has to end
        soon after that: its time to stop began with the signal, and when that is over the process
        is ended.
        """
        reactor = self.factory.reactor
        reactor.addSystemEventTrigger("before", "shutdown", self._stop_with_process)
        self.startService()
        # What the program has made so far stays. The collector, which large messages call often,
        # need not look at it each time.
        gc.collect()
        gc.freeze()
        reactor.run()
        if self.failure is not None:
            raise self.failure
        if self.cut_off:
            raise SystemExit(1)

    def _stop_with_process(self) -> Deferred[None]:
        self._ends_process = True
        return self.stopService()

    def _begin(self) -> None:
        self._is_begun = True
        port = drive(self._start())
        if isinstance(port, Deferred):
            self._starting = port.addCallbacks(self._started, _ignore_cancellation)
        else:
            self._started(port)

    async def _start(self) -> IListeningPort | None:
        try:
            await self.factory.topics.start()
            for hook in self._startup_hooks:
                await _called(hook, self.factory)
            return await self._endpoint.listen(self.factory)
        except CancelledError:
            raise  # the service is stopped, which is no failure
        except Exception as exc:  # noqa: BLE001  the program is told, and the reactor stopped
            self.failure = exc
            # What is told by its name needs no traceback.
            is_plain = isinstance(exc, (CannotListenError, TopicsUnavailable))
            if self._banner is None or not is_plain:
                shown = None if is_plain else exc
                logger.critical("the server cannot start: %s", exc, exc_info=shown)
            return None

    def _started(self, port: IListeningPort | None) -> None:
        if port is None:
            self.factory.reactor.callLater(0, self.factory.reactor.stop)
            return
        self.port = port
        self._announce(port)
        self.listening.callback(port)

    def _announce(self, port: IListeningPort, workers: int = 1) -> None:
        reactor = describe_reactor(self.factory.reactor)
        url = self._make_url(port.getHost())
        if self._banner is None:
            if workers > 1:
                reactor = f"{workers} workers, each on {reactor}"
            logger.info("aiorest-ws %s serves %s on %s", __version__, url, reactor)
            return
        self._banner(f"aiorest-ws {__version__}")
        self._banner(f"Server started at {url}")
        if workers > 1:
            self._banner(f"Workers: {workers}")
        self._banner(f"Reactor: {reactor}")
        self._banner("Quit the server with CONTROL-C.")
        sys.stdout.flush()

    async def _stop(self) -> None:
        if self._delayed is not None and self._delayed.active():
            self._delayed.cancel()
        if self._starting is not None:
            self._starting.cancel()
        if not self._is_replaced:
            self.factory.is_stopping = True
        if self.port is not None:
            await maybeDeferred(self.port.stopListening)
            self.port = None
        if self._is_replaced:
            await self._let_in()
            self.factory.is_stopping = True
        try:
            self.cut_off = await drain(self.factory)
        except Exception as exc:  # noqa: BLE001  the process has to end, and to say that it failed
            self.cut_off = max(1, len(self.factory.connections))
            logger.error("connections could not be closed", exc_info=exc)
        seconds = self.factory.limits.closing_seconds
        try:
            await self.factory.hooks_done().addTimeout(seconds, self.factory.reactor)
        except DeferredTimeout:
            logger.warning("on_disconnect hooks were given up after %g s", seconds)
        for hook in self._shutdown_hooks:
            try:
                await _called(hook, self.factory)
            except Exception as exc:  # noqa: BLE001  the other hooks run all the same
                logger.error("an on_shutdown hook failed", exc_info=exc)
        await self._stop_topics(seconds)

    async def _let_in(self) -> None:
        """Wait for opening handshakes, lest clients that others would have taken are refused."""
        factory = self.factory
        end = factory.reactor.seconds() + LET_IN_SECONDS
        while factory.countConnections > len(factory.connections):
            if factory.reactor.seconds() >= end:
                return
            await deferLater(factory.reactor, 0.01)

    async def _stop_topics(self, seconds: float) -> None:
        try:
            await begun(self.factory.topics.stop()).addTimeout(seconds, self.factory.reactor)
        except DeferredTimeout:
            logger.warning("the topics were not let go in %g s", seconds)
        except Exception as exc:  # noqa: BLE001  all the rest is done
            logger.error("the topics could not be let go", exc_info=exc)


class _ForgivingWatch(SignalWatch):
    """A watch that a signal may come to besides the order of a supervisor."""

    _is_forgiving = False

    def forgive(self) -> None:
        """Take the next two signals for one.

        systemd sends SIGTERM to all processes of a service, and so this one is told twice.
        """
        self._is_forgiving = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.is_told and self._is_forgiving:
            self._is_forgiving = False
            return
        super()._on_signal(number, frame)


async def _called(hook: FactoryHook, argument: Any) -> None:
    done = hook(argument)
    if is_awaitable(done):
        await done


def _ignore_cancellation(failure: Failure) -> None:
    failure.trap(CancelledError)
