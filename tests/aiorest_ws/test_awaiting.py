"""Coroutines in which Deferreds and asyncio awaitables mix."""

import asyncio
import contextvars
import gc
import os
import subprocess
import sys
import textwrap

import pytest
import pytest_twisted
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from aiorest_ws.awaiting import Outcome, Ready, drive, is_awaitable, settled

pytestmark = pytest.mark.asyncio_reactor


def later(value, delay=0):
    """A Deferred that fires in a later turn of the loop."""
    deferred = Deferred()
    asyncio.get_running_loop().call_later(delay, deferred.callback, value)
    return deferred


def failing_later(exc):
    deferred = Deferred()
    asyncio.get_running_loop().call_soon(deferred.errback, exc)
    return deferred


def turns(count):
    """A Deferred that fires when the loop has turned `count` times."""
    deferred = Deferred()
    loop = asyncio.get_running_loop()

    def turn(left):
        if left:
            loop.call_soon(turn, left - 1)
        else:
            deferred.callback(None)

    turn(count)
    return deferred


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(None, False), ({}, False), ("x", False), (object(), False), (Deferred(), True)],
)
def test_only_what_can_be_awaited_is_awaitable(answer, expected):
    assert is_awaitable(answer) is expected


def test_settled_gives_the_result_of_a_fired_deferred():
    assert settled(defer.succeed(3)) == (True, 3)
    assert settled(Deferred()) == (False, None)


def test_settled_leaves_alone_what_fires_later():
    waiting = Deferred()
    assert settled(waiting) == (False, None)
    waiting.errback(KeyError("x"))
    failures = []
    waiting.addErrback(failures.append)
    assert failures[0].type is KeyError


def test_settled_consumes_a_failure():
    fired, result = settled(defer.fail(KeyError("x")))
    assert fired
    assert isinstance(result, Failure)
    gc.collect()  # an unconsumed failure would be logged here, which pytest turns into an error


@pytest_twisted.ensureDeferred
async def test_a_coroutine_that_does_not_suspend_gives_its_value_at_once():
    async def view():
        return 7

    assert drive(view()) == 7


@pytest_twisted.ensureDeferred
async def test_a_coroutine_that_does_not_suspend_raises_at_once():
    async def view():
        raise KeyError("x")

    with pytest.raises(KeyError):
        drive(view())


@pytest_twisted.ensureDeferred
async def test_both_kinds_can_be_awaited_in_one_coroutine():
    async def view():
        first = await later("deferred")
        await asyncio.sleep(0)
        second = await asyncio.gather(asyncio.sleep(0, "a"), asyncio.sleep(0, "b"))
        third = await defer.succeed("fired")
        return [first, second, third]

    assert await drive(view()) == ["deferred", ["a", "b"], "fired"]


@pytest_twisted.ensureDeferred
async def test_the_current_task_is_a_real_one_from_the_first_step_on():
    seen = []

    async def view():
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())
        await later(None)
        seen.append(asyncio.current_task())

    await drive(view())
    assert isinstance(seen[0], asyncio.Task)
    assert seen[0] is seen[1] is seen[2]
    assert asyncio.current_task() is None


@pytest_twisted.ensureDeferred
async def test_two_coroutines_that_suspend_have_two_tasks():
    async def view():
        task = asyncio.current_task()
        await asyncio.sleep(0)
        assert asyncio.current_task() is task
        return task

    first, second = drive(view()), drive(view())
    assert await first is not await second


@pytest_twisted.ensureDeferred
async def test_a_timeout_cancels_only_its_own_coroutine():
    async def slow():
        try:
            async with asyncio.timeout(0.01):
                await Deferred()
        except TimeoutError:
            return "late"

    async def other():
        await later(None, 0.03)
        return "in time"

    first, second = drive(slow()), drive(other())
    assert await first == "late"
    assert await second == "in time"


@pytest_twisted.ensureDeferred
async def test_a_timeout_that_has_passed_already_ends_the_first_wait():
    async def view():
        try:
            async with asyncio.timeout(0):
                await asyncio.sleep(60)
        except TimeoutError:
            return "late"

    assert await drive(view()) == "late"


@pytest_twisted.ensureDeferred
async def test_a_task_group_works_from_the_first_step_on():
    async def view():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0, value)) for value in range(3)]
        return [task.result() for task in tasks]

    assert await drive(view()) == [0, 1, 2]


@pytest_twisted.ensureDeferred
async def test_a_failing_deferred_raises_where_it_is_awaited():
    async def view():
        try:
            await failing_later(LookupError("gone"))
        except LookupError as exc:
            return str(exc)

    assert await drive(view()) == "gone"


@pytest_twisted.ensureDeferred
async def test_a_failing_future_raises_where_it_is_awaited():
    async def view():
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception, LookupError("gone"))
        with pytest.raises(LookupError):
            await future
        return "caught"

    assert await drive(view()) == "caught"


@pytest_twisted.ensureDeferred
async def test_an_exception_after_a_wait_is_the_outcomes_failure():
    async def view():
        await asyncio.sleep(0)
        raise KeyError("x")

    with pytest.raises(KeyError):
        await drive(view())


@pytest_twisted.ensureDeferred
async def test_an_awaited_deferred_keeps_its_result_for_later_callbacks():
    deferred = later(5)

    async def view():
        return await deferred

    assert await drive(view()) == 5
    assert deferred.result == 5


@pytest_twisted.ensureDeferred
async def test_two_coroutines_may_await_one_deferred():
    async def view(deferred):
        try:
            return await deferred
        except LookupError:
            return "gone"

    shared = later(5)
    assert [await outcome for outcome in (drive(view(shared)), drive(view(shared)))] == [5, 5]
    shared = failing_later(LookupError())
    outcomes = [drive(view(shared)), drive(view(shared))]
    assert [await outcome for outcome in outcomes] == ["gone", "gone"]


@pytest_twisted.ensureDeferred
async def test_context_variables_do_not_leak_out_and_do_not_change_within():
    variable = contextvars.ContextVar("variable", default="outside")

    async def view(value):
        variable.set(value)
        await asyncio.sleep(0)
        await later(None)
        return variable.get()

    async def at_once(value):
        variable.set(value)

    drive(at_once("at once"))
    outcomes = [drive(view("a")), drive(view("b"))]
    assert [await outcome for outcome in outcomes] == ["a", "b"]
    assert variable.get() == "outside"


@pytest_twisted.ensureDeferred
async def test_cancelling_the_outcome_cancels_what_is_awaited():
    cancelled = []
    deferred = Deferred(lambda _: cancelled.append("deferred"))
    future = asyncio.get_running_loop().create_future()

    async def view(awaitable):
        try:
            await awaitable
        except asyncio.CancelledError:
            cancelled.append("coroutine")
            raise

    for awaitable in (deferred, future):
        outcome = drive(view(awaitable))
        await turns(3)  # the task has taken over
        outcome.cancel()
        with pytest.raises(defer.CancelledError):
            await outcome
        await turns(3)
    assert cancelled == ["deferred", "coroutine", "coroutine"]
    assert future.cancelled()


@pytest.mark.parametrize("kind", ["deferred", "future", "sleep"])
@pytest_twisted.ensureDeferred
async def test_cancelling_in_the_turn_of_the_first_step_loses_nothing(kind):
    unwound = []
    awaitables = {
        "deferred": Deferred,
        "future": asyncio.get_running_loop().create_future,
        "sleep": lambda: asyncio.sleep(0),
    }

    async def view():
        try:
            await awaitables[kind]()
        finally:
            unwound.append(kind)

    outcome = drive(view())
    outcome.cancel()
    with pytest.raises(defer.CancelledError):
        await outcome
    await turns(4)
    assert unwound == [kind]


@pytest_twisted.ensureDeferred
async def test_a_coroutine_that_cancels_its_task_and_ends_spoils_no_other():
    async def rude():
        asyncio.current_task().cancel()

    async def polite():
        await asyncio.sleep(0)
        return "fine"

    with pytest.raises(asyncio.CancelledError):
        drive(rude())
    assert await drive(polite()) == "fine"


@pytest_twisted.ensureDeferred
async def test_driving_inside_a_driven_coroutine_works():
    async def inner(suspends):
        if suspends:
            await asyncio.sleep(0)
        return "inner"

    async def outer():
        at_once = drive(inner(False))
        later_on = drive(inner(True))
        task = asyncio.current_task()
        value = await later_on
        assert asyncio.current_task() is task
        return [at_once, value]

    assert await drive(outer()) == ["inner", "inner"]


@pytest_twisted.ensureDeferred
async def test_an_outcome_can_be_awaited_by_an_asyncio_task():
    async def view():
        await asyncio.sleep(0)
        return "value"

    async def in_a_task():
        return await drive(view())

    task = asyncio.get_running_loop().create_task(in_a_task())
    assert await Deferred.fromFuture(task) == "value"


def test_ready_bytes_are_bytes_and_can_be_awaited():
    async def reader():
        return await Ready(b"reply")

    assert Ready(b"reply") == b"reply"
    with pytest.raises(StopIteration) as stop:
        reader().send(None)
    assert stop.value.value == b"reply"
    assert type(stop.value.value) is bytes


def run_in_fresh_interpreter(program):
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.process
def test_without_a_loop_deferreds_can_be_awaited_and_cancelled():
    output = run_in_fresh_interpreter(
        """
        from twisted.internet.defer import CancelledError, Deferred, succeed
        from aiorest_ws.awaiting import drive

        async def view(deferred):
            try:
                return await deferred
            except CancelledError:
                return "cancelled"

        print(drive(view(succeed("at once"))))
        waiting = Deferred()
        outcome = drive(view(waiting))
        waiting.callback("later")
        outcome.addCallback(print)
        outcome = drive(view(Deferred()))
        outcome.addCallback(print)
        outcome.cancel()

        async def failing():
            raise KeyError("x")

        try:
            drive(failing())
        except KeyError as exc:
            print(repr(exc))
        """
    )
    assert output.splitlines() == ["at once", "later", "cancelled", "KeyError('x')"]


@pytest.mark.process
def test_without_a_loop_an_asyncio_awaitable_fails_and_names_the_reactor():
    output = run_in_fresh_interpreter(
        """
        import asyncio
        from twisted.internet import selectreactor
        selectreactor.install()
        from aiorest_ws.awaiting import drive

        loop = asyncio.new_event_loop()

        async def view():
            await asyncio.Future(loop=loop)

        try:
            drive(view())
        except RuntimeError as exc:
            print(exc)
        loop.close()
        """
    )
    assert output == "asyncio awaitables need the asyncio reactor, this is SelectReactor\n"


@pytest.mark.process
def test_a_program_may_run_one_loop_after_another():
    output = run_in_fresh_interpreter(
        """
        import asyncio
        from aiorest_ws.awaiting import drive

        async def view():
            await asyncio.sleep(0)
            return "value"

        async def at_once():
            return "at once"

        async def main():
            return [drive(at_once()), await drive(view())]

        for _ in range(3):
            print(asyncio.run(main()))
        """
    )
    assert output == "['at once', 'value']\n" * 3


def test_an_outcome_is_a_deferred():
    assert issubclass(Outcome, Deferred)


@pytest_twisted.ensureDeferred
async def test_a_coroutine_that_raises_generator_exit_is_not_taken_for_a_dropped_one():
    async def view():
        await asyncio.sleep(0)
        raise GeneratorExit

    with pytest.raises(GeneratorExit):
        await drive(view())


@pytest.mark.process
def test_coroutines_that_are_dropped_while_they_wait_end_in_silence():
    output = run_in_fresh_interpreter(
        """
        import asyncio, gc, sys
        from twisted.internet.defer import Deferred
        from aiorest_ws.awaiting import drive

        async def view():
            try:
                await Deferred()
            finally:
                print("unwound")

        async def main():
            outcomes = [drive(view()) for _ in range(3)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            del outcomes
            gc.collect()

        sys.unraisablehook = lambda unraisable: print("unraisable", unraisable.exc_value)
        asyncio.run(main())
        """
    )
    assert output == "unwound\n" * 3


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_that_was_forked_in_the_reactor_drives_on_a_loop_of_its_own():
    output = run_in_fresh_interpreter(
        """
        import asyncio, os
        from aiorest_ws.awaiting import drive
        from aiorest_ws.transports import install_reactor

        reactor = install_reactor()

        async def view():
            await asyncio.sleep(0)
            return "done"

        async def main():
            return await asyncio.wait_for(drive(view()), 30)

        def fork():
            drive(view())  # which finds the loop of the reactor
            child = os.fork()
            if not child:
                with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
                    print(runner.run(main()), flush=True)
                os._exit(0)
            os.waitpid(child, 0)
            reactor.stop()

        reactor.callLater(0, fork)
        reactor.run()
        """
    )
    assert output == "done\n"
