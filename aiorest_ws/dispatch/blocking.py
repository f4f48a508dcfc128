"""Run blocking views in the thread pool of a factory, or in threads of their own."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

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
        return request.factory.run_blocking(run)
    if running_loop_or_none() is not None:
        return asyncio.to_thread(run)
    return _run_in_own_thread(run)


class BlockingPool:
    """A thread pool with a bounded queue, started on first use.

    A call that is cancelled keeps its place until its thread has finished.
    """

    def __init__(self, reactor: Any, threads: int) -> None:
        self._reactor = reactor
        self._threads = threads
        self._pool: ThreadPool | None = None
        self._calls = 0

    def run(self, call: Callable[[], Any]) -> Deferred[Any]:
        """Run `call` in a thread; raise ServiceUnavailable if the queue is full."""
        if self._calls >= self._threads + MAX_WAITING_CALLS:
            raise ServiceUnavailable
        if self._pool is None:
            self._pool = _DaemonThreadPool(0, self._threads, "aiorest-ws blocking views")
            self._pool.start()
        pool = self._pool
        self._calls += 1
        answer: Deferred[Any] = Deferred()

        def done(result: Any) -> None:
            self._calls -= 1
            if pool is not self._pool and not self._calls:
                pool.stop()  # the last call after `stop`
            if not answer.called:
                answer.callback(result)

        deferToThreadPool(self._reactor, pool, call).addBoth(done)
        return answer

    def stop(self) -> None:
        """End the threads; a busy one ends when its call or the process ends."""
        pool, self._pool = self._pool, None
        if pool is not None and not self._calls:
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
