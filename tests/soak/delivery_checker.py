"""Judges what subscribers are told: every offset once, in order, or a gap that had to be.

A `Ledger` knows what was published. A `Follower` stands for one subscriber of one topic; it is
told of everything that comes, and its faults go into the ledger.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ("Follower", "Ledger", "Place")

FAULTS_AT_MOST = 20


class Place(NamedTuple):
    epoch: str
    offset: int


@dataclass
class Ledger:
    """What was published, as far as the publishers know, and what is wrong.

    `history` tells how many messages of a topic are kept. With `may_change_epoch` the broker may
    have lost everything; else a topic stays in its epoch.
    """

    history: Callable[[str], int]
    may_change_epoch: bool = False
    attempts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _begins: dict[str, int] = field(default_factory=dict)
    _data: dict[tuple[str, Place], Any] = field(default_factory=dict)
    _confirmed: set[tuple[str, Place]] = field(default_factory=set)
    _seen: set[tuple[str, Place]] = field(default_factory=set)
    _gaps: dict[str, list[tuple[Place, Place]]] = field(default_factory=dict)
    _places: dict[Any, tuple[str, Place]] = field(default_factory=dict)

    def begin(self, topic: str, place: Place) -> None:
        """Note where a topic was before anything was published."""
        self._begins.setdefault(topic, place.offset)

    def attempt(self, topic: str) -> None:
        """Note that a message is about to be published."""
        self.attempts[topic] += 1

    def confirm(self, topic: str, place: Place, data: Any) -> None:
        """Note that a publisher was told of the position of its message."""
        self.counts["confirmed"] += 1
        if (topic, place) in self._confirmed:
            self.fault("two messages have one offset", topic, place)
        self._confirmed.add((topic, place))
        self._match(topic, place, data)

    def saw(self, topic: str, place: Place, data: Any) -> None:
        """Note that a subscriber was sent a message."""
        self.counts["pushes"] += 1
        self._seen.add((topic, place))
        self._match(topic, place, data)

    def _match(self, topic: str, place: Place, data: Any) -> None:
        if self._data.setdefault((topic, place), data) != data:
            self.fault("two messages have one offset", topic, place, data)
        if self._places.setdefault(data, (topic, place)) != (topic, place):
            self.fault("one message has two offsets", topic, place, data)

    def saw_gap(self, topic: str, before: Place, after: Place) -> None:
        """Note that a subscriber was told of what it has missed."""
        self.counts["gaps"] += 1
        self._gaps.setdefault(topic, []).append((before, after))

    def _is_in_gap(self, topic: str, place: Place) -> bool:
        return any(
            place.epoch == before.epoch
            and before.offset < place.offset
            and (place.epoch != after.epoch or place.offset <= after.offset)
            for before, after in self._gaps.get(topic, ())
        )

    def explains(self, topic: str, gap: Place) -> bool:
        """Tell whether so much was published behind a gap that what it hides is kept no longer."""
        at_most = self._begins.get(topic, 0) + self.attempts[topic]
        return at_most >= gap.offset + self.history(topic)

    def fault(self, what: str, *about: Any) -> None:
        self.counts["all faults"] += 1
        if len(self.faults) < FAULTS_AT_MOST:
            self.faults.append(f"{what}: {', '.join(map(str, about))}")

    def finish(self, heads: Mapping[str, Place]) -> None:
        """Look for messages that were confirmed and that nobody got."""
        for topic, place in sorted(self._confirmed - self._seen):
            head = heads.get(topic)
            if head is None or (place.epoch == head.epoch and place.offset > head.offset):
                self.fault("a confirmed message is behind the head", topic, place, head)
            elif not self._is_in_gap(topic, place):
                # Many subscribe to each topic: what none of them got all of them were told of.
                self.fault("nobody got a confirmed message", topic, place)


class Follower:
    """One subscriber of one topic: `place` is what it would ask to go on from."""

    def __init__(self, ledger: Ledger, topic: str, name: str = "") -> None:
        self._ledger = ledger
        self.topic = topic
        self._name = name
        self.place: Place | None = None
        self._owed_gap: Place | None = None
        self._is_subscribed = False
        self._is_asking = False
        self._skipped: set[Place] = set()

    def subscribing(self) -> None:
        """Note that a SUBSCRIBE with `place` as its `since` was sent."""
        self._is_asking = True

    def answered(self, told: Mapping[str, Any]) -> None:
        """Take the answer to a SUBSCRIBE."""
        place = Place(told["epoch"], told["offset"])
        if not self._is_asking or told["topic"] != self.topic:
            self._fault("an answer that nobody asked for", told)
        self._is_asking, self._is_subscribed = False, True
        self._owed_gap = None
        if self.place is None:
            self.place = place
            self._ledger.begin(self.topic, place)
        elif place != self.place:
            self._owed_gap = place

    def left(self) -> None:
        """Note that the connection is gone, or that an UNSUBSCRIBE was answered."""
        self._is_asking = self._is_subscribed = False
        self._owed_gap = None

    def take(self, push: Mapping[str, Any]) -> None:
        """Take a push or a gap."""
        place = Place(push["epoch"], push["offset"])
        if push["topic"] != self.topic:
            self._fault("a push of another topic", push["topic"])
        elif not self._is_subscribed or self.place is None:
            self._fault("a push without a subscription", place)
        elif push.get("gap"):
            self._take_gap(place)
        else:
            self._take_message(place, push["data"])

    def _take_message(self, place: Place, data: Any) -> None:
        before = self.place
        assert before is not None
        if self._owed_gap is not None:
            self._fault("a missing gap", "before", place, "answered", self._owed_gap)
            before, self._owed_gap = self._owed_gap, None
        if place.epoch != before.epoch:
            self._fault("another epoch without a gap", before, place)
        elif place in self._skipped:
            self._skipped.discard(place)
            self._fault("a replay after a later message", place, "now at", before)
            self._ledger.saw(self.topic, place, data)
            return
        elif place.offset <= before.offset:
            self._fault("a double", place, "now at", before)
            return
        elif place.offset > before.offset + 1:
            self._fault("a skipped offset", place, "now at", before)
            self._skipped |= {
                Place(place.epoch, offset) for offset in range(before.offset + 1, place.offset)
            }
        self.place = place
        self._ledger.saw(self.topic, place, data)

    def _take_gap(self, place: Place) -> None:
        before, owed = self.place, self._owed_gap
        assert before is not None
        self._owed_gap = None
        self._ledger.saw_gap(self.topic, before, place)
        if owed is None:
            self._ledger.counts["live gaps"] += 1
        elif place.epoch == owed.epoch and place.offset < owed.offset:
            self._fault("a gap that contradicts the answer", place, "answered", owed)
        if place.epoch != before.epoch:
            self._ledger.counts["epochs"] += 1
            if not self._ledger.may_change_epoch:
                self._fault("another epoch", before, place)
        elif place.offset <= before.offset:
            self._fault("a gap in which nothing is missing", place, "now at", before)
        elif not self._ledger.explains(self.topic, place):
            self._fault("a gap that history does not explain", before, place)
        self.place = place

    def finish(self, head: Place) -> None:
        """Compare with the head of the topic, when all is over."""
        if self.place != head:
            self._fault("incomplete", "at", self.place, "head", head)

    def _fault(self, what: str, *about: Any) -> None:
        self._ledger.fault(what, self._name, self.topic, *about)
