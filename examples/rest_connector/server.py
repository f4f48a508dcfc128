"""A shop with a strict doorkeeper: 20 requests in any half second, everything else is a 429."""

import argparse
import socket
import time
from collections import deque

from aiohttp import web

LIMIT, WINDOW_SECONDS = 20, 0.5
PRODUCTS = {number: {"id": number, "name": f"Teapot {number}"} for number in range(1, 41)}
EXPORT_LINE = b"a line of the stock list, as long as the one before it\n"

routes = web.RouteTableDef()


class Shop:
    """What the shop remembers while it is open."""

    def __init__(self):
        self.arrivals = deque()
        self.refused = 0
        self.reports_asked_for = 0
        self.orders = {}


SHOP = web.AppKey("shop", Shop)


@web.middleware
async def count(request, handler):
    """Let a request in, or send it away, by those of the last half second."""
    shop = request.app[SHOP]
    now = time.monotonic()
    while shop.arrivals and now - shop.arrivals[0] >= WINDOW_SECONDS:
        shop.arrivals.popleft()
    if len(shop.arrivals) >= LIMIT:
        shop.refused += 1
        return web.json_response(
            {"error": "slow down"}, status=429, headers={"Retry-After": str(WINDOW_SECONDS)}
        )
    shop.arrivals.append(now)
    return await handler(request)


@routes.get("/products/{number}")
async def product(request):
    number = int(request.match_info["number"])
    if number not in PRODUCTS:
        return web.json_response({"error": f"there is no product {number}"}, status=404)
    return web.json_response(PRODUCTS[number])


@routes.get("/report")
async def report(request):
    """Be overloaded twice, then answer."""
    shop = request.app[SHOP]
    shop.reports_asked_for += 1
    if shop.reports_asked_for % 3:
        return web.json_response({"error": "overloaded"}, status=503)
    return web.json_response({"sold": 12})


@routes.post("/orders")
async def order(request):
    """Take an order, and lose the connection before the first answer to it."""
    shop = request.app[SHOP]
    key = request.headers["Idempotency-Key"]
    is_new = key not in shop.orders
    shop.orders.setdefault(key, await request.json())
    if is_new and request.transport is not None:
        request.transport.abort()
    return web.json_response({"order": list(shop.orders).index(key) + 1, **shop.orders[key]})


@routes.get("/export")
async def export(request):
    response = web.StreamResponse(headers={"Content-Length": str(len(EXPORT_LINE) * 20_000)})
    await response.prepare(request)
    for _ in range(200):
        await response.write(EXPORT_LINE * 100)
    return response


@routes.get("/books")
async def books(request):
    """Tell how many orders there are, and how many requests were sent away."""
    shop = request.app[SHOP]
    return web.json_response({"orders": len(shop.orders), "refused": shop.refused})


def make_app():
    app = web.Application(middlewares=[count])
    app[SHOP] = Shop()
    app.add_routes(routes)
    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    listening = socket.create_server(("127.0.0.1", parser.parse_args().port))
    print(f"Serving http://127.0.0.1:{listening.getsockname()[1]}/", flush=True)
    web.run_app(make_app(), sock=listening, print=None, access_log=None)
