"""What a manager knows of its connections, one after the other."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial

from networkpype._deadline import Deadline
from networkpype.exceptions import (
    ConnectionStateError,
    DisconnectedError,
    ReconnectingError,
    TransportError,
    WebSocketClosedError,
)
from networkpype.websocket._opening import Opening
from networkpype.websocket._recovery import BackOff, Recovery
from networkpype.websocket._socket import DISCONNECTED_TEXT
from networkpype.websocket.connection import WebSocketConnection
from networkpype.websocket.reconnect import ReconnectPolicy
from networkpype.websocket.response import Gap

__all__ = ("NO_RECONNECTION", "Reconnector")

# What a manager without a policy does when it is asked to reconnect.
NO_RECONNECTION = ReconnectPolicy(connect_timeout_seconds=None)


class Reconnector:
    """Reconnect after a loss, and say who may use the connection meanwhile.

    `session` is a new object for each connection. `before_recovery` is called with the Gap that
    nobody has received, if any; `restore` logs in and subscribes on a new connection.
    """

    def __init__(
        self,
        connection: WebSocketConnection,
        policy: ReconnectPolicy | None,
        *,
        before_recovery: Callable[[Gap | None], None],
        restore: Callable[[object], Awaitable[None]],
    ) -> None:
        self._connection = connection
        self._policy = policy
        self._before_recovery = before_recovery
        self._restore = restore
        self._back_off = None if policy is None else BackOff(policy)
        # Opens the WebSocket as the last connect() did; None without one.
        self._open: Opening | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.session = object()
        self.recovery: Recovery | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether `connected()` was called, and not `stop()` since."""
        return self._open is not None

    @property
    def is_recovering(self) -> bool:
        """Whether a reconnection is going on."""
        recovery = self.recovery
        return recovery is not None and recovery.is_running

    def connected(self, opening: Opening) -> None:
        """Record that `opening` has opened the WebSocket."""
        self._open = opening
        self._loop = asyncio.get_running_loop()
        self.recovery = None
        self.session = object()
        if self._policy is not None:
            self._back_off = BackOff(self._policy)
            self._back_off.ready()
        self._set_timer()

    def leave_dead_loop(self) -> bool:
        """Forget a connection whose loop is not running any more; return whether there was one."""
        loop = self._loop
        if loop is None or loop is asyncio.get_running_loop() or loop.is_running():
            return False
        self._loop = self._open = self._timer = self.recovery = None
        return True

    async def stop(self) -> None:
        """Stop reconnecting."""
        self._open = None
        self._cancel_timer()
        recovery = self.recovery
        if recovery is not None:
            await recovery.stop()
            self.recovery = None

    def is_inside(self) -> bool:
        """Return whether the caller belongs to the attempt to reconnect that is going on."""
        return self.is_recovering and _restoring.get() is self.session

    def is_barred(self) -> bool:
        """Return whether the caller must not send, because a reconnection is going on."""
        return self.is_recovering and not self.is_inside()

    async def wait_until_ready(self) -> None:
        """Return when the caller may send; raise what `send()` raises otherwise."""
        policy = self._policy
        is_patient = policy is not None and policy.sends_wait and not self.is_inside()
        while True:
            if not self.is_barred():
                try:
                    self._connection.check_open()
                except WebSocketClosedError as loss:
                    if not is_patient:
                        raise
                    self.start(loss)
                else:
                    return
            if not is_patient:
                raise ReconnectingError
            if self.recovery is not None and await self.recovery.wait() is None:
                raise DisconnectedError(DISCONNECTED_TEXT)

    def will_restore(self, error: BaseException) -> bool:
        """Return whether a reconnection sends the subscription that failed with `error`."""
        if isinstance(error, ReconnectingError):
            return True
        if self.is_inside():
            return False
        if isinstance(error, WebSocketClosedError):
            try:
                self.start(error)
            except WebSocketClosedError:
                return False
            return True
        return isinstance(error, TransportError) and self._policy is not None

    def start(self, loss: WebSocketClosedError) -> None:
        """Start to reconnect, unless that is going on; raise `loss` if it is final."""
        policy, opening = self._policy, self._open
        # If a hook receives, its attempt has failed.
        if policy is None or opening is None or self.is_inside() or policy.is_final(loss):
            raise loss
        if not self.is_recovering:
            self._begin(loss, opening)

    async def reconnect(self) -> None:
        """Close the WebSocket and connect again; raise the error if that fails."""
        if self.is_inside():
            raise ConnectionStateError("WebSocket is reconnecting: this is part of it.")
        if self._open is None:
            raise DisconnectedError("WebSocket is not connected.")
        if not self.is_recovering:
            self._begin(_planned(), self._open, is_planned=True)
        recovery = self.recovery
        outcome = None if recovery is None else await recovery.wait()
        if outcome is None:
            raise DisconnectedError(DISCONNECTED_TEXT)
        if isinstance(outcome, Exception):
            raise outcome

    async def recovered(self, recovery: Recovery) -> Gap:
        """Wait for the Gap; raise the error of a recovery that has failed or was stopped."""
        outcome = await recovery.wait()
        if outcome is None:
            raise DisconnectedError(DISCONNECTED_TEXT)
        if self.recovery is recovery:
            self.recovery = None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _begin(
        self, loss: WebSocketClosedError, opening: Opening, *, is_planned: bool = False
    ) -> None:
        self._cancel_timer()
        self._before_recovery(None if self.recovery is None else self.recovery.gap)
        self.session = object()
        policy = self._policy or NO_RECONNECTION
        self.recovery = Recovery(
            loss,
            policy,
            self._back_off,
            is_planned=is_planned,
            attempt=partial(self._attempt, policy, opening),
            drop=self._connection.drop,
        )

    async def _attempt(self, policy: ReconnectPolicy, opening: Opening) -> None:
        session = self.session = object()
        _restoring.set(session)
        deadline = Deadline(lambda: "An attempt to reconnect", policy.attempt_timeout_seconds)
        async with deadline.scope():
            await opening(policy.connect_timeout_seconds)
            # Nobody receives until the end of the attempt, but pings have to be answered.
            self._connection.hold_messages()
            await self._restore(session)
            await self._connection.release_messages()
        self._set_timer()

    def _set_timer(self) -> None:
        self._cancel_timer()
        seconds = None if self._policy is None else self._policy.seconds_until_reconnect()
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._on_timer)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        # A lost connection is reconnected by its receiver.
        if self._open is not None and self._connection.connected and not self.is_recovering:
            self._begin(_planned(), self._open, is_planned=True)


def _planned() -> WebSocketClosedError:
    return WebSocketClosedError("WebSocket was closed to reconnect.", code=1000, reason="planned")


# The session that the running code restores. A hook, and the tasks that it starts, may send and
# receive on it.
_restoring: ContextVar[object | None] = ContextVar("networkpype_restoring", default=None)
