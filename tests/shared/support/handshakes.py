"""Upgrade requests, and what they are answered with."""

from aiorest_ws.limits import Limits
from aiorest_ws.request import RequestHandlerFactory, RequestHandlerProtocol
from aiorest_ws.routers import SimpleRouter

ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, 1.3


def request(
    *more: bytes, host: bytes = b"Host: localhost", first: bytes = b"GET / HTTP/1.1"
) -> bytes:
    """Return the opening handshake of the RFC, and further lines."""
    lines = (
        *(first, host),
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b"Sec-WebSocket-Version: 13",
        *more,
    )
    return b"".join(line + b"\r\n" for line in lines if line) + b"\r\n"


def factory_with(protocol=RequestHandlerProtocol, **limits):
    factory = RequestHandlerFactory(router=SimpleRouter(), limits=Limits(**limits))
    factory.protocol = protocol
    return factory


async def answer_to(network, data, factory=None):
    port = await network.serve(factory=factory or factory_with())
    raw = await network.raw(port, data)
    return await raw.until(b"\r\n\r\n")


def status(answer):
    return int(answer.split()[1])
