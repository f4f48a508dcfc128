"""A small exchange: weights, a limit for orders, a clock of its own, signatures.

- Every request has a weight; 60 in any second are allowed, and every response says in
  X-MBX-USED-WEIGHT-1S how much is used. Orders have a limit of their own: 10 in any half second.
  What is over a limit is answered with 429 and Retry-After.
- Signed requests carry `timestamp` and, as their last parameter, `signature`: the HMAC-SHA256, in
  hex, of the query before it and the body. A timestamp older than `recvWindow`, or more than a
  second ahead, is refused. The exchange's clock is an hour ahead of this machine's.
- On the stream /stream a client logs in with a signed message and then hears of its orders.
"""

import argparse
import contextlib
import hashlib
import hmac
import itertools
import math
import socket
import time
from collections import deque

from aiohttp import WSCloseCode, web

SECRETS = {"demo-key": b"demo-secret"}
CLOCK_AHEAD_SECONDS = 3600
PRICES = {"TEAUSD": "2.50", "MILKUSD": "0.80"}

routes = web.RouteTableDef()


class Window:
    """At most `limit` in any window of so many seconds."""

    def __init__(self, limit, seconds):
        self.limit, self.seconds = limit, seconds
        self.used = 0
        self._taken = deque()

    def wait_seconds(self, weight):
        """Return for how long a request of this weight has to wait; 0 is not at all."""
        now = time.monotonic()
        while self._taken and now - self._taken[0][0] >= self.seconds:
            self.used -= self._taken.popleft()[1]
        left = self.limit - self.used
        for taken_at, taken in self._taken:
            if left >= weight:
                break
            left += taken
            if left >= weight:
                return taken_at + self.seconds - now
        return 0

    def take(self, weight):
        self._taken.append((time.monotonic(), weight))
        self.used += weight


class Exchange:
    def __init__(self):
        self.weight = Window(60, 1.0)
        self.orders = Window(10, 0.5)
        self.order_numbers = itertools.count(1)
        self.balance = 100_000
        self.listeners = {}
        self.served = self.refused = 0


EXCHANGE = web.AppKey("exchange", Exchange)


class Refusal(Exception):
    def __init__(self, status, code, text, **headers):
        super().__init__(text)
        self.status, self.code, self.text, self.headers = status, code, text, headers


def now_ms():
    return int((time.time() + CLOCK_AHEAD_SECONDS) * 1000)


def check_signature(key, timestamp_ms, window_ms, signed, signature):
    """Raise Refusal unless the owner of the key signed this, and just now."""
    if not -1000 <= now_ms() - timestamp_ms <= window_ms:
        raise Refusal(400, -1021, "The timestamp is outside of recvWindow.")
    expected = hmac.new(SECRETS.get(key, b""), signed, hashlib.sha256).hexdigest()
    if key not in SECRETS or not hmac.compare_digest(expected, signature):
        raise Refusal(401, -1022, "The signature is not valid.")


async def check_signed(request):
    signed, _, signature = request.rel_url.raw_query_string.rpartition("&signature=")
    check_signature(
        request.headers.get("X-MBX-APIKEY", ""),
        int(request.query.get("timestamp", 0)),
        int(request.query.get("recvWindow", 5000)),
        signed.encode() + await request.read(),
        signature,
    )


def weighs(weight, *, signed=False, is_order=False):
    """Let a handler be called only within the limits and, if so told, signed."""

    def decorate(handler):
        async def admit(request):
            exchange = request.app[EXCHANGE]
            windows = [(exchange.weight, weight)]
            if is_order:
                windows.append((exchange.orders, 1))
            wait = max(window.wait_seconds(needed) for window, needed in windows)
            if wait > 0:
                exchange.refused += 1
                seconds = {"Retry-After": str(math.ceil(wait))}
                raise Refusal(429, -1003, "Too much weight, or too many orders.", **seconds)
            for window, needed in windows:
                window.take(needed)
            exchange.served += 1
            if signed:
                await check_signed(request)
            return await handler(request)

        return admit

    return decorate


@web.middleware
async def answer_refusals(request, handler):
    used = request.app[EXCHANGE].weight
    try:
        response = await handler(request)
    except Refusal as refusal:
        body = {"code": refusal.code, "msg": str(refusal)}
        response = web.json_response(body, status=refusal.status, headers=refusal.headers)
    if not response.prepared:
        response.headers["X-MBX-USED-WEIGHT-1S"] = str(used.used)
    return response


@routes.get("/time")
@weighs(1)
async def server_time(request):
    return web.json_response({"serverTime": now_ms()})


@routes.get("/ticker")
@weighs(2)
async def ticker(request):
    symbol = request.query["symbol"]
    if symbol not in PRICES:
        raise Refusal(400, -1121, f"There is no symbol {symbol}.")
    return web.json_response({"symbol": symbol, "price": PRICES[symbol]})


@routes.get("/account")
@weighs(10, signed=True)
async def account(request):
    return web.json_response({"balance": request.app[EXCHANGE].balance})


@routes.post("/order")
@weighs(1, signed=True, is_order=True)
async def order(request):
    exchange = request.app[EXCHANGE]
    wanted = await request.json()
    placed = {**wanted, "orderId": next(exchange.order_numbers), "status": "FILLED"}
    exchange.balance -= wanted["quantity"]
    for listener in tuple(exchange.listeners.get(request.headers["X-MBX-APIKEY"], ())):
        # One that has just gone misses it.
        with contextlib.suppress(ConnectionResetError):
            await listener.send_json({"event": "order", **placed})
    return web.json_response(placed)


@routes.get("/stream")
async def stream(request):
    """Log the client in, then send it news of its orders until it goes."""
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    listeners = set()
    try:
        async for message in websocket:
            login = message.json()
            key, stamp = login["apiKey"], login["timestamp"]
            try:
                signed = f"apiKey={key}&timestamp={stamp}".encode()
                check_signature(key, stamp, 60_000, signed, login["signature"])
            except Refusal:
                await websocket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"login failed")
                break
            listeners = request.app[EXCHANGE].listeners.setdefault(key, set())
            listeners.add(websocket)
            await websocket.send_json({"event": "login"})
    finally:
        listeners.discard(websocket)
    return websocket


async def close_streams(app):
    for listeners in app[EXCHANGE].listeners.values():
        for websocket in tuple(listeners):
            await websocket.close(code=WSCloseCode.GOING_AWAY)


async def say_goodbye(app):
    exchange = app[EXCHANGE]
    print(f"{exchange.served} requests served, {exchange.refused} over a limit", flush=True)


def make_app():
    app = web.Application(middlewares=[answer_refusals])
    app[EXCHANGE] = Exchange()
    app.add_routes(routes)
    app.on_shutdown.append(close_streams)
    app.on_cleanup.append(say_goodbye)
    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    listening = socket.create_server(("127.0.0.1", parser.parse_args().port))
    print(f"Serving http://127.0.0.1:{listening.getsockname()[1]}/", flush=True)
    web.run_app(make_app(), sock=listening, print=None, access_log=None)
