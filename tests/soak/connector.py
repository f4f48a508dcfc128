"""A connector of the exchange, as its users write them, with what it knows in the end."""

import asyncio
import collections
import contextlib
import itertools
import time
from collections.abc import Callable
from typing import Any

import aiohttp

from networkpype import (
    AsyncThrottler,
    ConnectionManagersFactory,
    DeadlineExceeded,
    Gap,
    HMACQueryAuth,
    HTTPStatusError,
    NetworkpypeError,
    RateLimit,
    ReconnectPolicy,
    RESTMethod,
    RetryPolicy,
    TimeSynchronizer,
    TransportError,
    WebSocketJSONRequest,
    WebSocketManager,
)
from networkpype.rest.processor.time_synchronizer import TimeSynchronizerRESTPreProcessor
from soak.exchange import MESSAGES_PER_SECOND, ORDERS_PER_SECOND, SUBSCRIPTIONS

TRADERS = 8
IDEMPOTENT_SHARE = 5  # one of five

LIMITS = [
    RateLimit("orders", ORDERS_PER_SECOND, 1.0),
    RateLimit("public", 50, 1.0),
    # A message counts from its write, because nothing answers it. Some take longer to arrive than
    # others: up to 0.2 s is allowed for.
    RateLimit("ws", MESSAGES_PER_SECOND, 1.2),
]


def message(op: str) -> WebSocketJSONRequest:
    return WebSocketJSONRequest({"op": op}, throttler_limit_id="ws")


class Connector:
    """Trade and listen; `answered`, `refused` and `maybe` have the ids of all orders."""

    def __init__(self, url: str, wall_clock: Callable[[], float]) -> None:
        self._url = url
        # A steady clock that stands still in a suspension, as monotonic clocks do.
        self._clock = TimeSynchronizer(clock=time.monotonic, wall_clock=wall_clock)
        self._factory = ConnectionManagersFactory(
            AsyncThrottler(LIMITS, safety_margin_pct=0),
            HMACQueryAuth("key", "secret", time_provider=self._clock),
            [TimeSynchronizerRESTPreProcessor(self._clock, self._server_time)],
            time_synchronizer=self._clock,
            retry=RetryPolicy(max_attempts=4, backoff_seconds=0.05),
            reconnect=ReconnectPolicy(
                initial_delay_seconds=0.02,
                max_delay_seconds=0.3,
                attempt_timeout_seconds=10,
                reconnect_every=8,
                on_reconnect=self._log_in,
                wall_clock=wall_clock,
            ),
        )
        self._ids = itertools.count(1)
        self.answered: set[str] = set()
        self.refused: set[str] = set()
        self.maybe: set[str] = set()
        self.idempotent: set[str] = set()
        self.untold_gaps: list[str] = []
        self.seen: collections.Counter[str] = collections.Counter()
        self._is_subscribed = asyncio.Event()

    async def run(self, seconds: float) -> None:
        """Work for a while; what is under way is ended properly."""
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, stop.set)
        async with self._factory, asyncio.TaskGroup() as group:
            manager = await self._factory.get_ws_manager()
            listening = group.create_task(self._listen(manager))
            chatting = group.create_task(self._chat(manager))
            traders = [group.create_task(self._trade(stop)) for _ in range(TRADERS)]
            await asyncio.wait(traders)
            chatting.cancel()
            await manager.disconnect()
            await listening

    async def _server_time(self) -> float:
        manager = await self._factory.get_rest_manager()
        answer: Any = await manager.execute_request(f"{self._url}/time", "public")
        return float(answer["ms"])

    async def _fresh_url(self) -> str:
        manager = await self._factory.get_rest_manager()
        answer: Any = await manager.execute_request(
            f"{self._url}/key", "public", method=RESTMethod.POST
        )
        return f"{self._url.replace('http', 'ws', 1)}/ws/{answer['key']}"

    async def _log_in(self, manager: WebSocketManager) -> None:
        await manager.send(message("login"))
        while True:
            answer = await manager.receive()
            if answer is not None and answer.data == {"op": "login", "ok": True}:
                return

    async def _trade(self, stop: asyncio.Event) -> None:
        manager = await self._factory.get_rest_manager()
        while not stop.is_set():
            order = str(next(self._ids))
            headers = {}
            if int(order) % IDEMPOTENT_SHARE == 0:
                self.idempotent.add(order)
                headers["Idempotency-Key"] = order
            try:
                answer: Any = await manager.execute_request(
                    f"{self._url}/order",
                    "orders",
                    params={"id": order},
                    method=RESTMethod.POST,
                    headers=headers,
                    is_auth_required=True,
                    timeout=20,
                )
            except (HTTPStatusError, TransportError, DeadlineExceeded) as error:
                (self.maybe if error.maybe_processed else self.refused).add(order)
                # A restart takes a moment.
                await asyncio.sleep(0.02)
            else:
                assert answer == {"id": order}
                self.answered.add(order)

    async def _connect(self, manager: WebSocketManager) -> None:
        while True:
            try:
                await manager.connect(
                    self._fresh_url,
                    ping_timeout=0.8,
                    close_timeout=0.2,
                    heartbeat=(0.7, message("beat"), lambda m: m.data == {"op": "beaten"}),
                )
                await self._log_in(manager)
                for name in SUBSCRIPTIONS:
                    await manager.subscribe(message(name))
            except (OSError, aiohttp.ClientError, NetworkpypeError):
                await manager.disconnect()
                await asyncio.sleep(0.1)
            else:
                self._is_subscribed.set()
                return

    async def _listen(self, manager: WebSocketManager) -> None:
        await self._connect(manager)
        last: int | None = None
        async for received in manager.iter_messages():
            if isinstance(received, Gap):
                self.seen["gaps"] += 1
                last = None
                continue
            number = received.data.get("n")
            if number is None:
                continue
            self.seen["ticks"] += 1
            if last is not None and number != last + 1:
                self.untold_gaps.append(f"{last} -> {number}")
            last = number

    async def _chat(self, manager: WebSocketManager) -> None:
        """Send messages at any time, as other tasks of a program do."""
        await self._is_subscribed.wait()
        while True:
            await asyncio.sleep(0.15)
            with contextlib.suppress(OSError, aiohttp.ClientError, NetworkpypeError):
                await manager.send(message("chat"))
                self.seen["chats"] += 1
