"""Calls in text and in base64, with `websockets` and without asyncio."""

import base64
import json
import sys

from websockets.sync.client import connect


def call(connection, request):
    connection.send(json.dumps(request))
    print(connection.recv())


def call_in_base64(connection, request):
    connection.send(base64.b64encode(json.dumps(request).encode()))
    reply = connection.recv()
    print(reply.decode(), "is", base64.b64decode(reply).decode())


def main(url="ws://127.0.0.1:8080/"):
    with connect(url) as connection:
        call(connection, {"method": "GET", "url": "/hello"})
        call(connection, {"method": "GET", "url": "/hello/Ada", "event_name": "greeting"})
        call(connection, {"method": "POST", "url": "/divide", "args": {"a": 1, "b": 8}})
        call(connection, {"method": "POST", "url": "/divide", "args": {"a": 1, "b": 0}})
        call(connection, {"method": "POST", "url": "/divide", "args": {"a": 1}})
        call(connection, {"method": "DELETE", "url": "/hello"})
        call(connection, {"method": "GET", "url": "/nowhere"})
        call_in_base64(connection, {"method": "GET", "url": "/hello"})


if __name__ == "__main__":
    main(*sys.argv[1:])
