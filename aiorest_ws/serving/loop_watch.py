"""Log that the loop of this process is blocked, and where; report that it is not."""

import inspect
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import CodeType
from typing import Any

from aiorest_ws.internals.stdlib_private import stack_of_thread
from aiorest_ws.log import logger
from aiorest_ws.serving.place import codes_of, frames_after, place_of

__all__ = ("BLOCKED_SECONDS", "PERIOD_SECONDS", "LoopWatch")

# How often the loop is asked for an answer.
PERIOD_SECONDS = 0.5

# A loop that has not answered for so long is blocked.
BLOCKED_SECONDS = 1.0


@dataclass(frozen=True)
class _Block:
    """A time in which the loop does not answer; `is_over` if only its end is to be logged."""

    since: float
    where: str
    is_over: bool = False


class LoopWatch:
    """Asks the loop for an answer, from a thread, and logs when it is blocked.

    `beat` is called in that thread, while the loop answers or `is_bounded()` tells that the
    process will end in time by other means.
    """

    def __init__(self, reactor: Any, is_bounded: Callable[[], bool]) -> None:
        self.beat: Callable[[], object] | None = None
        self._reactor = reactor
        self._is_bounded = is_bounded
        self._stopped = threading.Event()
        self._thread_of_loop = 0
        # The functions that run the loop, under those that it calls.
        self._base: list[CodeType] = []
        # The two threads share these: one sets a time, the other one takes it away.
        self._asked_at: float | None = None
        self._answered_at = 0.0
        self._block: _Block | None = None
        self._cpu_seconds = 0.0

    def start(self) -> None:
        """Begin in the next turn of the loop."""
        self._reactor.callFromThread(self._begin)

    def stop(self) -> None:
        """Ask no more."""
        self._stopped.set()

    def _begin(self) -> None:
        if self._stopped.is_set():
            return
        self._thread_of_loop = threading.get_ident()
        self._base = codes_of(inspect.currentframe())
        self._answered_at = time.monotonic()
        self._cpu_seconds = time.process_time()
        threading.Thread(target=self._watch, name="aiorest-ws loop watch", daemon=True).start()

    # In the thread

    def _watch(self) -> None:
        with suppress(RuntimeError):  # the program has closed the loop
            due = time.monotonic() + PERIOD_SECONDS
            while not self._stopped.wait(PERIOD_SECONDS):
                self._look(due)
                due = time.monotonic() + PERIOD_SECONDS

    def _look(self, due: float) -> None:
        """Log a block that has begun, report to the supervisor, and ask again."""
        used, self._cpu_seconds = self._cpu_seconds, time.process_time()
        used = self._cpu_seconds - used
        asked_at = self._asked_at
        is_answered = asked_at is None
        if asked_at is None:
            asked_at = max(due, self._answered_at)
        now = time.monotonic()
        if now - asked_at >= BLOCKED_SECONDS and (self._block is None or self._block.is_over):
            if now - due > PERIOD_SECONDS:
                self._block = self._block_of_all_threads(asked_at, now - due, used)
            else:
                self._block = _Block(asked_at, self._where(is_surely_busy=True))
                _log("the loop has been blocked", now - asked_at, self._block)
        if self.beat is not None and (is_answered or self._is_bounded()):
            self.beat()
        if is_answered:
            self._asked_at = asked_at
            self._reactor.callFromThread(self._answer)

    def _block_of_all_threads(self, since: float, late: float, used: float) -> _Block | None:
        """Return the block that kept this thread from running, too, until now.

        C code that holds the GIL has mostly just returned. None if it seems that the process was
        idle, and was stopped.
        """
        where = self._where(is_surely_busy=False)
        if not where and used < late / 2:
            return None
        where += f", with all threads, using {used:.1f} s of CPU time"
        return _Block(since, where, is_over=True)

    def _where(self, *, is_surely_busy: bool) -> str:
        frames = frames_after(self._base, stack_of_thread(self._thread_of_loop))
        place = place_of(frames)
        if place is None and is_surely_busy and frames:
            place = f"{frames[-1].f_globals.get('__name__')}:{frames[-1].f_lineno}"
        return "" if place is None else f" in {place}"

    # In the loop

    def _answer(self) -> None:
        now = time.monotonic()
        asked_at, self._asked_at = self._asked_at, None
        block, self._block = self._block, None
        self._answered_at = now
        if block is not None:
            _log("the loop was blocked", now - block.since, block)
        elif asked_at is not None and now - asked_at >= BLOCKED_SECONDS:
            # The other thread has not looked yet.
            late = self._block_of_all_threads(
                asked_at, now - asked_at, time.process_time() - self._cpu_seconds
            )
            if late is not None:
                _log("the loop was blocked", now - asked_at, late)


def _log(event: str, seconds: float, block: _Block) -> None:
    logger.warning(
        "%s for %.1f s%s",
        event,
        seconds,
        block.where,
        extra={"event": "blocked", "seconds": seconds},
    )
