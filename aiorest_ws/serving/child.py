"""A worker as its supervisor sees it."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall

from aiorest_ws.internals.twisted_private import loop_of
from aiorest_ws.log import logger
from aiorest_ws.serving.worker import END_NOW, ENVIRONMENT_VARIABLE, STOP, STOP_ALL

__all__ = ("Child",)

# A worker that does not listen by then is killed.
START_SECONDS = 300.0

# A worker ends itself when its time to stop is over; it is killed so much later.
KILL_MARGIN_SECONDS = 5.0

# A worker that does not answer is killed so long after SIGABRT, by which it prints its stack.
ABORT_SECONDS = 1.0


def _current_folder() -> Path | None:
    with suppress(OSError):  # it has been deleted
        return Path.cwd()
    return None


# The folder in which the program was started, unless it has changed it before this import: its
# script may be named by a relative path.
_START_FOLDER = _current_folder()


class Child:
    """A worker process: started, told to stop, waited for."""

    def __init__(
        self, number: int, reactor: Any, listening: tuple[list[int], int], stop_seconds: float
    ) -> None:
        """Start a process; `listening` is the descriptors of sockets, and their backlog.

        Raises OSError. `stop_seconds` holds until the worker reports its own limit.
        """
        self.number = number
        self.is_ready = False
        self.is_replaced = False
        self.is_stopping = False
        self.ready_at = 0.0
        self.silent_seconds = 0
        self.blocked_seconds = 0.0
        self.started_at = reactor.seconds()
        self._reactor = reactor
        self._stop_seconds = stop_seconds
        self._kill_timer: IDelayedCall | None = None
        self._waiting_for_ready: list[Deferred[bool]] = []
        self._waiting_for_end: list[Deferred[int]] = []
        self.status: int | None = None
        self._process = self._spawn(listening)
        self.pid = self._process.pid
        os.set_blocking(self._ready, False)
        os.set_blocking(self._commands, False)
        loop = loop_of(reactor)
        assert loop is not None  # noqa: S101  make_service has checked the endpoint
        self._loop = loop
        self._loop.add_reader(self._ready, self._read_ready)
        self._start_timer: IDelayedCall | None = reactor.callLater(
            START_SECONDS, self._start_timed_out
        )
        threading.Thread(
            target=self._wait, name=f"aiorest-ws worker {number}", daemon=True
        ).start()

    def _spawn(self, listening: tuple[list[int], int]) -> subprocess.Popen[bytes]:
        self._ready, ready = os.pipe()
        commands, self._commands = os.pipe()
        sockets, backlog = listening
        passed = (self.number, sockets[0], backlog, ready, commands, *sockets[1:])
        try:
            return subprocess.Popen(  # noqa: S603  this program once more
                [sys.executable or sys.orig_argv[0], *sys.orig_argv[1:]],
                cwd=_START_FOLDER,
                env={**os.environ, ENVIRONMENT_VARIABLE: " ".join(map(str, passed))},
                stdin=subprocess.DEVNULL,
                pass_fds=(*sockets, ready, commands),
                # Ctrl-C goes to the supervisor only.
                start_new_session=True,
            )
        except BaseException:
            os.close(self._ready)
            os.close(self._commands)
            raise
        finally:
            os.close(ready)
            os.close(commands)

    def __str__(self) -> str:
        return f"worker {self.number}, pid {self.pid}"

    @property
    def has_stopped_cleanly(self) -> bool:
        """Whether it ended as a worker does that was told to stop."""
        # twist ends by the signal that it got.
        return self.status in (0, -signal.SIGTERM)

    @property
    def exit_description(self) -> str:
        """How it ended: by which signal, or with which status."""
        if self.status is not None and self.status < 0:
            with suppress(ValueError):
                return f"by {signal.Signals(-self.status).name}"
        return f"with status {self.status}"

    def until_ready(self) -> Deferred[bool]:
        """Return a Deferred: True when it listens, False if it ended before that."""
        if self.is_ready or self.status is not None:
            return succeed(self.is_ready)
        waiting: Deferred[bool] = Deferred()
        self._waiting_for_ready.append(waiting)
        return waiting

    def until_end(self) -> Deferred[int]:
        """Return a Deferred of its exit status, negative for a signal."""
        if self.status is not None:
            return succeed(self.status)
        waiting: Deferred[int] = Deferred()
        self._waiting_for_end.append(waiting)
        return waiting

    def stop(self, *, do_all: bool) -> None:
        """Tell it to answer its calls and end; kill it when its time to stop is over.

        With `do_all` no other worker goes on serving.
        """
        # Not by SIGTERM alone: systemd sends that to all processes of a service, and a second one
        # would cut off the calls. Only a worker that listens reads commands.
        self.is_stopping = True
        self._command(STOP_ALL if do_all else STOP)
        if not self.is_ready:
            self._signal(signal.SIGTERM)
        self._kill_after(self._stop_seconds + KILL_MARGIN_SECONDS)

    def end_now(self) -> None:
        """Tell it to end at once, after logging what it was doing."""
        self.is_stopping = True
        if self.is_ready:
            self._command(END_NOW)
            self._kill_after(KILL_MARGIN_SECONDS)
        else:
            self._signal(signal.SIGKILL)

    def abort(self) -> None:
        """End it, because it has not answered for too long; it prints its stack if it can."""
        logger.error("%s has not answered for %d s and is replaced", self, self.silent_seconds)
        self.is_stopping = True
        self._signal(signal.SIGABRT)
        self._kill_after(ABORT_SECONDS)

    def has_answered(self) -> bool:
        """Tell whether it has reported since the last time that this was called."""
        try:
            os.read(self._ready, 65536)
        except BlockingIOError:
            return False
        return True

    def _command(self, command: bytes) -> None:
        with suppress(OSError):  # it has just ended
            os.write(self._commands, command)

    def _signal(self, number: int) -> None:
        # Popen.send_signal would poll, and so take the status from the thread that waits.
        if self.status is None:
            os.kill(self.pid, number)

    def _kill_after(self, seconds: float) -> None:
        if self.status is not None:
            return
        if self._kill_timer is not None:
            self._kill_timer.cancel()
        self._kill_timer = self._reactor.callLater(seconds, self._kill, seconds)

    def _kill(self, seconds: float) -> None:
        self._kill_timer = None
        logger.error("%s has not ended in %g s and is killed", self, seconds)
        self._signal(signal.SIGKILL)

    def _start_timed_out(self) -> None:
        self._start_timer = None
        logger.error("%s does not listen after %g s and is killed", self, START_SECONDS)
        self._signal(signal.SIGKILL)

    def _read_ready(self) -> None:
        with suppress(OSError, ValueError):
            text = os.read(self._ready, 64)
            self._loop.remove_reader(self._ready)
            if text:
                self._stop_seconds, self.blocked_seconds = map(float, text.split(b"\n")[0].split())
                self.is_ready = True
                self.ready_at = self._reactor.seconds()
                self._announce_ready()

    def _announce_ready(self) -> None:
        if self._start_timer is not None:
            self._start_timer.cancel()
            self._start_timer = None
        waiting, self._waiting_for_ready = self._waiting_for_ready, []
        for one in waiting:
            one.callback(self.is_ready)

    def _wait(self) -> None:
        # The reactor thread reaps the process: until then its pid cannot be another one's, which
        # a signal would reach.
        if hasattr(os, "waitid"):
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        else:
            self._process.wait()
        self._reactor.callFromThread(self._ended)

    def _ended(self) -> None:
        self._read_ready()
        self.status = self._process.wait()
        if self._kill_timer is not None:
            self._kill_timer.cancel()
        self._loop.remove_reader(self._ready)
        os.close(self._ready)
        os.close(self._commands)
        self._announce_ready()
        waiting, self._waiting_for_end = self._waiting_for_end, []
        for one in waiting:
            one.callback(self.status)
