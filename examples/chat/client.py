"""Ada and Grace in a room; Grace loses her connection, and misses nothing."""

import asyncio
import itertools
import json
import sys

from websockets.asyncio.client import connect


class Person:
    """A connection whose replies and pushes are kept apart."""

    def __init__(self, name, connection):
        self.name = name
        self.place = None
        self._connection = connection
        self._ids = itertools.count()
        self._pushes = []

    async def call(self, method, url, **rest):
        """Return the data of the reply; what is pushed in the meantime is read later."""
        call_id = next(self._ids)
        await self._connection.send(
            json.dumps({"method": method, "url": url, "id": call_id, **rest})
        )
        while True:
            message = json.loads(await self._connection.recv())
            if "topic" in message:
                self._pushes.append(message)
            elif message["id"] == call_id:
                return message["data"] if "data" in message else message["detail"]

    async def enter(self, since=None):
        await self.call("PUT", "/name", data=self.name)
        answer = await self.call("SUBSCRIBE", "rooms/tea", event_name="tea", since=since)
        present = sorted(info["name"] for info in answer["presence"].values())
        print(f"{self.name} enters; there: {', '.join(present)}")

    async def hear(self):
        """Print the next push."""
        push = self._pushes.pop(0) if self._pushes else json.loads(await self._connection.recv())
        if "join" in push:
            print(f"{self.name} sees {push['join']['info']['name']} come")
        elif "leave" in push:
            print(f"{self.name} sees somebody go")
        else:
            self.place = {"epoch": push["epoch"], "offset": push["offset"]}
            print(f"{self.name} hears {push['data']['name']}: {push['data']['text']}")


async def main(url="ws://127.0.0.1:8080/"):
    async with connect(url) as connection:
        ada = Person("Ada", connection)
        print(await ada.call("SUBSCRIBE", "rooms/tea"))
        await ada.enter()

        async with connect(url) as first:
            grace = Person("Grace", first)
            await grace.enter()
            await ada.hear()
            await ada.call("POST", "/rooms/tea", data="Hello, Grace!")
            await ada.hear()
            await grace.hear()
        await ada.hear()

        for text in ("Are you still there?", "I shall wait."):
            await ada.call("POST", "/rooms/tea", data=text)
            await ada.hear()

        async with connect(url) as second:
            again = Person("Grace", second)
            await again.enter(since=grace.place)
            await again.hear()
            await again.hear()
            print(await again.call("GET", "/rooms/tea/people"))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
