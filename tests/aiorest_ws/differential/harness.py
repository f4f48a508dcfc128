"""Drive one server protocol over a transport in memory, and note all that can be seen of it.

Two classes of protocol behave alike when the notes of the same plan are equal.
"""

import contextlib
import os
import random
import time
from collections import deque
from itertools import groupby
from typing import Any
from unittest import mock

from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from txaio import tx

from aiorest_ws.connection import flow

from .applications import VARIANTS, Plan

# Autobahn's timers are up to a second early, ours up to a quarter late; every delay in a plan is
# so far from a multiple of this that both fire in the same step.
WAIT_SECONDS = 5.5

# Calls that are due within this time are of the same step: turns of the loop, chopped writes.
_STEP_SECONDS = 0.01
# Until a connection that the server ends is seen to have ended: longer than the turns under way.
_PARTING_SECONDS = 0.005
_MOST_TURNS = 100_000

PING_TIME_NS = 1_700_000_000_000_000_000

REQUEST = (
    b"GET /chat?room=1 HTTP/1.1\r\nHost: localhost:9000\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n%b\r\n"
)
OFFER = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"

_FLAGS = (
    *("wasClean", "wasNotCleanReason", "closedByMe", "failedByMe", "droppedByMe"),
    *("localCloseCode", "localCloseReason", "remoteCloseCode", "remoteCloseReason"),
    *("wasMaxFramePayloadSizeExceeded", "wasMaxMessagePayloadSizeExceeded"),
    *("wasCloseHandshakeTimeout", "autoPingPending", "autoPingPendingSeq"),
)
_TIMERS = ("autoPingPendingCall", "autoPingTimeoutCall", "closeHandshakeTimeoutCall")


_classes: dict[tuple[type, str], type] = {}


class Transport:
    """What a protocol sees of a TCP connection."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.log: list[Any] = []
        self.is_reading = True
        self.disconnecting = False
        self.lost: Any = None

    def write(self, data: bytes) -> None:
        if type(data) is not bytes:
            raise TypeError(data)
        self.log.append(data)

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self._end("lose", ConnectionDone)

    def abortConnection(self) -> None:
        self._end("abort", ConnectionAborted)

    def _end(self, how: str, kind: type[Exception]) -> None:
        self.log.append(how)
        self.is_reading = False
        if not self.disconnecting:
            self.disconnecting = True
            self.clock.callLater(_PARTING_SECONDS, self.lost, Failure(kind()))

    def pauseProducing(self) -> None:
        self.is_reading = False

    def resumeProducing(self) -> None:
        self.is_reading = not self.disconnecting

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        # Never told to pause: what is written here is taken at once.
        pass

    def unregisterProducer(self) -> None:
        pass

    def setTcpNoDelay(self, enabled: bool) -> None:
        # Not noted: Autobahn asks for the option before it has it, and so never comes here.
        pass

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 50000)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 9000)


class Drive:
    """One connection of one class of protocol."""

    def __init__(self, factory_class: Any, base: type, plan: Plan) -> None:
        self.plan = plan
        self.clock = Clock()
        tx.config.loop = self.clock
        self.pieces: deque[Any] = deque()
        self.is_lost = False
        self.snapshots: list[Any] = []
        self.slow = random.Random(plan.seed)
        self.now = 0.0
        self.late_pieces = plan.late_pieces
        kind = _classes.get((base, plan.variant))
        if kind is None:
            kind = type("Server", (VARIANTS[plan.variant], base), {})
            _classes[base, plan.variant] = kind
        factory = factory_class("ws://localhost:9000", server="test", reactor=self.clock)
        factory.protocol = kind
        # Ours has limits, and pings, where Autobahn has none.
        factory.setProtocolOptions(maxMessagePayloadSize=0, autoPingInterval=0, autoPingTimeout=0)
        factory.setProtocolOptions(**plan.options)
        if plan.is_deflate_offered:
            factory.setProtocolOptions(perMessageCompressionAccept=_accept_deflate)
        for name, value in plan.attributes.items():
            setattr(factory, name, value)
        self.transport = Transport(self.clock)
        self.transport.lost = self.connection_lost
        self.protocol = factory.buildProtocol(self.transport.getPeer())
        self.protocol.plan = plan
        self.protocol.notes = self.notes = []

    def run(self) -> list[Any]:
        """Play the plan; return what was to be seen after each step."""
        random.seed(self.plan.seed)  # Autobahn masks with it, if it masks
        self.protocol.makeConnection(self.transport)
        request = REQUEST % (OFFER if self.plan.is_deflate_offered else b"")
        steps: list[Any] = [[request], *self.plan.steps]
        if self.plan.is_first_step_glued and len(steps) > 1 and steps[1]:
            steps[:2] = [[request + steps[1][0], *steps[1][1:]]]
        for step in (*steps, None, [self.plan.end] if self.plan.end else [], *[None] * 4):
            if step is None:
                self.pass_time()
            else:
                self.pieces.extend(step)
            self.settle()
            self.snapshots.append(self.look())
        if not self.is_lost:
            self.connection_lost(Failure(ConnectionLost()))
            self.snapshots.append(self.look())
        return self.snapshots

    def settle(self) -> None:
        for _ in range(_MOST_TURNS):
            if self.pieces and self.may_receive():
                self.receive(self.pieces.popleft())
                continue
            due = [call.getTime() for call in self.clock.getDelayedCalls()]
            if not due or min(due) > self.clock.seconds() + _STEP_SECONDS:
                return
            self.turn(max(0, min(due) - self.clock.seconds()))
        raise AssertionError("the protocol does not come to rest")

    def may_receive(self) -> bool:
        transport = self.transport
        if transport.is_reading or transport.disconnecting or not self.late_pieces:
            return transport.is_reading and not self.is_lost
        self.late_pieces -= 1
        return type(self.pieces[0]) is bytes

    def pass_time(self) -> None:
        self.turn(WAIT_SECONDS)

    def turn(self, seconds: float) -> None:
        # A reactor logs what a call raises, and goes on.
        try:
            self.clock.advance(seconds)
        except Exception as exc:  # noqa: BLE001
            self.notes.append(("raised in a call", repr(exc)))

    def receive(self, piece: Any) -> None:
        if type(piece) is not bytes:
            self.connection_lost(Failure(piece()))
            return
        try:
            self.protocol.dataReceived(piece)
        except Exception as exc:  # noqa: BLE001
            # What Twisted's reactors do when a protocol raises.
            self.notes.append(("raised", repr(exc)))
            self.connection_lost(Failure(exc))

    def connection_lost(self, reason: Failure) -> None:
        if self.is_lost:
            return
        self.is_lost = self.transport.disconnecting = True
        self.transport.is_reading = False
        self.protocol.connectionLost(reason)

    def look(self) -> dict[str, Any]:
        """Return all that is new since the last look, and how the protocol stands."""
        protocol, transport = self.protocol, self.transport
        stats = protocol.trafficStats.__json__()
        if self.plan.late_pieces:
            # Octets are counted as they come, until a fault is found in them; what has come late
            # waits for its turn with us, and is looked at together with what it was cut from.
            stats = {name: stats[name] for name in stats if not name.startswith("incoming")}
        seen = {
            "notes": self.notes[:],
            "transport": _joined(transport.log),
            "lost": self.is_lost,
            "state": int(protocol.state),
            "stats": stats,
            "timers": [getattr(protocol, name) is not None for name in _TIMERS],
            "flags": {name: getattr(protocol, name, None) for name in _FLAGS},
            "inside": protocol.inside_message and not self.is_lost,
            "tracked": sorted(protocol.trackedTimings or ()),
        }
        self.notes.clear()
        transport.log = []
        return seen

    def monotonic(self) -> float:
        if self.plan.slowness and self.slow.random() < self.plan.slowness:
            self.now += 1
        return self.now


def _joined(log: list[Any]) -> list[Any]:
    """Return a log of writes and other deeds with the neighbours among the writes made one."""
    kinds = groupby(log, key=lambda deed: type(deed) is bytes)
    return [
        deed
        for are_writes, deeds in kinds
        for deed in ([b"".join(deeds)] if are_writes else deeds)
    ]


def _time_of_pings() -> int:
    return PING_TIME_NS


def _accept_deflate(offers: Any) -> Any:
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            return PerMessageDeflateOfferAccept(offer)
    return None


def play(factory_class: Any, base: type, plan: Plan) -> list[Any]:
    """Return what is to be seen of one class of protocol as the plan is played."""
    loop, chance = tx.config.loop, random.getstate()
    try:
        drive = Drive(factory_class, base, plan)
        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.object(time, "monotonic", drive.monotonic))
            stack.enter_context(mock.patch.object(time, "time_ns", _time_of_pings))
            stack.enter_context(mock.patch.object(os, "urandom", bytes))
            # The clock leaps, and ours would take it for a loop that was kept from reading pongs.
            stack.enter_context(mock.patch.object(flow, "STALL_SECONDS", WAIT_SECONDS))
            return drive.run()
    finally:
        tx.config.loop = loop
        random.setstate(chance)


def difference(ours: list[Any], theirs: list[Any]) -> str | None:
    """Return the first step in which two classes of protocol differ, in words; or None."""
    if ours == theirs:
        return None
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=False)):
        for name in mine:
            if mine[name] != other[name]:
                return (
                    f"step {number}, {name}:\n  ours    {mine[name]!r}\n  theirs  {other[name]!r}"
                )
    return f"{len(ours)} and {len(theirs)} steps"
