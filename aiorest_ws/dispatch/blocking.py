"""Views that block: in the thread pool of a factory, or, without one, in a thread of their own."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from aiorest_ws.exceptions import ServiceUnavailable
from aiorest_ws.wrappers import Request

__all__ = ("MAX_WAITING_CALLS", "BlockingPool", "run_blocking")

MAX_WAITING_CALLS = 1000


def run_blocking(request: Request, call: Callable[[], Any]) -> Any:
    """Return what `call` returns, or an awaitable of it, without stalling a running loop."""

    def run() -> Any:
        try:
            return call()
        except StopIteration as exc:
            # No future takes it, so nobody would ever be told.
            raise RuntimeError("a view raised StopIteration") from exc

    if request.factory is not None:
        return request.factory.run_blocking(run)
    if asyncio._get_running_loop() is not None:
        return asyncio.to_thread(run)
    return _run_in_own_thread(run)


class BlockingPool:
    """A bounded number of threads, started when they are needed, and a bounded queue before them.

    A call keeps its place until its thread is done with it, also when its caller is gone.
    """

    def __init__(self, reactor: Any, threads: int) -> None:
        self._reactor = reactor
        self._threads = threads
        self._pool: ThreadPool | None = None
        self._calls = 0

    def run(self, call: Callable[[], Any]) -> Deferred[Any]:
        """Run `call` in a thread; raise ServiceUnavailable when too many wait already."""
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
                pool.stop()  # `stop` has left it to us
            if not answer.called:
                answer.callback(result)

        deferToThreadPool(self._reactor, pool, call).addBoth(done)
        return answer

    def stop(self) -> None:
        """Let the threads go; one that is still busy ends when it is done, or with the process."""
        pool, self._pool = self._pool, None
        if pool is not None and not self._calls:
            pool.stop()


class _DaemonThreadPool(ThreadPool):
    """Threads that do not keep a process alive when a view never returns."""

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
