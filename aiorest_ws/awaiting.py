"""Run coroutines that await both Deferreds and asyncio awaitables.

On the asyncio reactor a coroutine runs in an asyncio task from its first step on (see
`aiorest_ws.tasks.bridge`). On other reactors Twisted steps it, and it can await Deferreds only.
"""

import asyncio
import os
import sys
import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from threading import get_ident
from typing import Any, TypeAlias, TypeVar, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python import threadable
from twisted.python.failure import Failure

from aiorest_ws.tasks.asyncio_internals import running_loop_or_none
from aiorest_ws.tasks.bridge import Outcome, run_in_task
from aiorest_ws.tasks.cancellation import CANCELLED, RUNNER, is_cancelled

__all__ = (
    "CANCELLED",
    "PLAIN_TYPES",
    "Outcome",
    "Ready",
    "Steps",
    "drive",
    "explain_await_error",
    "failure_of",
    "is_awaitable",
    "is_cancelled",
    "maybe_await",
    "settled",
    "shield",
    "start",
    "stepped",
    "take",
)

_T = TypeVar("_T")

# A generator that yields each awaitable and receives its result: one function for what may have
# to wait and mostly does not.
Steps: TypeAlias = Generator[Any, Any, _T]

# What views mostly return. A look-up in this set is faster than looking for __await__.
PLAIN_TYPES = frozenset({bool, bytes, dict, float, int, list, str, tuple, type(None)})


def is_awaitable(answer: object) -> bool:
    """Tell whether `answer` has to be awaited."""
    kind = type(answer)
    return kind not in PLAIN_TYPES and hasattr(kind, "__await__")


async def maybe_await(value: Any) -> Any:
    """Await `value` if it is awaitable, and return the result; else return `value`."""
    return await value if is_awaitable(value) else value


class Ready(bytes):
    """Bytes that can also be awaited: the reply of a coroutine that did not suspend."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, bytes]:
        return bytes(self)
        yield  # makes this a generator


def take(steps: Steps[_T]) -> _T | Coroutine[Any, Any, _T]:
    """Return what `steps` return, or from the first one that waits on a coroutine of it."""
    try:
        waiting = next(steps)
    except StopIteration as stop:
        return cast("_T", stop.value)
    return _take_later(steps, waiting)


async def _take_later(steps: Steps[_T], waiting: Any) -> _T:
    try:
        while True:
            step: Callable[[Any], Any] = steps.send
            try:
                result = await waiting
            except BaseException as exc:  # noqa: BLE001  the steps handle it
                step, result = steps.throw, exc
            try:
                waiting = step(result)
            except StopIteration as stop:
                return cast("_T", stop.value)
    finally:
        steps.close()


def settled(answer: Deferred[Any]) -> tuple[bool, Any]:
    """Return (True, result) for a Deferred that has fired, else (False, None).

    The result of a Deferred that failed is a Failure, which is then handled.
    """
    results: list[Any] = []
    is_asking = True

    def keep(result: Any) -> Any:
        if not is_asking:
            return result  # it fired after `settled` returned
        results.append(result)
        return None if isinstance(result, Failure) else result

    answer.addBoth(keep)
    is_asking = False
    if results:
        return True, results[0]
    return False, None


def shield(deferred: Deferred[Any]) -> Deferred[Any]:
    """Return a Deferred with the result of `deferred`; cancelling it leaves `deferred` running.

    Like `asyncio.shield`. Several callers can wait for one Deferred this way.
    """
    own: Deferred[Any] = Deferred()

    def pass_on(result: Any) -> Any:
        if not own.called:
            own.callback(result)
        return result

    deferred.addBoth(pass_on)
    return own


def drive(coroutine: Coroutine[Any, Any, Any], context: Context | None = None) -> Any:
    """Return the coroutine's value if it finishes without suspending, else an Outcome.

    The coroutine runs in a copy of the current context, or in `context`, which is not entered. On
    the asyncio reactor it has a task of its own. Cancelling the Outcome cancels what the coroutine
    awaits. An exception is raised, or becomes the failure of the Outcome.
    """
    if context is None:
        context = copy_context()
    loop = _loop_of_reactor
    if loop is None or threadable.ioThread != get_ident() or not loop.is_running():
        loop = _running_loop()
        if loop is None:
            return context.run(_drive_on_twisted, coroutine)
    return run_in_task(coroutine, loop, context)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs in this thread; remember it if it is the reactor's.

    Until Python 3.13 asyncio makes a system call to find it, to notice a fork.
    """
    global _loop_of_reactor  # noqa: PLW0603  there is one reactor
    loop = running_loop_or_none()
    reactor = sys.modules.get("twisted.internet.reactor")
    if loop is not None and loop is getattr(reactor, "_asyncioEventloop", None):
        if _loop_of_reactor is None and hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forget_loop)
        _loop_of_reactor = loop
    return loop


def _forget_loop() -> None:
    # In a forked child the loop still claims to be running.
    global _loop_of_reactor  # noqa: PLW0603
    _loop_of_reactor = None


_loop_of_reactor: asyncio.AbstractEventLoop | None = None


def start(coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
    """Drive a coroutine; return a Deferred of its result, fired if the coroutine has finished."""
    return _started(coroutine, None)


def _started(coroutine: Coroutine[Any, Any, Any], context: Context | None) -> Deferred[Any]:
    try:
        outcome = drive(coroutine, context)
    except BaseException:  # noqa: BLE001  it becomes the Deferred's failure
        return fail()
    return outcome if isinstance(outcome, Deferred) else succeed(outcome)


async def failure_of(
    function: Callable[..., Any], argument: object, context: Context | None = None
) -> BaseException | None:
    """Call a hook, await what it returns, and return what it raises, if anything.

    It runs in `context`, and in a task of its own: it can cancel only that. If the caller is
    cancelled the hook is, too, and the cancellation is raised.
    """
    results: list[Any] = []
    # Before the hook ends, which may raise what would end this coroutine as well.
    ended = _started(_called(function, argument), context).addBoth(results.append)
    await ended
    exc = results[0].value if isinstance(results[0], Failure) else None
    if isinstance(exc, CANCELLED) and is_cancelled():
        raise exc
    return exc


async def _called(function: Callable[..., Any], argument: object) -> None:
    try:
        await maybe_await(function(argument))
    except (SystemExit, KeyboardInterrupt) as exc:
        raise RuntimeError(f"a hook raised {type(exc).__name__}") from exc


@types.coroutine
def stepped(
    coroutine: Coroutine[Any, Any, Any], run: Callable[..., Any]
) -> Generator[Any, Any, Any]:
    """Await `coroutine`, making each of its steps by `run(step, value)`."""
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
        except BaseException as exc:  # noqa: BLE001  the coroutine handles it
            step, value = coroutine.throw, exc
        else:
            step = coroutine.send


def _close(coroutine: Coroutine[Any, Any, Any]) -> None:
    coroutine.close()


def explain_await_error(exc: BaseException) -> str | None:
    """Return why a coroutine could not await an asyncio awaitable, or None for other errors."""
    sentence = _needs_asyncio()
    known = {sentence, "no running event loop"}  # the second is asyncio's own
    return sentence if isinstance(exc, RuntimeError) and str(exc) in known else None


def _needs_asyncio() -> str:
    reactor = sys.modules.get("twisted.internet.reactor")
    name = type(reactor).__name__ if reactor is not None else "no reactor"
    if name == "AsyncioSelectorReactor":
        return "asyncio awaitables need the reactor to run, and it does not run yet"
    return f"asyncio awaitables need the asyncio reactor, this is {name}"


def _drive_on_twisted(coroutine: Coroutine[Any, Any, Any]) -> Any:
    outcome = Outcome(lambda _: running.cancel())
    RUNNER.set(outcome)
    running = Deferred.fromCoroutine(_deferreds_only(coroutine))
    fired, result = settled(running)
    if not fired:
        running.addBoth(outcome.callback)
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
        except BaseException as exc:  # noqa: BLE001  the coroutine handles it
            step, value = coroutine.throw, exc
        else:
            step = coroutine.send
