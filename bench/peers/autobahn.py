"""Plain Autobahn on Twisted's own reactor: the echo server of its documentation, and the work."""

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import reactor, ssl
from twisted.protocols.tls import TLSMemoryBIOFactory

from bench.peers.work import answer, listening_socket, options


class Protocol(WebSocketServerProtocol):
    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.sendMessage(answer(payload), isBinary)


def main() -> None:
    given = options()
    factory = WebSocketServerFactory()
    factory.protocol = Protocol
    listens = factory
    if given.certificate is not None:
        context = ssl.DefaultOpenSSLContextFactory(given.key, given.certificate)
        listens = TLSMemoryBIOFactory(context, isClient=False, wrappedFactory=factory)
    listening = listening_socket()
    reactor.adoptStreamPort(listening.fileno(), listening.family, listens)
    reactor.run()


if __name__ == "__main__":
    main()
