"""Calls sent all at once; each is answered when it is done, and its `id` tells which it was."""

import asyncio
import json
import sys

from websockets.asyncio.client import connect

CALLS = (
    {"method": "GET", "url": "/both"},
    {"method": "GET", "url": "/deferred"},
    {"method": "POST", "url": "/fingerprint", "args": {"text": "Ada"}},
    {"method": "GET", "url": "/chimes"},
    {"method": "GET", "url": "/calls"},
    {"method": "GET", "url": "/calls"},
    {"method": "GET", "url": "/capitals/Kenya"},
    {"method": "GET", "url": "/capitals/Atlantis"},
    {"method": "GET", "url": "/hello"},
)


async def main(url="ws://127.0.0.1:8080/"):
    replies = {}
    async with connect(url) as connection:
        for number, call in enumerate(CALLS):
            await connection.send(json.dumps({**call, "id": number}))
        while len(replies) < len(CALLS):
            reply = await connection.recv()
            replies[json.loads(reply)["id"]] = reply
    for number in range(len(CALLS)):
        print(replies[number])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
