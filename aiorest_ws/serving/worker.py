"""A worker: this process, if a supervisor has started it."""

import faulthandler
import os
import signal
import stat
import sys
import threading
from contextlib import suppress
from functools import partial

from twisted.internet.interfaces import IListeningPort

from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.serving.service import ServerProcess
from aiorest_ws.transports.sockets import InheritedSocket

__all__ = ("END_NOW", "ENVIRONMENT_VARIABLE", "STOP", "STOP_ALL", "Worker")

# What a supervisor passes to its worker: the worker's number, the descriptor of the listening
# socket, its backlog, the descriptor of the pipe that the worker reports on, that of the pipe with
# the commands, and those of further listening sockets.
ENVIRONMENT_VARIABLE = "AIOREST_WS_WORKER"

# The commands: another worker takes over; all stop; end without waiting for calls. When the
# supervisor is gone the pipe ends, which means STOP_ALL.
STOP, STOP_ALL, END_NOW = b"s", b"a", b"e"


class Worker:
    """A process that serves on the socket of its supervisor."""

    _this: "Worker | None" = None
    _is_taken = False

    def __init__(
        self, number: int, listening: int, backlog: int, reports: int, commands: int, *others: int
    ) -> None:
        self.number = number
        self._listening = (listening, *others)
        self._backlog = backlog
        self._do_all_stop = False
        self._reports = reports
        self._commands = commands
        # The programs that this one starts do not inherit them.
        for descriptor in (listening, reports, commands, *others):
            os.set_inheritable(descriptor, False)

    @classmethod
    def detect(cls) -> None:
        """Find out whether this process is a worker, and clean up its environment."""
        text = os.environ.pop(ENVIRONMENT_VARIABLE, "")
        with suppress(ValueError, OSError):
            number, listening, backlog, reports, commands, *others = map(int, text.split())
            # A program that a worker starts before this runs inherits the variable, but not the
            # descriptors.
            is_worker = all(
                stat.S_ISSOCK(os.fstat(descriptor).st_mode) for descriptor in (listening, *others)
            ) and all(stat.S_ISFIFO(os.fstat(pipe).st_mode) for pipe in (reports, commands))
            if is_worker:
                cls._this = cls(number, listening, backlog, reports, commands, *others)

    @classmethod
    def is_here(cls) -> bool:
        """Tell whether this process is a worker without a service yet."""
        return cls._this is not None and not cls._is_taken

    @classmethod
    def take(cls) -> "Worker | None":
        """Return this process as a worker, for its one service; None if it is no worker."""
        if cls._is_taken:
            raise ImproperlyConfigured("Only one service of a process can have workers.")
        cls._is_taken = cls._this is not None
        return cls._this

    @property
    def socket(self) -> InheritedSocket:
        """The sockets that it listens on."""
        first, *others = self._listening
        return InheritedSocket(first, self._backlog, lambda: self._do_all_stop, *others)

    def serve(self, process: ServerProcess) -> None:
        """Report to the supervisor when the process listens, and follow its commands."""
        _ignore_hangup()
        _print_stack_on_abort()
        threading.Thread(
            target=self._follow_commands, args=(process,), name="aiorest-ws commands", daemon=True
        ).start()
        process.listening.addCallback(self._report_ready, process)

    def _report_ready(self, port: IListeningPort, process: ServerProcess) -> IListeningPort:
        limits = process.factory.limits
        os.set_blocking(self._reports, False)
        self._report(b"%a %a\n" % (limits.stop_seconds, limits.blocked_seconds or 0.0))
        process.loop_watch.beat = partial(self._report, b".")
        return port

    def _report(self, text: bytes) -> None:
        with suppress(OSError):  # the supervisor is gone, or has not read for hours
            os.write(self._reports, text)

    # In a thread, because a view may block that of the reactor for hours.
    def _follow_commands(self, process: ServerProcess) -> None:
        while True:
            command = os.read(self._commands, 1)
            if command == END_NOW:
                process.end_now("the supervisor got a second signal to stop")
            self._do_all_stop = command != STOP
            process.stop_from_thread()
            if not command:
                return


def _print_stack_on_abort() -> None:
    """Print the stack on SIGABRT, by which the supervisor ends a worker that hangs."""
    # Python's own signal handlers do not run while C code holds the GIL.
    if not faulthandler.is_enabled():
        with suppress(AttributeError, OSError, ValueError):  # standard error is closed, or no file
            faulthandler.enable(sys.stderr)


def _ignore_hangup() -> None:
    """Ignore SIGHUP, which may be sent to the whole process group."""
    # Not by SIG_IGN, which the programs that this one starts would inherit.
    number = getattr(signal, "SIGHUP", None)
    if (
        number is not None
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(number) == signal.SIG_DFL
    ):
        signal.signal(number, lambda *_: None)


# Now, so that programs that the application starts do not take themselves for workers.
Worker.detect()
