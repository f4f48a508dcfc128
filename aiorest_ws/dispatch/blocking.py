"""Run blocking views in the thread pool of a factory, or in threads of their own."""

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from aiorest_ws.exceptions import ServiceUnavailable
from aiorest_ws.tasks.asyncio_internals import running_loop_or_none
from aiorest_ws.wrappers import Request

__all__ = ("MAX_WAITING_CALLS", "BlockingPool", "run_blocking")

MAX_WAITING_CALLS = 1000


def run_blocking(request: Request, call: Callable[[], Any]) -> Any:
    """Run `call` in a thread; return its result, or an awaitable if a loop is running."""

    def run() -> Any:
        try:
            return call()
        except StopIteration as exc:
            # A future does not accept it, and would never be done.
            raise RuntimeError("a view raised StopIteration") from exc

    if request.factory is not None:
        return request.factory.run_blocking(run, request.connection)
    if running_loop_or_none() is not None:
        return asyncio.to_thread(run)
    return _run_in_own_thread(run)


class _Waiting(NamedTuple):
    call: Callable[[], Any]
    owner: Any
    answer: Deferred[Any]


class BlockingPool:
    """A thread pool with a bounded queue, started on first use.

    Calls of one owner, a connection, have at most `per_owner` threads, by default half of them;
    more wait. Free threads go to the owners in turn. A call that is cancelled before it has begun
    never begins; one that has begun keeps its thread until it has finished.
    """

    def __init__(self, reactor: Any, threads: int, per_owner: int | None = None) -> None:
        self._reactor = reactor
        self._threads = threads
        self._per_owner = max(threads // 2, 1) if per_owner is None else per_owner
        self._pool: ThreadPool | None = None
        self._is_stopping = False
        self._calls = 0
        self._busy: Counter[Any] = Counter()
        # The owner whose turn is next comes first.
        self._queues: dict[Any, deque[_Waiting]] = {}

    def run(self, call: Callable[[], Any], owner: Any = None) -> Deferred[Any]:
        """Run `call` in a thread; raise ServiceUnavailable if the queue is full.

        Calls without an owner have no limit of their own.
        """
        if self._calls >= self._threads + MAX_WAITING_CALLS:
            raise ServiceUnavailable
        self._is_stopping = False
        self._calls += 1
        waiting = _Waiting(call, owner, Deferred(lambda _: self._forget(waiting)))
        self._queues.setdefault(owner, deque()).append(waiting)
        self._begin()
        return waiting.answer

    def stop(self) -> None:
        """End the threads; a busy one ends when its call or the process ends."""
        self._is_stopping = True
        self._stop_if_idle()

    def _begin(self) -> None:
        while self._busy.total() < self._threads and (waiting := self._take()) is not None:
            self._busy[waiting.owner] += 1
            if self._pool is None:
                self._pool = _DaemonThreadPool(0, self._threads, "aiorest-ws blocking views")
                self._pool.start()
            done = deferToThreadPool(self._reactor, self._pool, waiting.call)
            done.addBoth(self._end, waiting)

    def _take(self) -> _Waiting | None:
        """Take the next call of the first owner that may have one more thread."""
        for owner, queue in self._queues.items():
            if owner is None or self._busy[owner] < self._per_owner:
                del self._queues[owner]
                waiting = queue.popleft()
                if queue:
                    self._queues[owner] = queue  # the last in turn
                return waiting
        return None

    def _end(self, result: Any, waiting: _Waiting) -> None:
        self._calls -= 1
        self._busy[waiting.owner] -= 1
        if not self._busy[waiting.owner]:
            del self._busy[waiting.owner]
        self._begin()
        self._stop_if_idle()
        if not waiting.answer.called:
            waiting.answer.callback(result)

    def _forget(self, waiting: _Waiting) -> None:
        queue = self._queues.get(waiting.owner)
        if queue is not None and waiting in queue:
            queue.remove(waiting)
            self._calls -= 1
            if not queue:
                del self._queues[waiting.owner]
            self._stop_if_idle()

    def _stop_if_idle(self) -> None:
        if self._is_stopping and not self._calls and self._pool is not None:
            pool, self._pool = self._pool, None
            pool.stop()


class _DaemonThreadPool(ThreadPool):
    """A pool of daemon threads: a view that never returns does not keep the process alive."""

    @staticmethod
    def threadFactory(*args: Any, **kwargs: Any) -> threading.Thread:  # type: ignore[override]
        return threading.Thread(*args, **kwargs, daemon=True)


def _run_in_own_thread(call: Callable[[], Any]) -> Any:
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["value"] = call()
        except BaseException as exc:  # noqa: BLE001  raised again in the caller's thread
            outcome["error"] = exc

    thread = threading.Thread(target=run, name="aiorest-ws blocking view")
    thread.start()
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]
