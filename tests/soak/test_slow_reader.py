"""A long stream to a client that reads slowly costs the server no memory."""

import pytest

from soak.scale import number

pytestmark = pytest.mark.soak

ITEMS = number("items", 100_000, 1_000_000)
BYTES_PER_SECOND = number("bytes_per_second", 6_000_000, 1_000_000)
ITEM_BYTES = 200  # at most, with its frame
START_SECONDS = 60
SPARE_SECONDS = 120

# The mark of `unsent_pause_bytes`, what goes in one write, and room for the allocator.
GROWTH_BYTES = 4 << 20


def test_the_memory_of_a_server_is_flat_while_a_slow_client_reads_a_long_stream(family, say):
    server = family.server()
    control = server.control()
    # What is imported and allocated once is there before it is measured.
    warm = family.client("slow_reader", server.port, 1_000, 100_000_000)
    assert warm.result(START_SECONDS) == "begun"
    assert warm.result(START_SECONDS)["taken"] == 1_000
    reader = family.client("slow_reader", server.port, ITEMS, BYTES_PER_SECOND)
    assert reader.result(START_SECONDS) == "begun"
    server.reset_peak()
    before = server.resident()
    told = reader.result(ITEMS * ITEM_BYTES / BYTES_PER_SECOND + SPARE_SECONDS)
    growth = server.peak() - before
    say(growth=growth, **told)
    assert told["taken"] == ITEMS, told
    assert told["wrong"] is None, told
    assert told["last"] == {"event_name": None, "id": 1, "stream": "end"}
    assert growth <= GROWTH_BYTES
    assert control.ask("/state")["limit_hits"] == {}
