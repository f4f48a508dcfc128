"""The way of a message out: limit, pre-processors, auth, connection."""

import copy
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from networkpype._preparation import prepare_and_send, release_outer_hold
from networkpype.auth import Auth
from networkpype.exceptions import AuthError
from networkpype.throttler.throttler import AsyncThrottler, Hold
from networkpype.websocket.connection import WebSocketConnection
from networkpype.websocket.processor.base import WebSocketPreProcessor
from networkpype.websocket.request import WebSocketRequest

__all__ = ("Sender",)


class Sender:
    """Send requests, but not while `is_barred()`.

    `wait_until_ready` returns when the caller may send, or raises.
    """

    def __init__(
        self,
        connection: WebSocketConnection,
        pre_processors: Sequence[WebSocketPreProcessor],
        auth: Auth | None,
        throttler: AsyncThrottler | None,
        *,
        is_barred: Callable[[], bool],
        wait_until_ready: Callable[[], Awaitable[None]],
    ) -> None:
        self._connection = connection
        self._pre_processors = pre_processors
        self._auth = auth
        self._throttler = throttler
        self._is_barred = is_barred
        self._wait_until_ready = wait_until_ready

    async def send(
        self,
        request: WebSocketRequest,
        *,
        priority: int = 0,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Send `request` unless it is no longer wanted when its turn comes."""
        if request.is_auth_required:
            self._check_auth()
        await self._wait_until_ready()
        if self._auth is not None and request.is_auth_required:
            await self._auth.before_admission()
        for processor in self._pre_processors:
            await processor.before_admission()
        limit_id = request.throttler_limit_id
        if self._throttler is None or limit_id is None:
            while not await self._write(is_wanted, await self._prepare(request)):
                await self._wait_until_ready()
            return
        await release_outer_hold(self._throttler)
        deadline = self._connection.deadline(lambda: "Sending a WebSocket message")
        async with deadline.scope():
            while not await prepare_and_send(
                self._throttler,
                limit_id,
                priority,
                prepare=lambda: self._prepare(request),
                send=partial(self._write, is_wanted),
            ):
                await self._wait_until_ready()

    async def _prepare(self, request: WebSocketRequest) -> WebSocketRequest:
        """Return the request to send; a copy only if a processor or the auth may change it."""
        if not self._pre_processors and not request.is_auth_required:
            return request
        prepared = copy.deepcopy(request)
        for processor in self._pre_processors:
            prepared = await processor.pre_process(prepared)
        if not prepared.is_auth_required:
            return prepared
        self._check_auth()
        assert self._auth is not None  # noqa: S101  (just checked)
        return await self._auth.ws_authenticate(prepared)

    async def _write(
        self,
        is_wanted: Callable[[], bool],
        prepared: WebSocketRequest,
        hold: Hold | None = None,
    ) -> bool:
        """Write, and return True; False if it has to wait for a reconnection."""
        if not is_wanted():
            return True
        if self._is_barred():
            return False
        self._connection.check_open()
        if hold is not None:
            hold.mark_sent()
        await self._connection.send(prepared)
        if hold is not None:
            hold.count()
        return True

    def _check_auth(self) -> None:
        if self._auth is None:
            raise AuthError("The message requires auth, but this manager has no Auth.")
