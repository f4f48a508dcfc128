"""Call the first server: python first_client.py [URL]."""

import asyncio
import sys

import aiohttp


async def main(url):
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        await socket.send_json({"method": "GET", "url": "/hello"})
        print(await socket.receive_json())

        arguments = {"punctuation": "?"}
        await socket.send_json(
            {"method": "GET", "url": "/hello/Ada", "args": arguments}
        )
        print(await socket.receive_json())

        await socket.send_json({"method": "GET", "url": "/goodbye"})
        print(await socket.receive_json())


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8080/"))
