"""What the log says of refusals."""

import logging

import pytest
import pytest_twisted
from twisted.internet.task import Clock

from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter
from support.handshakes import factory_with, request, status


@pytest_twisted.ensureDeferred
async def test_no_line_has_what_only_the_client_may_know(network, caplog):
    caplog.set_level(logging.DEBUG)
    secrets = (b"Authorization: Bearer s3cr3t", b"Cookie: session=s3cr3t")
    factory = factory_with()
    port = await network.serve(factory=factory)
    for data in (
        request(*secrets, first=b"GET /?token=s3cr3t HTTP/1.1"),
        request(*secrets, first=b"GET /?token=s3cr3t HTTP/1.1 more"),
        request(*secrets, first=b"GET /?token=s3cr3t#fragment HTTP/1.1"),
        request(*secrets, b"Sec-WebSocket-Version: s3cr3t"),
    ):
        raw = await network.raw(port, data)
        await raw.until(b"\r\n\r\n")
    assert "handshake refused" in caplog.text
    assert "s3cr3t" not in caplog.text
    levels = {r.levelname for r in caplog.records if r.name.startswith("aiorest-ws")}
    assert levels <= {"INFO", "DEBUG"}


JUNK = [
    b"junk\r\n\r\n",
    b"\0",
    b"GET / HTTP/1.1\r\n\r\n",
    request(b"X : y"),
    request(host=b"Host:"),
    request().replace(b"Version: 13", b"Version: 8"),
    request().replace(b"dGhl", b"?"),
    request(first=b"POST / HTTP/1.1"),
    request() + b"\xff\xff\xff\xff",
    request() + b"\x81\x00",
]


@pytest.mark.parametrize("junk", JUNK)
@pytest_twisted.ensureDeferred
async def test_a_flood_of_junk_writes_ten_lines_a_second(network, caplog, junk):
    caplog.set_level(logging.INFO, "aiorest-ws")
    clock = Clock()
    factory = RequestHandlerFactory(router=SimpleRouter(), reactor=clock)
    port = await network.serve(factory=factory)

    async def flood(times):
        for _ in range(times):
            raw = await network.raw(port, junk)
            answer = await raw.until(b"\r\n\r\n")
            if status(answer) == 101:
                await raw.until(b"\r\n\r\n\x88")  # a close frame
            raw.transport.abortConnection()
        found = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return found

    lines = await flood(40)
    assert len(lines) == 10
    assert not any("more before it" in line for line in lines)
    clock.advance(1)
    [line] = await flood(1)
    assert line.endswith(" (30 more before it)")


@pytest_twisted.ensureDeferred
async def test_a_flood_of_refusals_is_counted_and_not_written_down_one_by_one(network, caplog):
    caplog.set_level(logging.INFO, "aiorest-ws")
    factory = factory_with()
    for _ in range(1000):
        factory.limit_hits.note("connections", "tcp4:192.0.2.1:1", "503")
    assert factory.limit_hits["connections"] == 1000
    lines = [r for r in caplog.records if getattr(r, "limit", None) == "connections"]
    assert 1 <= len(lines) <= 30  # ten in a second, and this takes less than two
