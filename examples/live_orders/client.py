"""Two connections, to whichever processes: one changes orders, the other one watches."""

import asyncio
import itertools
import json
import sys

from websockets.asyncio.client import connect


class Api:
    """Calls, and the pushes that come in between."""

    def __init__(self, connection):
        self._connection = connection
        self._ids = itertools.count(1)
        self.pushes = []

    async def call(self, method, url, **rest):
        call_id = next(self._ids)
        message = {"method": method, "url": url, "id": call_id, **rest}
        await self._connection.send(json.dumps(message))
        while True:
            message = json.loads(await self._connection.recv())
            if "topic" in message:
                self.pushes.append(message)
            elif message["id"] == call_id:
                return message.get("data", message.get("detail"))

    async def push(self):
        if not self.pushes:
            self.pushes.append(json.loads(await self._connection.recv()))
        return self.pushes.pop(0)


async def main(url="ws://127.0.0.1:8080/"):
    async with connect(url) as first, connect(url) as second:
        seller, watcher = Api(first), Api(second)
        start = await watcher.call("SUBSCRIBE", "orders")

        order = await seller.call("POST", "/orders", args={"item": "tea", "quantity": 2})
        for state in ("paid", "sent"):
            await seller.call("PUT", f"/orders/{order['number']}", args={"state": state})
        print(await seller.call("POST", "/orders", args={"item": "gold", "quantity": 1}))

        for _ in range(3):
            push = await watcher.push()
            item, quantity, state = (push["data"][key] for key in ("item", "quantity", "state"))
            print(push["offset"] - start["offset"], item, quantity, state)

    async with connect(url) as third:
        latecomer = Api(third)
        since = {"epoch": start["epoch"], "offset": start["offset"] + 1}
        await latecomer.call("SUBSCRIBE", "orders", since=since)
        print([(await latecomer.push())["data"]["state"] for _ in range(2)])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
