"""Make inputs out of a seed and a corpus, play them, and keep the one that fails."""

import gc
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Protocol

CORPUS = Path(__file__).parents[1] / "corpus"
FAILURES = Path(__file__).parents[1] / "failures"

# So many plays fill the caches; what is counted after them must not grow with the number of plays.
WARM_UP = 300
# Objects that the collector knows: one container per play would be hundreds of times this.
MOST_NEW_OBJECTS = 3_000
# The allocator keeps pages; one largest message that is not freed per hundred plays is above it.
MOST_NEW_BYTES = 48 * 1024 * 1024

# Unhandled failures in Deferreds are logged when they are collected.
PLAYS_PER_COLLECTION = 100

MOST_BYTES = 200_000


class Target(Protocol):
    """What is fuzzed."""

    name: str
    words: tuple[bytes, ...]

    def generate(self, random: Random) -> bytes: ...
    def play(self, data: bytes) -> str:
        """Play an input; return what came of it, or raise AssertionError."""
        ...

    def at_rest(self) -> None:
        """Raise AssertionError if something is left of the plays so far."""
        ...


@dataclass
class Tally:
    """What a run has done."""

    plays: int = 0
    seconds: float = 0.0
    new_objects: int = 0
    new_bytes: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)


def corpus(target: Target) -> list[Path]:
    """Return the files that are kept for a target."""
    return sorted((CORPUS / target.name).glob("*.bin"))


def run(target: Target, seed: int, seconds: float) -> Tally:
    """Play inputs for so long, at least the warm-up; AssertionError names one that fails."""
    kept = [path.read_bytes() for path in corpus(target)]
    tally, begun = Tally(), time.monotonic()
    objects = resident = 0
    while tally.plays <= WARM_UP or time.monotonic() - begun < seconds:
        data = make_input(target, seed, tally.plays, kept)
        outcome = keep_if_it_fails(target, data, lambda data=data: target.play(data))
        tally.outcomes[outcome] = tally.outcomes.get(outcome, 0) + 1
        tally.plays += 1
        if tally.plays % PLAYS_PER_COLLECTION == 0:
            gc.collect()
            keep_if_it_fails(target, data, target.at_rest)
        if tally.plays == WARM_UP:
            objects, resident = len(gc.get_objects()), resident_bytes()
    gc.collect()
    target.at_rest()
    tally.new_objects = len(gc.get_objects()) - objects
    tally.new_bytes = resident_bytes() - resident
    tally.seconds = time.monotonic() - begun
    assert tally.new_objects <= MOST_NEW_OBJECTS, tally
    assert tally.new_bytes <= MOST_NEW_BYTES, tally
    return tally


def keep_if_it_fails(target: Target, data: bytes, play: Callable[[], str | None]) -> str:
    """Return what `play` does; write the input to a file if it raises."""
    try:
        return play() or ""
    except Exception as exc:
        FAILURES.mkdir(exist_ok=True)
        path = FAILURES / f"{target.name}-{hashlib.sha256(data).hexdigest()[:12]}.bin"
        path.write_bytes(data)
        raise AssertionError(f"{path}: {type(exc).__name__}: {exc}") from exc


def make_input(target: Target, seed: int, number: int, kept: list[bytes] | None = None) -> bytes:
    """Return the input of a number; the same one for the same seed and corpus."""
    random = Random(f"{target.name} {seed} {number}")
    if kept is None:
        kept = [path.read_bytes() for path in corpus(target)]
    if not kept or random.random() < 0.5:
        data = target.generate(random)
    else:
        data = random.choice(kept)
        if random.random() < 0.3:
            other = random.choice(kept)
            data = (
                data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]
            )
    if random.random() < 0.6:
        data = mutated(data, random, target.words)
    return data[:MOST_BYTES]


def mutated(data: bytes, random: Random, words: tuple[bytes, ...]) -> bytes:
    """Return `data` with a few changes."""
    text = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        at = random.randrange(len(text) + 1)
        size = random.choice((1, 1, 1, 2, 4, 16, 100))
        kind = random.randrange(7)
        if kind == 0 and at < len(text):
            text[at] ^= 1 << random.randrange(8)
        elif kind == 1 and at < len(text):
            text[at] = random.choice((0, 1, 9, 10, 13, 32, 0x7F, 0x80, 0xFE, 0xFF))
        elif kind == 2:
            del text[at : at + size]
        elif kind == 3:
            text[at:at] = text[at : at + size] * random.choice((1, 2, 50))
        elif kind == 4:
            text[at:at] = random.randbytes(size)
        elif kind == 5:
            text[at:at] = random.choice(words)
        else:
            del text[at:]
    return bytes(text)


def pieces(data: bytes) -> list[bytes]:
    """Return `data` cut as the same data always is."""
    random = Random(hashlib.sha256(data).digest())
    way = random.randrange(4)
    if way == 0 or not data:
        return [data]
    if way == 1 and len(data) <= 500:
        return [data[at : at + 1] for at in range(len(data))]
    count = random.choice((1, 2, 5, 20))
    cuts = sorted(random.randrange(len(data) + 1) for _ in range(count))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]


def resident_bytes() -> int:
    """Return how much memory this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
