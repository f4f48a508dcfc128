"""An exchange that behaves badly, and takes down what its client does wrong."""

import asyncio
import collections
import contextlib
import itertools
import json
import time
from collections.abc import Callable

from aiohttp import web

# The rules of the house.
ORDERS_PER_SECOND = 20
MESSAGES_PER_SECOND = 10
SUBSCRIPTIONS = tuple(f"subscribe {name}" for name in "abcdefghijkl")
TICK_SECONDS = 0.01
BAN_SECONDS = 1  # Retry-After has whole seconds
TIMESTAMP_SECONDS = 30.0

# Two looks at a clock, one by each side, are not one look; what is on its way arrives.
GRACE_SECONDS = 0.25
# What was signed before the machine was suspended may arrive after it.
SIGNED_BEFORE_SECONDS = 3.0

FOREIGN_HEADERS = {
    "RateLimit-Policy": '"foreign";q=3;w=600',
    "RateLimit": '"foreign";r=0;t=600',
    "X-Foreign-RateLimit-Limit": "1",
}

# What happens to an order: nothing to most of them.
FATES = ("answer",) * 16 + ("drop before", "drop after", "fail after", "foreign headers")


class Ban:
    """Refuse requests for a while, and note those that come although they were told."""

    def __init__(self, name: str, exchange: "Exchange") -> None:
        self._name = name
        self._exchange = exchange
        self._until = 0.0
        self._told_at: float | None = None

    def start(self) -> None:
        self._until = asyncio.get_running_loop().time() + BAN_SECONDS
        self._told_at = None

    def refusal(self) -> web.Response | None:
        now = asyncio.get_running_loop().time()
        if now >= self._until:
            return None
        told_at = self._told_at
        if told_at is None:
            # From now on for the whole time, so that the number is true.
            self._told_at, self._until = now, now + BAN_SECONDS
        elif told_at + GRACE_SECONDS < now < self._until - GRACE_SECONDS:
            self._exchange.faults.append(f"{self._name} {now - told_at:.3f} s after the ban")
        self._exchange.seen["refused"] += 1
        return web.Response(status=429, headers={"Retry-After": str(BAN_SECONDS)})


class Exchange:
    """Orders over HTTP, ticks over WebSockets; `faults` are those of the client."""

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        self._wall_clock = wall_clock
        self._jumped_at = -SIGNED_BEFORE_SECONDS
        self.faults: list[str] = []
        self.seen: collections.Counter[str] = collections.Counter()
        self.executed: collections.Counter[str] = collections.Counter()
        # How often an order came that was not refused, by id.
        self.processed: collections.Counter[str] = collections.Counter()
        self.arrivals: list[float] = []
        self.messages: list[float] = []
        self.order_ban = Ban("an order", self)
        self.handshake_ban = Ban("a handshake", self)
        self.closes_at_once = False
        self._fates = itertools.cycle(FATES)
        self._keys = itertools.count(1)
        self._used_keys: set[str] = set()
        self._feeds: set[Feed] = set()
        self._number = 0
        self._port = 0
        self._runner: web.AppRunner | None = None
        self._ticking: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/time", self._time)
        app.router.add_post("/key", self._key)
        app.router.add_post("/order", self._order)
        app.router.add_get("/ws/{key}", self._ws)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        self._ticking = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        assert self._runner is not None
        assert self._ticking is not None
        self._ticking.cancel()
        for feed in tuple(self._feeds):
            feed.transport.abort()
        await self._runner.cleanup()

    def note_jump(self) -> None:
        """Note that the clock of the client's machine has jumped."""
        self._jumped_at = asyncio.get_running_loop().time()

    def close_feeds(self) -> None:
        for feed in tuple(self._feeds):
            feed.close()

    def silence_feeds(self) -> None:
        """Drop all feeds without a word: no tick, no pong, no close, no FIN."""
        for feed in self._feeds:
            feed.is_silent = True

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._number += 1
            for feed in tuple(self._feeds):
                await feed.tick(self._number)

    async def _time(self, _: web.Request) -> web.Response:
        return web.json_response({"ms": self._wall_clock() * 1000})

    async def _key(self, _: web.Request) -> web.Response:
        return web.json_response({"key": str(next(self._keys))})

    async def _order(self, request: web.Request) -> web.StreamResponse:
        now = asyncio.get_running_loop().time()
        self.arrivals.append(now)
        self._check_timestamp(now, int(request.query["timestamp"]) / 1000)
        refusal = self.order_ban.refusal()
        if refusal is not None:
            return refusal
        order = request.query["id"]
        self.processed[order] += 1
        fate = next(self._fates)
        self.seen[fate] += 1
        is_known = "Idempotency-Key" in request.headers and order in self.executed
        if fate != "drop before" and not is_known:
            self.executed[order] += 1
        if fate.startswith("drop"):
            assert request.transport is not None
            request.transport.abort()
        if fate == "fail after":
            return web.json_response({"error": "timeout"}, status=504)
        headers = FOREIGN_HEADERS if fate == "foreign headers" else {}
        return web.json_response({"id": order}, headers=headers)

    def _check_timestamp(self, now: float, signed_at: float) -> None:
        off = abs(signed_at - self._wall_clock())
        if off > TIMESTAMP_SECONDS and now - self._jumped_at > SIGNED_BEFORE_SECONDS:
            self.faults.append(f"a timestamp that is {off:.0f} s off")

    async def _ws(self, request: web.Request) -> web.StreamResponse:
        refusal = self.handshake_ban.refusal()
        if refusal is not None:
            return refusal
        key = request.match_info["key"]
        if key in self._used_keys:
            self.faults.append("a listen key that was used before")
        self._used_keys.add(key)
        self.seen["connections"] += 1
        websocket = web.WebSocketResponse(autoping=False)
        await websocket.prepare(request)
        assert request.transport is not None
        feed = Feed(self, websocket, request.transport)
        await websocket.send_str('{"op":"welcome"}')
        if self.closes_at_once:
            self.seen["greeted and closed"] += 1
            await websocket.close(code=1013)
            return websocket
        self._feeds.add(feed)
        try:
            await feed.serve()
        finally:
            self._feeds.discard(feed)
        return websocket


class Feed:
    """One WebSocket of the exchange."""

    def __init__(
        self, exchange: Exchange, websocket: web.WebSocketResponse, transport: asyncio.Transport
    ) -> None:
        self._exchange = exchange
        self._websocket = websocket
        self.transport = transport
        self._texts: list[str] = []
        self.is_silent = False

    async def serve(self) -> None:
        async for message in self._websocket:
            if self.is_silent:
                # As if the cable were cut; the client finds out and goes.
                await asyncio.sleep(0)
                continue
            if message.type is web.WSMsgType.PING:
                await self._websocket.pong(message.data)
            elif message.type is web.WSMsgType.TEXT:
                await self._read(json.loads(message.data)["op"])

    async def tick(self, number: int) -> None:
        if self._is_ready() and not self.is_silent:
            with contextlib.suppress(ConnectionError):
                await self._websocket.send_str(json.dumps({"n": number}))

    def close(self) -> None:
        task = asyncio.ensure_future(self._websocket.close(code=1012))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _is_ready(self) -> bool:
        return len(self._texts) > len(SUBSCRIPTIONS)

    async def _read(self, text: str) -> None:
        self._exchange.messages.append(asyncio.get_running_loop().time())
        if text == "beat":
            await self._websocket.send_str('{"op":"beaten"}')
            return
        expected = ("login", *SUBSCRIPTIONS)
        if not self._is_ready():
            if text != expected[len(self._texts)]:
                self._exchange.faults.append(f"{text!r} before {expected[len(self._texts)]!r}")
            self._texts.append(text)
        if text == "login":
            await self._websocket.send_str('{"op":"login","ok":true}')


def most_in_a_window(times: list[float], seconds: float) -> int:
    """Return the largest number of `times` in a half-open window."""
    most = first = 0
    for last, moment in enumerate(times):
        while times[first] <= moment - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


class Wall:
    """The wall clock of a machine that can be suspended: it is ahead of the steady clock then."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self._ahead

    def suspend(self, seconds: float) -> None:
        self._ahead += seconds
