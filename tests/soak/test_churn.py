"""Hundreds of thousands come and go, in every way there is, and leave nothing behind."""

import pytest

from soak.census import Census
from soak.churn import LARGE, WAYS
from soak.processes import eventually, raise_file_limit
from soak.scale import IS_FULL, number

pytestmark = pytest.mark.soak

VISITS = number("visits", 1_000, 200_000)
ROUNDS = 5
FILES = 1_000
ROUND_SECONDS = 600
GROWTH = 1.05

HEAVY = number("heavy", 20, 100)
HEAVY_ROUNDS = 10
# One round of them, twice over: the message that is not complete, and what was read last of it.
HEAVY_BYTES = 2 * HEAVY * (LARGE + 2 * 65_536)


def test_visitors_leave_no_object_behind(family, say):
    raise_file_limit(FILES)
    server = family.server()
    control = server.control()
    visitors = family.client("churn", server.port)
    each = VISITS // ROUNDS
    peaks = []
    census = None
    for _ in range(ROUNDS):
        server.reset_peak()
        visitors.tell(str(each))
        ways = visitors.result(ROUND_SECONDS)
        assert ways == {way.__name__: each // len(WAYS) for way in WAYS}
        if census is None:
            # The first round has filled the caches.
            census = Census(control)
        census.assert_nothing_is_left()
        peaks.append(server.peak())
    say(visits=each * ROUNDS, peaks=peaks, after=server.resident())
    if IS_FULL:
        assert peaks[-1] <= peaks[1] * GROWTH, peaks
    connected = control.ask("/state")["connected"]
    # A call whose connection is reset may never be read; those of a proper client are.
    assert connected["begun"] >= 2 * VISITS // len(WAYS), connected
    assert connected.get("cancelled") == connected["begun"], connected
    assert not server.error_text(), server.error_text()[:2000]


def test_bytes_of_a_connection_go_with_it(family, say):
    server = family.server()
    control = server.control()
    visitors = family.client("churn", server.port)
    before = server.resident()
    server.reset_peak()
    for _ in range(HEAVY_ROUNDS):
        visitors.tell(f"heavy {HEAVY}")
        assert visitors.result(ROUND_SECONDS) == HEAVY
        eventually(
            lambda: control.ask("/state")["connections"] == 1, ROUND_SECONDS, server.error_text
        )
    growth = server.peak() - before
    say(growth=growth, bound=HEAVY_BYTES)
    # No collection has been asked for.
    assert growth <= HEAVY_BYTES
