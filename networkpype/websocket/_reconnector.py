"""What a manager knows of its connections, one after the other."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial

from networkpype.exceptions import (
    DisconnectedError,
    ReconnectingError,
    TransportError,
    WebSocketClosedError,
)
from networkpype.websocket._recovery import BackOff, Recovery
from networkpype.websocket._socket import DISCONNECTED_TEXT
from networkpype.websocket.connection import WebSocketConnection
from networkpype.websocket.reconnect import ReconnectPolicy
from networkpype.websocket.response import Gap

__all__ = ("Reconnector",)


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
        self._back_off = BackOff(policy or ReconnectPolicy())
        # Opens the WebSocket as the last connect() did; None without one.
        self._open: Callable[[], Awaitable[None]] | None = None
        self.session = object()
        self.recovery: Recovery | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether `connected()` was called, and not `stop()` since."""
        return self._open is not None

    @property
    def is_recovering(self) -> bool:
        """Whether a reconnection is going on."""
        return self.recovery is not None and self.recovery.is_running

    def connected(self, connect: Callable[[], Awaitable[None]]) -> None:
        """Record that `connect()` has opened the WebSocket."""
        self._open = connect
        self.recovery = None
        self.session = object()
        self._back_off = BackOff(self._policy or ReconnectPolicy())
        self._back_off.ready()

    async def stop(self) -> None:
        """Stop reconnecting."""
        self._open = None
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
        policy, connect = self._policy, self._open
        # If a hook receives, its attempt has failed.
        if policy is None or connect is None or self.is_inside() or policy.is_final(loss):
            raise loss
        if not self.is_recovering:
            self._begin(loss, policy, connect)

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
        self,
        loss: WebSocketClosedError,
        policy: ReconnectPolicy,
        connect: Callable[[], Awaitable[None]],
    ) -> None:
        self._before_recovery(None if self.recovery is None else self.recovery.gap)
        self.session = object()
        self.recovery = Recovery(
            loss,
            policy,
            self._back_off,
            attempt=partial(self._attempt, policy, connect),
            drop=self._connection.drop,
        )

    async def _attempt(
        self, policy: ReconnectPolicy, connect: Callable[[], Awaitable[None]]
    ) -> None:
        session = self.session = object()
        _restoring.set(session)
        async with asyncio.timeout(policy.connect_timeout_seconds):
            await connect()
        # Nobody receives until the end of the attempt, but pings have to be answered.
        self._connection.hold_messages()
        await self._restore(session)
        await self._connection.release_messages()


# The session that the running code restores. A hook, and the tasks that it starts, may send and
# receive on it.
_restoring: ContextVar[object | None] = ContextVar("networkpype_restoring", default=None)
