"""Call and follow the first server: python python_client.py [URL]."""

import asyncio
import sys

from aiorest_ws.client import NotFound, connect


async def main(url: str) -> None:
    async with connect(url) as api:
        print(await api.get("/hello"))
        print(await api.get("/hello/Ada", args={"punctuation": "?"}, reply=str))
        try:
            await api.get("/goodbye", timeout=5)
        except NotFound as error:
            print(error)


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8080/"))
