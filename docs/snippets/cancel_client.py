"""Request a report and cancel the call: python cancel_client.py [URL]."""

import asyncio
import itertools
import sys

import aiohttp


class Caller:
    """Concurrent calls on one socket; cancelling one here cancels it on the server."""

    def __init__(self, socket):
        self._socket = socket
        self._numbers = itertools.count()
        self._waiting = {}

    async def call(self, method, url, **keys):
        number, reply = next(self._numbers), asyncio.get_running_loop().create_future()
        self._waiting[number] = reply
        try:
            message = {"method": method, "url": url, "id": number, **keys}
            await self._socket.send_json(message)
            return await reply
        except asyncio.CancelledError:
            await self._socket.send_json({"method": "CANCEL", "id": number})
            raise
        finally:
            del self._waiting[number]

    async def listen(self):
        async for message in self._socket:
            reply = message.json()
            if reply["id"] in self._waiting:
                self._waiting[reply["id"]].set_result(reply)


async def main(url):
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        caller = Caller(socket)
        listening = asyncio.create_task(caller.listen())
        try:
            async with asyncio.timeout(0.1):
                await caller.call("GET", "/reports/long")
        except TimeoutError:
            print("cancelled by this client")
        print(await caller.call("GET", "/reports/long", timeout=0.1))
        print(await caller.call("GET", "/reports/short"))
        listening.cancel()


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8080/"))
