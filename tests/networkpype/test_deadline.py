"""Scopes: ended by the deadline, by an interruption, or by neither."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from networkpype._deadline import Deadline, Scope
from networkpype.exceptions import ClosedError, DeadlineExceeded


def deadline(timeout_s: float | None = None) -> Deadline:
    return Deadline(lambda: "GET http://h/", timeout_s)


async def in_scope(scope: Scope, body: Callable[[], Any]) -> Any:
    async with scope:
        return await body()


async def for_ever() -> None:
    await asyncio.Event().wait()


def test_it_ends_at_the_deadline(run):
    async def main() -> None:
        with pytest.raises(DeadlineExceeded, match=r"GET http://h/ was not done within 0\.01 s"):
            await in_scope(deadline(0.01).scope(), for_ever)
        # Nothing of the cancellation is left.
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(0)

    run(main())


def test_scopes_of_one_deadline_end_together_when_one_is_in_the_other(run):
    async def main() -> None:
        shared = deadline(0.01)
        with pytest.raises(DeadlineExceeded):
            await in_scope(shared.scope(), lambda: in_scope(shared.scope(), for_ever))
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(0)

    run(main())


def test_an_interruption_is_a_closed_error_and_the_first_one_counts(run):
    async def main() -> None:
        scope = deadline(60.0).scope()
        task = asyncio.create_task(in_scope(scope, for_ever))
        await asyncio.sleep(0)
        scope.interrupt("first")
        scope.interrupt("second")
        with pytest.raises(ClosedError, match="first"):
            await task

    run(main())


def test_an_interruption_from_inside_of_the_body_ends_it(run):
    async def main() -> None:
        scope = deadline().scope()

        async def interrupting() -> None:
            scope.interrupt("inside")
            await for_ever()

        with pytest.raises(ClosedError, match="inside"):
            await in_scope(scope, interrupting)

    run(main())


def test_a_body_that_is_done_before_the_interruption_keeps_its_result(run):
    async def main() -> None:
        scope = deadline().scope()

        async def done() -> int:
            scope.interrupt("too late")
            return 7

        assert await in_scope(scope, done) == 7
        scope.interrupt("later still")
        # No cancellation comes after.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    run(main())


def test_what_the_body_meets_after_an_interruption_is_its_effect(run):
    async def main() -> None:
        scope = deadline().scope()

        async def broken() -> None:
            scope.interrupt("closed")
            raise ConnectionResetError

        with pytest.raises(ClosedError, match="closed") as caught:
            await in_scope(scope, broken)
        assert isinstance(caught.value.__cause__, ConnectionResetError)

    run(main())


def test_an_error_of_the_body_passes(run):
    async def main() -> None:
        async def broken() -> None:
            raise LookupError

        with pytest.raises(LookupError):
            await in_scope(deadline(60.0).scope(), broken)

    run(main())


def test_a_cancellation_from_outside_wins_over_an_interruption(run):
    async def main() -> None:
        scope = deadline().scope()
        task = asyncio.create_task(in_scope(scope, for_ever))
        await asyncio.sleep(0)
        scope.interrupt("closed")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_it_works_inside_of_a_timeout_of_asyncio(run):
    async def main() -> None:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.01):
                await in_scope(deadline(60.0).scope(), for_ever)
        assert not isinstance(caught.value, DeadlineExceeded)
        with pytest.raises(DeadlineExceeded):
            async with asyncio.timeout(60):
                await in_scope(deadline(0.01).scope(), for_ever)

    run(main())


def test_it_needs_a_task(run):
    scope_error: list[BaseException] = []

    async def main() -> None:
        def outside() -> None:
            entering = deadline().scope().__aenter__()
            try:
                entering.send(None)
            except RuntimeError as error:
                scope_error.append(error)

        asyncio.get_running_loop().call_soon(outside)
        await asyncio.sleep(0)

    run(main())
    assert "task" in str(scope_error[0])


def test_nothing_is_left_in_the_loop_of_a_scope_that_was_left(run):
    """A timer that lives on keeps the request, its body included, for the whole timeout."""

    class Request:
        def describe(self) -> str:
            return "GET"

    async def main() -> None:
        request = Request()
        gone = weakref.ref(request)
        async with Deadline(request.describe, 3600.0).scope():
            pass
        del request
        gc.collect()
        assert gone() is None

    run(main())
