"""What the log says of refusals."""

import logging

import pytest_twisted

from support.handshakes import factory_with, request


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


@pytest_twisted.ensureDeferred
async def test_a_flood_of_refusals_is_counted_and_not_written_down_one_by_one(network, caplog):
    caplog.set_level(logging.INFO, "aiorest-ws")
    factory = factory_with()
    for _ in range(1000):
        factory.limit_hits.note("connections", "tcp4:192.0.2.1:1", "503")
    assert factory.limit_hits["connections"] == 1000
    lines = [r for r in caplog.records if getattr(r, "limit", None) == "connections"]
    assert 1 <= len(lines) <= 30  # ten in a second, and this takes less than two
