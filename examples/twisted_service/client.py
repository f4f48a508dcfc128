"""A worker waits for a job that another client brings; Autobahn on asyncio."""

import asyncio
import json
import sys

from autobahn.asyncio.websocket import WebSocketClientFactory, WebSocketClientProtocol


class Client(WebSocketClientProtocol):
    def __init__(self):
        super().__init__()
        self.opened = asyncio.get_running_loop().create_future()
        self.replies = asyncio.Queue()

    def onOpen(self):
        self.opened.set_result(self)

    def onMessage(self, payload, isBinary):
        self.replies.put_nowait(payload.decode())

    def onClose(self, wasClean, code, reason):
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(reason))
        self.replies.put_nowait(f"closed: {code}")

    def send(self, **request):
        self.sendMessage(json.dumps(request).encode())


async def connect(url):
    factory = WebSocketClientFactory(url)
    factory.protocol = Client
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(factory, factory.host, factory.port)
    return await client.opened


async def main(url="ws://127.0.0.1:8080/"):
    worker, customer = await connect(url), await connect(url)
    worker.send(method="GET", url="/jobs", event_name="work")
    worker.send(method="GET", url="/hello")
    print("worker:  ", await worker.replies.get())
    customer.send(method="POST", url="/jobs", data={"paint": "the fence"})
    print("customer:", await customer.replies.get())
    print("worker:  ", await worker.replies.get())
    for client in (worker, customer):
        client.sendClose()
        await client.is_closed


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
