"""A view's answer to a value or a Deferred; Deferreds and asyncio awaitables mix in a coroutine.

On the asyncio reactor a coroutine runs in a real asyncio Task from its first step on, because
`asyncio.timeout` and `TaskGroup` cancel the current one. A new Task starts a turn of the loop too
late, so one waits, parked: the first step is made on its behalf, and only a coroutine that
suspends takes it over. On other reactors Twisted steps the coroutine, and only Deferreds can be
awaited.
"""

import asyncio
import os
import sys
import types
from asyncio.tasks import _enter_task, _leave_task, current_task
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from threading import get_ident
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python import threadable
from twisted.python.failure import Failure

__all__ = (
    "PLAIN_TYPES",
    "Outcome",
    "Ready",
    "begun",
    "drive",
    "explain",
    "is_awaitable",
    "settled",
    "sharing",
    "stepped",
)

# What views mostly return; a look-up here is cheaper than asking for __await__.
PLAIN_TYPES = frozenset({bool, bytes, dict, float, int, list, str, tuple, type(None)})


def is_awaitable(answer: Any) -> bool:
    """Tell whether `answer` has to be awaited."""
    kind = type(answer)
    return kind not in PLAIN_TYPES and hasattr(kind, "__await__")


class Ready(bytes):
    """Bytes that can also be awaited: the reply of a coroutine that has not suspended."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, bytes]:
        return bytes(self)
        yield  # makes this a generator


class Outcome(Deferred[Any]):
    """A Deferred that an asyncio task can await too."""

    was_cancelled = False

    def __init__(self, end: Callable[[Deferred[Any]], None]) -> None:
        super().__init__(end)
        self._end = end

    def cancel(self) -> None:
        """Cancel what the coroutine awaits. It fires when the coroutine has ended, not before."""
        if self.called:
            super().cancel()
        else:
            self.was_cancelled = True
            self._end(self)

    def __await__(self) -> Generator[Any, Any, Any]:
        if _current_task() is None:
            return (yield from super().__await__())
        yield from _fired(self, asyncio.get_running_loop()).__await__()
        return (yield from super().__await__())


def settled(answer: Deferred[Any]) -> tuple[bool, Any]:
    """Return (True, result) for a Deferred that has fired, (False, None) for one that has not.

    The result of a failed one is a Failure, which is consumed here.
    """
    results: list[Any] = []
    is_asking = True

    def keep(result: Any) -> Any:
        if not is_asking:
            return result  # it fires later, and is not for us
        results.append(result)
        return None if isinstance(result, Failure) else result

    answer.addBoth(keep)
    is_asking = False
    if results:
        return True, results[0]
    return False, None


def sharing(deferred: Deferred[Any]) -> Deferred[Any]:
    """Return a Deferred of one's own, to be cancelled, that fires with one of many."""
    own: Deferred[Any] = Deferred()

    def pass_on(result: Any) -> Any:
        if not own.called:
            own.callback(result)
        return result

    deferred.addBoth(pass_on)
    return own


def drive(coroutine: Coroutine[Any, Any, Any], context: Context | None = None) -> Any:
    """Return the coroutine's value if it finishes without suspending, an Outcome if not.

    `context` is the context that the caller runs in, if the coroutine is to run in it too; it gets
    a copy of its own otherwise. Cancelling the Outcome cancels what the coroutine awaits. An
    exception is raised or becomes the Outcome's failure.
    """
    loop = _loop_of_reactor
    if loop is None or threadable.ioThread != get_ident() or not loop.is_running():
        loop = _running_loop()
        if loop is None:
            return _drive_on_twisted(coroutine)
    parked = _parked_tasks.get(loop)
    if parked is None or parked.is_taken or parked.task.done():
        parked = _parked_tasks[loop] = _ParkedTask(loop)
    parked.is_taken = True
    task = parked.task
    current = current_task(loop)
    # A task may not be entered inside another one.
    if current is not None:
        _leave_task(loop, current)
    _enter_task(loop, task)
    try:
        if context is None:
            context = copy_context()
            suspended_on = context.run(coroutine.send, None)
        else:
            suspended_on = coroutine.send(None)
    except BaseException as exc:
        # One that has cancelled the task it ran in has spoilt it for the others.
        if not task.cancelling():
            parked.is_taken = False
        if type(exc) is StopIteration:
            return exc.value
        raise
    finally:
        _leave_task(loop, task)
        if current is not None:
            _enter_task(loop, current)
    return parked.take_over(_Stepper(coroutine, context, loop), suspended_on)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs in this thread; that of the reactor is known from then on.

    To ask asyncio costs a system call until Python 3.13: it looks whether the process has forked.
    """
    global _loop_of_reactor  # noqa: PLW0603  there is one reactor
    loop = asyncio._get_running_loop()
    reactor = sys.modules.get("twisted.internet.reactor")
    if loop is not None and loop is getattr(reactor, "_asyncioEventloop", None):
        if _loop_of_reactor is None and hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forget_loop)
        _loop_of_reactor = loop
    return loop


def _forget_loop() -> None:
    # In a child it still says that it runs.
    global _loop_of_reactor  # noqa: PLW0603
    _loop_of_reactor = None


_loop_of_reactor: asyncio.AbstractEventLoop | None = None


def begun(coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
    """Drive a coroutine; return a Deferred of what it returns or raises, fired if it is done."""
    try:
        outcome = drive(coroutine)
    except Exception:  # noqa: BLE001  whoever waits for it is told
        return fail()
    return outcome if isinstance(outcome, Deferred) else succeed(outcome)


@types.coroutine
def stepped(
    coroutine: Coroutine[Any, Any, Any], run: Callable[..., Any]
) -> Generator[Any, Any, Any]:
    """Make each step of a coroutine by `run(step, value)`."""
    step: Callable[[Any], Any] = coroutine.send
    value: Any = None
    while True:
        try:
            suspended_on = run(step, value)
        except StopIteration as stop:
            return stop.value
        try:
            value = yield suspended_on
        except GeneratorExit:
            run(_close, coroutine)
            raise
        except BaseException as exc:  # noqa: BLE001  it is the coroutine's to handle
            step, value = coroutine.throw, exc
        else:
            step = coroutine.send


def _close(coroutine: Coroutine[Any, Any, Any]) -> None:
    coroutine.close()


def explain(exc: BaseException) -> str | None:
    """Return what is to be said of a coroutine that awaited what this reactor cannot, or None."""
    sentence = _needs_asyncio()
    known = {sentence, "no running event loop"}  # the second is asyncio's own
    return sentence if isinstance(exc, RuntimeError) and str(exc) in known else None


def _needs_asyncio() -> str:
    reactor = sys.modules.get("twisted.internet.reactor")
    name = type(reactor).__name__ if reactor is not None else "no reactor"
    if name == "AsyncioSelectorReactor":
        return "asyncio awaitables need the reactor to run, and it does not run yet"
    return f"asyncio awaitables need the asyncio reactor, this is {name}"


def _current_task() -> asyncio.Task[Any] | None:
    return asyncio.current_task() if asyncio._get_running_loop() is not None else None


class _Stepper:
    """Step a coroutine in its own context, giving asyncio only what asyncio understands."""

    __slots__ = ("context", "coroutine", "is_dropped", "loop")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        context: Context,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.coroutine = coroutine
        self.context = context
        self.loop = loop
        self.is_dropped = False

    @types.coroutine
    def finish(
        self, suspended_on: Any, interruption: BaseException | None = None
    ) -> Generator[Any, Any, Any]:
        """Run to the end, from a coroutine that has suspended on `suspended_on`."""
        step: Callable[[Any], Any]
        value: Any
        while True:
            try:
                if interruption is not None:
                    raise interruption
                if isinstance(suspended_on, Deferred):
                    # Resumed, the coroutine takes the result from the Deferred itself.
                    yield from _fired(suspended_on, self.loop).__await__()
                    value = None
                else:
                    value = yield suspended_on
            except GeneratorExit:
                self.is_dropped = True
                self.coroutine.close()
                raise
            except BaseException as exc:  # noqa: BLE001  it is the coroutine's to handle
                step, value, interruption = self.coroutine.throw, exc, None
            else:
                step = self.coroutine.send
            try:
                suspended_on = self.context.run(step, value)
            except StopIteration as stop:
                return stop.value


_Work = tuple[_Stepper, Any, Outcome]


class _ParkedTask:
    """A task that waits for a coroutine whose first step was made in its name."""

    __slots__ = ("__weakref__", "_handed_over", "_work", "is_taken", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        for closed in [other for other in _parked_tasks if other.is_closed()]:
            del _parked_tasks[closed]
        self._handed_over: asyncio.Future[None] = loop.create_future()
        self._work: _Work | None = None
        self.is_taken = False
        self.task: asyncio.Task[None] = loop.create_task(self._run())
        # A parked task is pending when its loop ends, which is no fault to complain of.
        self.task._log_destroy_pending = False  # type: ignore[attr-defined]

    def take_over(self, stepper: _Stepper, suspended_on: Any) -> Outcome:
        """Let the task finish what was begun in its name."""
        outcome = Outcome(self._cancel)
        self._work = (stepper, suspended_on, outcome)
        self._handed_over.set_result(None)
        self.task.add_done_callback(self._restart)
        return outcome

    def _cancel(self, _: Deferred[Any]) -> None:
        self.task.cancel()

    def _restart(self, _: asyncio.Task[None]) -> None:
        # A task that is cancelled before its own first turn never runs at all.
        if self._work is not None:
            loop = self._work[0].loop
            self.task = loop.create_task(self._finish(asyncio.CancelledError()))

    async def _run(self) -> None:
        interruption: BaseException | None = None
        try:
            await self._handed_over
        except asyncio.CancelledError as exc:
            if self._work is None:
                raise
            # Cancelled in the turn between the first step and this one.
            interruption = exc
        await self._finish(interruption)

    async def _finish(self, interruption: BaseException | None) -> None:
        stepper, suspended_on, outcome = cast("_Work", self._work)
        self._work = None
        if interruption is not None:
            _cancel(suspended_on)
        result: Any
        try:
            result = await stepper.finish(suspended_on, interruption)
        except BaseException as exc:
            if stepper.is_dropped:
                raise  # by the collector, outside the loop: nobody waits for the outcome
            result = Failure()
            if outcome.was_cancelled and isinstance(exc, asyncio.CancelledError):
                result = Failure(CancelledError())  # which Deferreds fail with
        if not outcome.called:
            # What is called back does not belong to this task, and must not find itself in it.
            _leave_task(stepper.loop, self.task)
            try:
                outcome.callback(result)
            finally:
                _enter_task(stepper.loop, self.task)


_parked_tasks: dict[asyncio.AbstractEventLoop, _ParkedTask] = {}


def _cancel(suspended_on: Any) -> None:
    if isinstance(suspended_on, Deferred):
        suspended_on.addErrback(_ignore_cancellation)
        suspended_on.cancel()
    elif asyncio.isfuture(suspended_on):
        suspended_on.cancel()


def _ignore_cancellation(failure: Failure) -> None:
    failure.trap(CancelledError)


def _fired(deferred: Deferred[Any], loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
    """Return a future that is done when `deferred` is, and whose cancellation cancels it.

    The Deferred keeps its result for later callbacks; `Deferred.asFuture` would leave them None.
    """
    future: asyncio.Future[None] = loop.create_future()

    def fire(result: Any) -> Any:
        if not future.done():
            future.set_result(None)
        return result

    deferred.addBoth(fire)
    future.add_done_callback(lambda done: _cancel(deferred) if done.cancelled() else None)
    return future


def _drive_on_twisted(coroutine: Coroutine[Any, Any, Any]) -> Any:
    outcome = Deferred.fromCoroutine(_deferreds_only(coroutine))
    fired, result = settled(outcome)
    if not fired:
        return outcome
    if isinstance(result, Failure):
        result.raiseException()
    return result


@types.coroutine
def _deferreds_only(coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    step, value = coroutine.send, None
    while True:
        try:
            suspended_on = step(value)
        except StopIteration as stop:
            return stop.value
        try:
            if not isinstance(suspended_on, Deferred):
                raise RuntimeError(_needs_asyncio())  # noqa: TRY004  as asyncio does
            value = yield suspended_on
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as exc:  # noqa: BLE001  it is the coroutine's to handle
            step, value = coroutine.throw, exc
        else:
            step = coroutine.send
