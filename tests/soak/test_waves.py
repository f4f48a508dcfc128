"""Ten thousand open connections on one process, one in a hundred active, three times."""

import pytest

from soak.census import PROTOCOL, TRANSPORT, Census
from soak.processes import eventually, raise_file_limit
from soak.scale import IS_FULL, number

pytestmark = pytest.mark.soak

CONNECTIONS = number("connections", 300, 10_000)
ACTIVE = max(1, CONNECTIONS // 100)
SECONDS = number("seconds", 1, 60)
WAVES = 3
OPEN_SECONDS = 300
SPARE_FILES = 200
GROWTH = 1.05


def test_every_reply_arrives_and_nothing_is_left_of_a_wave(family, say):
    raise_file_limit(CONNECTIONS + SPARE_FILES)
    server = family.server()
    control = server.control()
    census = Census(control)
    peaks = []
    for _ in range(WAVES):
        server.reset_peak()
        before = server.resident()
        load = family.client("load", server.port, CONNECTIONS, ACTIVE, SECONDS)
        assert load.result(OPEN_SECONDS) == {"opened": CONNECTIONS}
        # The proof of the proof: what is to be gone afterwards is seen while it is there.
        added = census.more()
        assert added[PROTOCOL] == added[TRANSPORT] == CONNECTIONS, added
        load.tell("call")
        told = load.result(SECONDS + OPEN_SECONDS)
        assert told["calls"] >= ACTIVE * SECONDS, told
        assert told["replies"] == told["calls"], told
        assert not told["faults"], told
        assert not told["lost"], told
        load.tell("close")
        assert load.result(OPEN_SECONDS) == {"1000": CONNECTIONS}
        load.tell("end")
        assert load.wait(OPEN_SECONDS) == 0
        census.assert_nothing_is_left()
        peaks.append(server.peak())
        say(before=before, peak=peaks[-1], after=server.resident(), **told)
    if IS_FULL:
        assert peaks[2] <= peaks[1] * GROWTH, peaks
    assert not server.error_text(), server.error_text()[:2000]


@pytest.mark.parametrize(
    ("path", "part"),
    [("/never", "twisted.internet.defer.Deferred"), ("/never-awaited", "_asyncio.Future")],
)
def test_census_sees_one_call_that_is_still_running(family, path, part):
    server = family.server()
    census = Census(server.control())
    visitor = server.control()
    visitor.send(path)
    added = eventually(
        lambda: (more := census.more()).get(part) and more, OPEN_SECONDS, census.more
    )
    assert added[PROTOCOL] == 1, added
    visitor.close()
    census.assert_nothing_is_left()
