"""Liveness, on a clock that is moved by hand."""

import heapq
from collections.abc import Callable
from typing import Any

import pytest

from networkpype.websocket._watchdog import JUST_NOW, Watchdog


class Handle:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualLoop:
    """Time and timers of a loop."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, int, Handle]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> Handle:
        handle = Handle(callback)
        heapq.heappush(self.timers, (self.now + delay, len(self.timers), handle))
        return handle

    def advance(self, to: float) -> None:
        while self.timers and self.timers[0][0] <= to:
            self.now, _, handle = heapq.heappop(self.timers)
            if handle.callback is not None:
                handle.callback()
        self.now = to


class Peer:
    """A watchdog on a manual clock, and what it has done."""

    def __init__(self, **timeouts: Any) -> None:
        self.loop = ManualLoop()
        self.suspended = 0.0
        self.pings: list[float] = []
        self.deaths: list[tuple[float, str]] = []
        self.dog = Watchdog(
            self.loop,  # type: ignore[arg-type]
            ping_timeout=timeouts.get("ping_timeout"),
            data_timeout=timeouts.get("data_timeout"),
            on_silence=lambda: self.pings.append(self.loop.now),
            on_dead=lambda reason: self.deaths.append((self.loop.now, reason)),
            wall_clock=lambda: self.loop.now + self.suspended,
        )
        self.dog.start()

    def data(self) -> None:
        self.dog.waiting_since = JUST_NOW


def test_silent_peer_is_pinged_and_given_up() -> None:
    """A ping after the timeout, the end half of it later, each late by a look at most."""
    peer = Peer(ping_timeout=8.0)
    peer.data()
    peer.loop.advance(100.0)
    assert len(peer.pings) == 1
    assert 8.0 <= peer.pings[0] <= 10.0
    assert len(peer.deaths) == 1
    died_at, reason = peer.deaths[0]
    assert peer.pings[0] + 4.0 <= died_at <= peer.pings[0] + 6.0
    assert "4.0 s" in reason


def test_answered_pings_keep_a_silent_peer() -> None:
    """Pongs count as life, for as long as they come."""
    peer = Peer(ping_timeout=8.0)
    peer.data()
    for second in range(1, 200):
        answered = len(peer.pings)
        peer.loop.advance(float(second))
        if len(peer.pings) > answered:
            peer.dog.saw_control_frame()
    assert len(peer.pings) >= 18
    assert peer.deaths == []


def test_data_keeps_a_peer_without_pings() -> None:
    """While data comes there is no ping."""
    peer = Peer(ping_timeout=8.0, data_timeout=8.0)
    for second in range(200):
        peer.data()
        peer.loop.advance(float(second))
    assert peer.pings == []
    assert peer.deaths == []


def test_data_after_an_unanswered_ping_is_life() -> None:
    """A ping is forgotten when data comes, before the next wait is judged."""
    peer = Peer(ping_timeout=8.0)
    peer.data()
    while not peer.pings:
        peer.loop.advance(peer.loop.now + 1.0)
    peer.data()
    peer.loop.advance(peer.pings[0] + 7.0)
    assert peer.deaths == []


def test_nobody_waiting_is_no_silence() -> None:
    """A receiver that is busy does not make a dead peer; pings keep the path open."""
    peer = Peer(ping_timeout=8.0, data_timeout=8.0)
    peer.dog.waiting_since = None
    peer.loop.advance(100.0)
    assert peer.deaths == []
    assert len(peer.pings) >= 9


def test_time_counts_from_the_return_of_the_receiver() -> None:
    """After a busy time the peer has its whole time again."""
    peer = Peer(data_timeout=8.0)
    peer.dog.waiting_since = None
    peer.loop.advance(50.0)
    peer.data()
    peer.loop.advance(57.9)
    assert peer.deaths == []
    peer.loop.advance(62.0)
    assert [reason for _, reason in peer.deaths] == ["No data for 8.0 s."]


def test_pongs_are_no_data() -> None:
    """A peer that answers pings and gives no data is given up for data's sake."""
    peer = Peer(ping_timeout=2.0, data_timeout=8.0)
    peer.data()
    for tick in range(1, 100):
        peer.loop.advance(tick / 4)
        peer.dog.saw_control_frame()
    assert len(peer.deaths) == 1
    died_at, reason = peer.deaths[0]
    assert reason == "No data for 8.0 s."
    assert 8.0 <= died_at <= 10.0


@pytest.mark.parametrize("timeouts", [{}, {"ping_timeout": None, "data_timeout": None}])
def test_without_timeouts_there_is_no_timer(timeouts: dict[str, Any]) -> None:
    """Nothing to watch costs nothing."""
    peer = Peer(**timeouts)
    assert peer.loop.timers == []
    peer.dog.stop()


def test_stop_ends_the_watch() -> None:
    """After stop() nothing happens."""
    peer = Peer(ping_timeout=1.0)
    peer.data()
    peer.dog.stop()
    peer.loop.advance(100.0)
    assert peer.pings == []
    assert peer.deaths == []


def test_suspended_machine_pings_at_the_next_check() -> None:
    """A connection that died meanwhile is given up long before the next ordinary ping."""
    peer = Peer(ping_timeout=80.0)
    peer.data()
    peer.loop.advance(25.0)
    peer.suspended += 3600.0
    peer.loop.advance(100.0)
    assert peer.pings == [40.0]
    assert peer.deaths == [(80.0, "No answer to a ping within 40.0 s.")]


def test_clock_that_is_adjusted_slowly_is_no_jump() -> None:
    """Nor one that is set back."""
    peer = Peer(ping_timeout=8.0)
    for second in range(200):
        peer.suspended += 0.1
        peer.data()
        peer.loop.advance(float(second))
    peer.suspended -= 3600.0
    peer.data()
    peer.loop.advance(205.0)
    assert peer.pings == []


def test_suspended_machine_without_pings_sends_none() -> None:
    """Pings that are turned off stay off."""
    peer = Peer(data_timeout=8.0)
    peer.data()
    peer.loop.advance(3.0)
    peer.suspended += 3600.0
    peer.loop.advance(7.0)
    assert peer.pings == []
