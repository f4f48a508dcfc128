"""Send some orders: python send_orders.py [URL]."""

import asyncio
import sys

import aiohttp

ORDERS = (
    {"side": "buy", "price": 95, "size": 10},
    {"side": "sell", "price": 99, "size": 4},
    {"side": "buy", "price": 95, "size": 5},
    {"side": "sell", "price": 99, "size": -4},
)


async def main(url="ws://127.0.0.1:8080/"):
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        for order in ORDERS:
            post = {"method": "POST", "url": "/books/tea/orders", "args": order}
            await socket.send_json(post)
            print((await socket.receive_json())["data"])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
