"""Watch an order book until interrupted: python watch_book.py [URL [GOOD]]."""

import asyncio
import contextlib
import sys

import aiohttp


class Watcher:
    """A copy of a book, and its position in the topic."""

    def __init__(self, good):
        self.good = good
        self.book = None
        self.position = None
        self.held = []

    async def watch(self, socket):
        """Keep the copy up to date until the connection ends."""
        since = self.position if self.book is not None else None
        subscribe = {"method": "SUBSCRIBE", "url": f"books/{self.good}", "id": "watch"}
        await socket.send_json({**subscribe, "since": since})
        async for message in socket:
            said = message.json()
            if "detail" in said:
                raise RuntimeError(said["detail"])
            if said["id"] == "book":
                self.take_book(said["data"])
            elif "topic" not in said:  # the reply to SUBSCRIBE
                if since is None:
                    await self.fetch(socket, said["data"])
            elif "gap" in said:
                await self.fetch(socket, said)
            else:
                self.change(said)

    async def fetch(self, socket, place):
        """Request the book; `place` is the reply to SUBSCRIBE, or a gap."""
        self.book, self.position, self.held = None, place_of(place), []
        get = {"method": "GET", "url": f"/books/{self.good}", "id": "book"}
        await socket.send_json(get)

    def take_book(self, book):
        """Store the book, then apply the pushes that arrived during the fetch."""
        self.book = book
        self.show("the whole book")
        for push in self.held:
            self.change(push)

    def change(self, push):
        """Apply the new value of a level."""
        self.position = place_of(push)
        if self.book is None:
            self.held.append(push)
            return
        level = push["data"]
        levels = self.book[level["side"]]
        levels.pop(str(level["price"]), None)
        if level["size"]:
            levels[str(level["price"])] = level["size"]
        self.show("a change")

    def show(self, why):
        print(f"{why}: buy {self.book['buy']}, sell {self.book['sell']}", flush=True)


def place_of(message):
    return {"epoch": message["epoch"], "offset": message["offset"]}


async def main(url="ws://127.0.0.1:8080/", good="tea"):
    watcher = Watcher(good)
    async with aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.ws_connect(url, heartbeat=20) as socket:
                    await watcher.watch(socket)
            print("the server is away", flush=True)
            await asyncio.sleep(1)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
