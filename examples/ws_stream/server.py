"""A feed of numbered trades that now and then drops its clients, and the history of them."""

import argparse
import asyncio
import itertools
import socket

from aiohttp import WSCloseCode, web

TRADES_PER_CONNECTION, MISSED_BETWEEN = 4, 2

routes = web.RouteTableDef()


class Market:
    """The trades so far, and who listens."""

    def __init__(self):
        self.trades = []
        self.listeners = set()
        self.drops = itertools.count()

    def trade(self, channel):
        number = len(self.trades) + 1
        self.trades.append({"channel": channel, "number": number, "price": 200 + number})
        return self.trades[-1]


MARKET = web.AppKey("market", Market)


@routes.get("/stream")
async def stream(request):
    """Send what the client subscribes to, until either side ends it."""
    market = request.app[MARKET]
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    market.listeners.add(websocket)
    feeds = []
    try:
        async for message in websocket:
            channel = message.json()["subscribe"]
            feeds.append(asyncio.create_task(feed(market, channel, websocket, request)))
    finally:
        market.listeners.discard(websocket)
        for task in feeds:
            task.cancel()
        await asyncio.gather(*feeds, return_exceptions=True)
    return websocket


async def feed(market, channel, websocket, request):
    for _ in range(TRADES_PER_CONNECTION):
        await websocket.send_json(market.trade(channel))
        await asyncio.sleep(0.01)
    for _ in range(MISSED_BETWEEN):
        market.trade(channel)
    if next(market.drops) % 2 == 0:
        await websocket.close(code=WSCloseCode.SERVICE_RESTART, message=b"restart")
    elif request.transport is not None:
        request.transport.close()  # not a word of goodbye: no close frame


@routes.get("/trades")
async def history(request):
    """Give the trades of a channel after one number and before another."""
    after, before = int(request.query["after"]), int(request.query["before"])
    trades = request.app[MARKET].trades[after : before - 1]
    return web.json_response([t for t in trades if t["channel"] == request.query["channel"]])


async def close_streams(app):
    for websocket in tuple(app[MARKET].listeners):
        await websocket.close(code=WSCloseCode.GOING_AWAY)


def make_app():
    app = web.Application()
    app[MARKET] = Market()
    app.add_routes(routes)
    app.on_shutdown.append(close_streams)
    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    listening = socket.create_server(("127.0.0.1", parser.parse_args().port))
    print(f"Serving http://127.0.0.1:{listening.getsockname()[1]}/", flush=True)
    web.run_app(make_app(), sock=listening, print=None, access_log=None)
