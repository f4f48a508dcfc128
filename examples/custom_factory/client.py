"""Two connections that share what the factory keeps, with `websockets` on asyncio."""

import asyncio
import json
import sys

from websockets.asyncio.client import connect


async def call(connection, method, url, **rest):
    await connection.send(json.dumps({"method": method, "url": url, **rest}))
    return await connection.recv()


async def main(url="ws://127.0.0.1:8080/"):
    async with connect(url) as first, connect(url) as second:
        print(await call(first, "GET", "/cookies"))
        print(await call(first, "PUT", "/cookies/theme", data="light"))
        print(await call(second, "GET", "/cookies/theme"))
        print(await call(second, "GET", "/cookies/flavour"))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
