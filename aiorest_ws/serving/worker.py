"""A supervisor and a worker: how each sees the other."""

import os
import signal
import stat
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IListeningPort

from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.log import logger
from aiorest_ws.serving.service import ApplicationService
from aiorest_ws.transports.loop_port import InheritedSocket

__all__ = ("Child", "Worker")

# What a worker is given: its number, the descriptor of the listening socket, its backlog, and the
# descriptors of the pipe that it tells by that it listens, and of the pipe with its orders.
VARIABLE = "AIOREST_WS_WORKER"

# What is said on that pipe: that another worker takes over, that all stop, and that it was said
# twice. The end of the pipe, which is that of the supervisor, is STOP_ALL, too.
STOP, STOP_ALL, END_NOW = b"s", b"a", b"e"

# A worker that does not listen by then never will.
START_SECONDS = 300.0

# A worker ends itself when its time to stop is over; what it has more before it is killed.
MARGIN_SECONDS = 5.0


def _here() -> Path | None:
    with suppress(OSError):  # a folder that is gone
        return Path.cwd()
    return None


# Where the program was started, if it has not gone elsewhere before this import. Its script may be
# named from here.
_FOLDER = _here()


# The side of the worker


class Worker:
    """The process that runs here, if a supervisor has started it."""

    _this: "Worker | None" = None
    _is_taken = False

    def __init__(self, number: int, listening: int, backlog: int, ready: int, orders: int) -> None:
        self.number = number
        self._listening = listening
        self._backlog = backlog
        self._do_all_stop = False
        self._ready = ready
        self._orders = orders
        self._service: ApplicationService | None = None
        # Not for the programs that this one starts.
        for descriptor in (listening, ready, orders):
            os.set_inheritable(descriptor, False)

    @classmethod
    def read(cls) -> None:
        """Find out whether this process is a worker, and take that out of the environment."""
        text = os.environ.pop(VARIABLE, "")
        with suppress(ValueError, OSError):
            number, listening, backlog, ready, orders = map(int, text.split())
            # A program that a worker starts before it gets here has the variable, too, but not
            # the descriptors.
            is_right = stat.S_ISSOCK(os.fstat(listening).st_mode) and all(
                stat.S_ISFIFO(os.fstat(pipe).st_mode) for pipe in (ready, orders)
            )
            if is_right:
                cls._this = cls(number, listening, backlog, ready, orders)

    @classmethod
    def is_here(cls) -> bool:
        """Tell whether this process is one, and not in service yet."""
        return cls._this is not None and not cls._is_taken

    @classmethod
    def take(cls) -> "Worker | None":
        """Return what this process is as a worker, once."""
        if cls._is_taken:
            raise ImproperlyConfigured("Only one service of a process can have workers.")
        cls._is_taken = cls._this is not None
        return cls._this

    @property
    def socket(self) -> InheritedSocket:
        """Where it listens."""
        return InheritedSocket(self._listening, self._backlog, lambda: self._do_all_stop)

    def serve(self, service: ApplicationService) -> None:
        """Stop when the supervisor says so or is gone; tell it when the service listens."""
        self._service = service
        _ignore_hangup()
        threading.Thread(target=self._obey, name="aiorest-ws orders", daemon=True).start()
        service.listening.addCallback(self._tell_ready)

    def _tell_ready(self, port: IListeningPort) -> IListeningPort:
        limits = self._service.factory.limits  # type: ignore[union-attr]
        seconds = limits.drain_seconds + 2 * limits.closing_seconds
        with suppress(OSError):  # the supervisor is gone
            os.write(self._ready, b"%a\n" % seconds)
        os.close(self._ready)
        return port

    # In a thread: a view may block the reactor's for hours.
    def _obey(self) -> None:
        assert self._service is not None  # noqa: S101
        while True:
            order = os.read(self._orders, 1)
            if order == END_NOW:
                self._service.end_now("the supervisor was told twice to stop")
            self._do_all_stop = order != STOP
            self._service.stop_by_supervisor()
            if not order:
                return


def _ignore_hangup() -> None:
    """Let SIGHUP, which somebody may send to all processes of the program, do nothing."""
    # Not SIG_IGN: the programs that this one starts would have it, too.
    number = getattr(signal, "SIGHUP", None)
    if (
        number is not None
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(number) == signal.SIG_DFL
    ):
        signal.signal(number, lambda *_: None)


Worker.read()


# The side of the supervisor


class Child:
    """A worker as its supervisor sees it."""

    def __init__(
        self, number: int, reactor: Any, listening: tuple[int, int], seconds: float
    ) -> None:
        self.number = number
        self.is_ready = False
        self.is_leaving = False
        self.begun_at = reactor.seconds()
        self._reactor = reactor
        # What it has to stop, from the order on; it tells its own number.
        self._seconds = seconds
        self._killing: IDelayedCall | None = None
        self._for_ready: list[Deferred[bool]] = []
        self._for_end: list[Deferred[int]] = []
        self.status: int | None = None
        self._ready, ready = os.pipe()
        orders, self._orders = os.pipe()
        given = (number, *listening, ready, orders)
        command = [sys.executable or sys.orig_argv[0], *sys.orig_argv[1:]]
        try:
            self._process = subprocess.Popen(  # noqa: S603  this program once more
                command,
                cwd=_FOLDER,
                env={**os.environ, VARIABLE: " ".join(map(str, given))},
                stdin=subprocess.DEVNULL,
                pass_fds=(listening[0], ready, orders),
                # CONTROL-C is for the supervisor.
                start_new_session=True,
            )
        except BaseException:
            os.close(self._ready)
            os.close(self._orders)
            raise
        finally:
            os.close(ready)
            os.close(orders)
        self.pid = self._process.pid
        os.set_blocking(self._ready, False)
        os.set_blocking(self._orders, False)
        self._loop = reactor._asyncioEventloop
        self._loop.add_reader(self._ready, self._look_ready)
        self._starting: IDelayedCall | None = reactor.callLater(START_SECONDS, self._too_slow)
        threading.Thread(
            target=self._wait, name=f"aiorest-ws worker {number}", daemon=True
        ).start()

    def __str__(self) -> str:
        return f"worker {self.number}, pid {self.pid}"

    @property
    def is_well(self) -> bool:
        """Whether it has ended as one that was told to."""
        # twist ends by the signal that it got.
        return self.status in (0, -signal.SIGTERM)

    @property
    def end_words(self) -> str:
        """How it has ended."""
        if self.status is not None and self.status < 0:
            with suppress(ValueError):
                return f"by {signal.Signals(-self.status).name}"
        return f"with status {self.status}"

    def until_ready(self) -> Deferred[bool]:
        """Return a Deferred: True when it listens, False if it has ended before."""
        if self.is_ready or self.status is not None:
            return succeed(self.is_ready)
        waiting: Deferred[bool] = Deferred()
        self._for_ready.append(waiting)
        return waiting

    def until_end(self) -> Deferred[int]:
        """Return a Deferred of its exit status, negative for a signal."""
        if self.status is not None:
            return succeed(self.status)
        waiting: Deferred[int] = Deferred()
        self._for_end.append(waiting)
        return waiting

    def stop(self, *, do_all: bool) -> None:
        """Let it answer its calls and end; kill it when its time is over."""
        # Not by SIGTERM: systemd sends that to all processes of a service, and the second one
        # would cut off the calls. Before it listens nobody may read the order.
        self._order(STOP_ALL if do_all else STOP)
        if not self.is_ready:
            self._signal(signal.SIGTERM)
        self._kill_in(self._seconds + MARGIN_SECONDS)

    def end_now(self) -> None:
        """Let it end at once, and say what it was doing."""
        if self.is_ready:
            self._order(END_NOW)
            self._kill_in(MARGIN_SECONDS)
        else:
            self._signal(signal.SIGKILL)

    def _order(self, order: bytes) -> None:
        with suppress(OSError):  # it has just ended
            os.write(self._orders, order)

    def _signal(self, number: int) -> None:
        # Popen would look first whether it lives, and take its status from the thread.
        if self.status is None:
            os.kill(self.pid, number)

    def _kill_in(self, seconds: float) -> None:
        if self.status is not None:
            return
        if self._killing is not None:
            self._killing.cancel()
        self._killing = self._reactor.callLater(seconds, self._kill, seconds)

    def _kill(self, seconds: float) -> None:
        self._killing = None
        logger.error("%s has not ended in %g s, and is killed", self, seconds)
        self._signal(signal.SIGKILL)

    def _too_slow(self) -> None:
        self._starting = None
        logger.error("%s does not listen after %g s, and is killed", self, START_SECONDS)
        self._signal(signal.SIGKILL)

    def _look_ready(self) -> None:
        with suppress(OSError, ValueError):
            text = os.read(self._ready, 64)
            self._loop.remove_reader(self._ready)
            if text:
                self._seconds = float(text)
                self.is_ready = True
                self._tell_ready()

    def _tell_ready(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
            self._starting = None
        waiting, self._for_ready = self._for_ready, []
        for one in waiting:
            one.callback(self.is_ready)

    def _wait(self) -> None:
        # It is left to the thread of the reactor to let the process go: until then its number
        # cannot be another one's, which a signal would reach.
        if hasattr(os, "waitid"):
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        else:
            self._process.wait()
        self._reactor.callFromThread(self._ended)

    def _ended(self) -> None:
        self._look_ready()
        self.status = self._process.wait()
        if self._killing is not None:
            self._killing.cancel()
        self._loop.remove_reader(self._ready)
        os.close(self._ready)
        os.close(self._orders)
        self._tell_ready()
        waiting, self._for_end = self._for_end, []
        for one in waiting:
            one.callback(self.status)
