"""Reconnect a lost WebSocket, in a task of its own."""

import asyncio
from collections.abc import Awaitable, Callable

from networkpype.exceptions import WebSocketClosedError
from networkpype.websocket.reconnect import ReconnectPolicy
from networkpype.websocket.response import Gap

__all__ = ("BackOff", "Recovery")


class BackOff:
    """Count consecutive attempts to connect, until a connection has been stable."""

    def __init__(self, policy: ReconnectPolicy) -> None:
        self._policy = policy
        self._attempts = 0
        self._ready_at: float | None = None

    @property
    def attempts(self) -> int:
        """The number of attempts since the last stable connection."""
        return self._attempts

    def ready(self) -> None:
        """Record that a connection is ready for use."""
        self._ready_at = asyncio.get_running_loop().time()

    def lost(self) -> None:
        """Record the loss of a connection."""
        ready_at, self._ready_at = self._ready_at, None
        now = asyncio.get_running_loop().time()
        if ready_at is not None and now - ready_at >= self._policy.stable_seconds:
            self._attempts = 0

    def next_delay(self, failure: Exception) -> float | None:
        """Count an attempt and return the delay before it; None if none is left."""
        policy = self._policy
        if not policy.allows_attempt(self._attempts + 1):
            return None
        self._attempts += 1
        return max(policy.delay_seconds(self._attempts), policy.retry_after_seconds(failure))


class Recovery:
    """Reconnect after `loss` according to the policy.

    `attempt` connects and restores the session; `drop` closes the socket of a failed attempt. If
    `is_planned`, closes the socket first and connects at once. Without a `back_off`, there is only
    that attempt.
    """

    def __init__(
        self,
        loss: WebSocketClosedError,
        policy: ReconnectPolicy,
        back_off: BackOff | None,
        *,
        is_planned: bool,
        attempt: Callable[[], Awaitable[None]],
        drop: Callable[[], Awaitable[None]],
    ) -> None:
        self._loss = loss
        self._policy = policy
        self._back_off = back_off
        self._is_planned = is_planned
        self._attempt = attempt
        self._drop = drop
        self._task = asyncio.create_task(self._run())

    @property
    def is_running(self) -> bool:
        """Whether the connection is not ready yet; also after `stop()`."""
        return not self._task.done() or self._task.cancelled()

    @property
    def gap(self) -> Gap | None:
        """The Gap, if it has succeeded."""
        if self.is_running or self._task.cancelled():
            return None
        outcome = self._task.result()
        return outcome if isinstance(outcome, Gap) else None

    async def wait(self) -> Gap | Exception | None:
        """Wait for the Gap, or the error to raise; None after `stop()`."""
        # wait() keeps cancellations apart: of the caller, and of the recovery by stop().
        await asyncio.wait((self._task,))
        return None if self._task.cancelled() else self._task.result()

    async def stop(self) -> None:
        """Stop; wait for the end, unless called by the recovery itself."""
        self._task.cancel()
        if self._task is not asyncio.current_task():
            await asyncio.wait((self._task,))

    async def _run(self) -> Gap | Exception:
        loop = asyncio.get_running_loop()
        lost_at = loop.time()
        loss, policy, back_off = self._loss, self._policy, self._back_off
        failure: Exception = loss
        attempts = 0
        if back_off is not None:
            back_off.lost()
        while (delay := await self._next_delay(attempts, failure)) is not None:
            attempts += 1
            if delay:
                await policy.sleep(delay)
            try:
                await self._attempt()
            except Exception as error:  # noqa: BLE001  (raised by receive())
                await self._drop()
                if back_off is None or policy.is_final(error):
                    return error
                failure = error
            else:
                if back_off is not None:
                    back_off.ready()
                return Gap(
                    code=loss.code,
                    reason=loss.reason,
                    error=loss,
                    attempts=attempts,
                    duration_seconds=loop.time() - lost_at,
                )
        final = WebSocketClosedError(
            f"{loss} Gave up after {back_off.attempts if back_off else 1} attempts to reconnect.",
            code=loss.code,
            reason=loss.reason,
        )
        final.__cause__ = failure
        return final

    async def _next_delay(self, attempts: int, failure: Exception) -> float | None:
        """Return the delay before the next attempt; None if none is left."""
        if self._is_planned and not attempts:
            await self._drop()
            return 0.0
        return None if self._back_off is None else self._back_off.next_delay(failure)
