"""A client that reads a stream slowly: `python -m soak.slow_reader PORT ITEMS BYTES_PER_SECOND`.

It tells when the first item has come, and at the end how many there were, and which was not the
next one.
"""

import json
import socket
import sys
import time

from soak.wire import (
    END_OF_HEAD,
    HOST,
    PING,
    PONG,
    TEXT,
    Frames,
    call,
    frame,
    tell,
    upgrade_request,
)

READ_BYTES = 64 * 1024
SECONDS = 60


def read(port: int, items: int, rate: int) -> None:
    with socket.socket() as raw:
        # Small, or the kernel would take the stream instead of the reader.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READ_BYTES)
        raw.settimeout(SECONDS)
        raw.connect((HOST, port))
        raw.sendall(upgrade_request(port))
        head = b""
        while END_OF_HEAD not in head:
            head += raw.recv(1)
        raw.sendall(call(f"/items/{items}", id=1))
        frames, taken, received, wrong, last = Frames(), 0, 0, None, None
        begun = time.monotonic()
        while last is None:
            data = raw.recv(READ_BYTES)
            if not data:
                break
            received += len(data)
            for first, payload in frames.feed(data):
                if first == PING:
                    raw.sendall(frame(payload, PONG))
                if first != TEXT:
                    continue
                reply = json.loads(payload)
                if reply.get("stream") != "next":
                    last = reply
                    break
                if reply["data"]["number"] != taken and wrong is None:
                    wrong = payload.decode()
                if taken == 0:
                    tell("begun")
                taken += 1
            time.sleep(max(0.0, begun + received / rate - time.monotonic()))
        seconds = round(time.monotonic() - begun, 1)
        tell({"taken": taken, "wrong": wrong, "last": last, "bytes": received, "seconds": seconds})


if __name__ == "__main__":
    read(*map(int, sys.argv[1:]))
