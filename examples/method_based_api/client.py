"""Calls with Autobahn on asyncio; the `id` of a reply tells which call it answers."""

import asyncio
import itertools
import json
import sys

from autobahn.asyncio.websocket import WebSocketClientFactory, WebSocketClientProtocol


class Client(WebSocketClientProtocol):
    def __init__(self):
        super().__init__()
        self.opened = asyncio.get_running_loop().create_future()
        self.ids = itertools.count(1)
        self.calls = {}

    def call(self, method, url, **rest):
        """Return a future of the reply."""
        request = {"method": method, "url": url, **rest, "id": next(self.ids)}
        reply = self.calls[request["id"]] = asyncio.get_running_loop().create_future()
        self.sendMessage(json.dumps(request).encode())
        return reply

    def onOpen(self):
        self.opened.set_result(self)

    def onMessage(self, payload, isBinary):
        self.calls.pop(json.loads(payload)["id"]).set_result(payload.decode())

    def onClose(self, wasClean, code, reason):
        for waiting in (self.opened, *self.calls.values()):
            if not waiting.done():
                waiting.set_exception(ConnectionError(reason))


async def main(url="ws://127.0.0.1:8080/"):
    factory = WebSocketClientFactory(url)
    factory.protocol = Client
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(factory, factory.host, factory.port)
    await client.opened
    print(await client.call("POST", "/notes", data="Buy milk"))
    print(await client.call("POST", "/notes", data="Call Grace"))
    print(await client.call("PUT", "/notes/1", data="Buy oat milk"))
    print(await client.call("DELETE", "/notes/2"))
    print(await client.call("GET", "/notes/2"))
    print(await client.call("POST", "/notes", data=""))
    print(await client.call("GET", "/notes"))
    client.sendClose()
    await client.is_closed


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
