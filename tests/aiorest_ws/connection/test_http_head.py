"""Upgrade requests: which are HTTP to the letter, in size and in time."""

import logging

import pytest
import pytest_twisted
from twisted.internet.task import deferLater

from support.handshakes import ACCEPT, answer_to, factory_with, request, status


@pytest_twisted.ensureDeferred
async def test_a_handshake_of_the_rfc_is_answered(network):
    answer = await answer_to(network, request())
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert ACCEPT in answer
    assert b"Server: aiorest-ws\r\n" in answer


@pytest_twisted.ensureDeferred
async def test_a_refusal_is_http_with_the_reason_and_an_end(network):
    port = await network.serve(factory=factory_with())
    raw = await network.raw(port, request(b"Origin: http://evil.example"))
    answer = await raw.end()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 The origin 'http://evil.example' is neither ")
    assert b"\r\nConnection: close\r\n" in head
    assert f"\r\nContent-Length: {len(body)}".encode() in head
    assert body.startswith(b"The origin 'http://evil.example' is neither the host that was asked")


# Not HTTP to the letter

FORBIDDEN = [*range(9), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F, 0x85]


@pytest.mark.parametrize(
    ("place", "byte"),
    [
        (place, byte)
        for place in ("line", "name", "value", "early")
        for byte in FORBIDDEN
        if (place, byte) != ("value", 0x85)  # it is part of many a character in UTF-8
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_control_character_is_refused(network, byte, place):
    it = bytes((byte,))
    data = {
        "line": request(first=b"GET /" + it + b" HTTP/1.1"),
        "name": request(b"X-A" + it + b"B: c"),
        "value": request(b"X-A: b" + it + b"c"),
        "early": b"GET /" + it,
    }[place]
    assert status(await answer_to(network, data)) == 400


@pytest.mark.parametrize(
    "data",
    [
        request().replace(b"\r\n", b"\n"),
        request().replace(b"\r\nUpgrade", b"\nUpgrade"),
        request().replace(b"\r\nUpgrade", b"\rUpgrade"),
        request(b"X-A: b\nOrigin: http://localhost"),
        request(b"X-A: b\rOrigin: http://localhost"),
        b"GET / HTTP/1.1\n",
        request(b"X-A : b"),
        request(b" X-A: b"),
        request(b"X-A: b", b" folded: c"),
        request(b"X-A: b", b"\tfolded"),
        request(b"no colon"),
        request(b": no name"),
        request(b"X(A): b"),
        request("X-Ä: b".encode()),
        request(b"Host: localhost"),
        request(b"HOST: other"),
        request(b"Origin: http://localhost", b"origin: http://localhost"),
        request(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        request(host=b""),
        b"\r\n\r\n",
        b"hello\r\n\r\n",
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_not_http_to_the_letter_is_refused(network, data):
    answer = await answer_to(network, data)
    assert status(answer) == 400
    assert b"101" not in answer


@pytest.mark.parametrize(
    "line",
    [
        b"X-A:",
        b"X-A:b",
        b"X-A: b\tc ",
        "X-A: ä€".encode().replace(b"\x82", b"\xac"),
        b"X-A: \xff\xa0",
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_http_allows_is_taken(network, line):
    assert status(await answer_to(network, request(line))) == 101


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest_twisted.ensureDeferred
async def test_a_request_may_come_in_pieces(network, size):
    port = await network.serve(factory=factory_with())
    raw = await network.raw(port)
    data = request(b"Origin: http://localhost")
    for begin in range(0, len(data), size):
        raw.transport.write(data[begin : begin + size])
        await deferLater(network.reactor, 0)
    assert status(await raw.until(b"\r\n\r\n")) == 101


# Size and time


@pytest_twisted.ensureDeferred
async def test_a_request_may_have_exactly_the_size_of_the_limit(network):
    padding = 16 * 1024 - len(request(b"X: "))
    assert status(await answer_to(network, request(b"X: " + b"x" * padding))) == 101


@pytest.mark.parametrize("is_whole", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_request_over_the_limit_is_refused(network, is_whole):
    factory = factory_with()
    padding = 16 * 1024 - len(request(b"X: ")) + 1
    data = request(b"X: " + b"x" * padding)
    answer = await answer_to(network, data if is_whole else data[:-4] + b"x" * 4, factory)
    assert status(answer) == 431
    assert factory.limit_hits == {"handshake_bytes": 1}


@pytest_twisted.ensureDeferred
async def test_twenty_mebibytes_of_headers_are_answered_and_not_kept(network):
    port = await network.serve(factory=factory_with())
    raw = await network.raw(port, b"GET / HTTP/1.1\r\n")
    for _ in range(20):
        raw.transport.write(b"X: " + b"x" * 2**20 + b"\r\n")
    connection = raw.received
    assert b" 431 " in (await raw.until(b"\r\n\r\n"))
    assert connection == b""


@pytest_twisted.ensureDeferred
async def test_a_slow_request_is_dropped(network, caplog):
    caplog.set_level(logging.INFO, "aiorest-ws")
    factory = factory_with(handshake_seconds=0.1)
    port = await network.serve(factory=factory)
    raw = await network.raw(port, b"GET / HT")
    assert await raw.end() == b""
    assert factory.limit_hits == {"handshake_seconds": 1}
    [line] = [r.getMessage() for r in caplog.records if "handshake_seconds" in r.getMessage()]
    assert line.startswith("limit handshake_seconds: tcp4:127.0.0.1:")
