"""Plain Autobahn, which sends one prepared message to all: the broadcast of its documentation."""

import secrets
from typing import Any

import msgspec
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import reactor

from bench.peers.work import PRICE, listening_socket

_decode = msgspec.json.decode
_encode = msgspec.json.encode

EPOCH = secrets.token_hex(8)


class Protocol(WebSocketServerProtocol):
    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        call = _decode(payload)
        if call["method"] == "SUBSCRIBE":
            self.factory.subscribers[self] = None
            answer: Any = {"topic": "prices", "epoch": EPOCH, "offset": self.factory.offset}
        else:
            self.factory.publish(PRICE)
            answer = {"encoded": 1, "framed": 1}
        self.sendMessage(_encode({"data": answer, "event_name": call["event_name"]}), isBinary)

    def onClose(self, *_: Any) -> None:
        self.factory.subscribers.pop(self, None)


class Factory(WebSocketServerFactory):
    protocol = Protocol

    def __init__(self) -> None:
        super().__init__()
        self.subscribers: dict[Protocol, None] = {}
        self.offset = 0

    def publish(self, data: Any) -> None:
        self.offset += 1
        push = {
            "event_name": "prices",
            "topic": "prices",
            "epoch": EPOCH,
            "offset": self.offset,
            "data": data,
        }
        message = self.prepareMessage(_encode(push))
        for subscriber in self.subscribers:
            subscriber.sendPreparedMessage(message)


def main() -> None:
    listening = listening_socket()
    reactor.adoptStreamPort(listening.fileno(), listening.family, Factory())
    reactor.run()


if __name__ == "__main__":
    main()
