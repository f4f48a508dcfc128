"""Clients that mean no good, alone and together: what they cost, and how each is ended."""

import time
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from soak.processes import POLITE, Family, KernelMemory, Process, Server, cores, raise_file_limit
from soak.scale import IS_FULL, IS_SMOKE, number

pytestmark = pytest.mark.soak

MiB = 1 << 20
FILES = 4_000
START_SECONDS = 120
ATTACK_SECONDS = 400

NEIGHBOURS = number("neighbours", 5, 50)
CALLS_PER_SECOND = 20
CALM_SECONDS = number("calm_seconds", 1, 10)
LONG = number("attack_seconds", 1, 15)
RATE = number("rate", 500, 5_000)

TIMES_CALM = 3
MILLISECONDS = 25

# Smaller than the defaults where a smoke would have to wait for them.
PATIENCE = (
    {}
    if IS_FULL
    else {"handshake_seconds": 1, "ping_seconds": 1, "pong_seconds": 3, "unsent_seconds": 2}
)


@dataclass(frozen=True)
class Kind:
    """An attack: its size, how the server ends it, and what its memory may grow by meanwhile."""

    name: str
    count: int
    bound: int
    seconds: int = LONG
    rate: int = RATE
    size: int = 0
    ending: str | None = None
    hits: tuple[str, ...] = ()
    limits: dict[str, Any] = field(default_factory=dict)

    @property
    def arguments(self) -> tuple[Any, ...]:
        return self.name, self.count, self.seconds, self.rate, self.size


# What a client that does not read may have waiting: the mark of `unsent_pause_bytes`, the reply
# that goes beyond it, and what one read brings of its calls: 64 KiB, 100 KB, 64 KiB.
UNREAD = 256 * 1024

DEAF = number("deaf", 10, 200)

KINDS = (
    Kind(
        "silent_readers",
        count=DEAF,
        size=number("due_bytes", 10_000_000, 100_000_000),
        ending="reset",
        hits=("unsent_seconds",),
        bound=DEAF * UNREAD,
    ),
    Kind(
        "slowloris",
        count=number("slow", 25, 500),
        ending="dropped",
        hits=("handshake_seconds",),
        bound=16 * MiB,
    ),
    Kind(
        "byte_senders",
        count=number("byte_senders", 10, 100),
        ending="dropped",
        hits=("pong_seconds",),
        bound=8 * MiB,
    ),
    Kind(
        "bombs",
        count=number("bombs", 2, 30),
        size=number("bomb_bytes", 64 * MiB, 1_000 * MiB),
        ending="close 1009",
        hits=("message_bytes",),
        bound=16 * MiB,
    ),
    Kind(
        "headers",
        count=number("headers", 4, 50),
        size=20 * MiB,
        ending="HTTP 431",
        hits=("handshake_bytes",),
        bound=16 * MiB,
    ),
    Kind("pings", count=20, bound=8 * MiB),
    Kind(
        "deaf_pings",
        count=number("deaf_pingers", 2, 5),
        rate=number("deaf_rate", 20_000, 10_000),
        ending="reset",
        # Whichever is first: the kernel takes some megabytes before we have to.
        hits=("unsent_seconds", "pong_seconds"),
        bound=5 * UNREAD,
    ),
    Kind("cancels", count=20, rate=RATE // 3, bound=8 * MiB),
    Kind("unknown_urls", count=20, bound=16 * MiB),
    Kind(
        "too_many",
        count=RATE // (5 * CALLS_PER_SECOND),
        ending="close 1008",
        hits=("messages_per_second",),
        limits={"messages_per_second": 2 * CALLS_PER_SECOND},
        bound=8 * MiB,
    ),
)


class Street:
    """A server, the clients that behave, and the attackers."""

    def __init__(self, family: Family, limits: dict[str, Any], say: Any) -> None:
        self._say = say
        if IS_FULL and len(set(cores())) < 2:
            pytest.skip("latencies are measured with two cores, and this machine gives one")
        raise_file_limit(FILES)
        self.family = family
        self.server: Server = family.server(limits=PATIENCE | limits, compress=True)
        self.control = self.server.control()
        self._neighbours = family.client(
            "neighbours", self.server.port, NEIGHBOURS, CALLS_PER_SECOND
        )
        assert self._neighbours.result(START_SECONDS) == "ready"
        self.calm = self.measured(lambda: time.sleep(CALM_SECONDS))

    def measured(self, happen: Any) -> dict[str, Any]:
        """Return what the neighbours tell of the time in which something happens."""
        self._neighbours.tell("begin")
        happen()
        self._neighbours.tell("end")
        told = self._neighbours.result(START_SECONDS)
        assert told["replies"] == told["calls"] > 0, told
        assert not told["faults"], told
        assert not told["closed"], told
        return told

    def attackers(self, kind: Kind) -> Process:
        attackers = self.family.client("attacks", self.server.port, *kind.arguments, nice=POLITE)
        assert attackers.result(START_SECONDS) == "ready"
        return attackers

    def attack(self, *kinds: Kind) -> tuple[list[dict[str, Any]], dict[str, Any], int]:
        """Return what the attackers and the neighbours tell, and the growth of memory."""
        attackers = [self.attackers(kind) for kind in kinds]
        told: list[dict[str, Any]] = []

        def happen() -> None:
            for one in attackers:
                one.tell("attack")
            told.extend(one.result(ATTACK_SECONDS) for one in attackers)

        self.server.reset_peak()
        before = self.server.resident()
        with KernelMemory() as kernel:
            neighbours = self.measured(happen)
        growth = self.server.peak() - before
        log_bytes = len(self.server.error_text())
        self._say(
            growth=growth, kernel=kernel.growth, log=log_bytes, calm=self.calm, then=neighbours
        )
        return told, neighbours, growth

    def hits(self) -> dict[str, int]:
        return self.control.ask("/state")["limit_hits"]

    def assert_calm(self, told: dict[str, Any]) -> None:
        """Fail if the neighbours have noticed; a smoke has too few calls to tell."""
        if IS_FULL:
            assert told["p99"] <= max(TIMES_CALM * self.calm["p99"], MILLISECONDS), told


# In a smoke those that are also in the test of all together are left to it.
ALONE = [kind for kind in KINDS if kind.limits or not IS_SMOKE]


@pytest.mark.parametrize("kind", ALONE, ids=lambda kind: kind.name)
def test_attack_is_ended_and_neither_memory_nor_the_neighbours_suffer(family, say, kind):
    street = Street(family, kind.limits, say)
    (told,), neighbours, growth = street.attack(kind)
    hits = street.hits()
    say(bound=kind.bound, told=told, hits=hits)
    assert growth <= kind.bound
    _assert_ended(kind, told, hits)
    street.assert_calm(neighbours)


def test_all_attacks_together_are_no_more_than_their_sum(family, say):
    # Slower, for they share one core. What needs a limit that would end the others is left out.
    kinds = [
        replace(kind, rate=kind.rate // 4, seconds=2 * kind.seconds)
        for kind in KINDS
        if not kind.limits
    ]
    street = Street(family, {}, say)
    all_told, neighbours, growth = street.attack(*kinds)
    hits = street.hits()
    bound = sum(kind.bound for kind in kinds)
    say(bound=bound, told=all_told, hits=hits)
    assert growth <= bound
    for kind, told in zip(kinds, all_told, strict=True):
        _assert_ended(kind, told, hits)
    street.assert_calm(neighbours)


def _assert_ended(kind: Kind, told: dict[str, Any], hits: dict[str, int]) -> None:
    if kind.ending is not None:
        # Some come again.
        assert set(told["endings"]) == {kind.ending}, told
        assert told["endings"][kind.ending] >= kind.count, told
        assert sum(hits.get(name, 0) for name in kind.hits) >= told["endings"][kind.ending], hits
        return
    # A flood within the limits is answered to the last message, and not ended.
    assert not told["endings"], told
    if kind.name == "pings":
        assert told["pongs"] == told["sent"] > 0, told
        assert "wrong" not in told, told
    elif kind.name == "cancels":
        assert told["status 499"] == told["calls"] - kind.count > 0, told
    else:
        assert told["status 404"] == told["sent"] > 0, told
