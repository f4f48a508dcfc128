"""Autobahn's traffic statistics, with fewer counters for an ordinary message."""

from typing import Any

from autobahn.websocket.protocol import TrafficStats

__all__ = ("CompactTrafficStats",)


class _Sum:
    """A counter of Autobahn's: what Autobahn counted, plus the fast path."""

    def __init__(self, counted: str, ordinary: str) -> None:
        self._counted = counted
        self._ordinary = ordinary

    def __get__(self, stats: Any, owner: type | None = None) -> Any:
        if stats is None:
            return self
        return getattr(stats, self._counted) + getattr(stats, self._ordinary)

    def __set__(self, stats: Any, value: int) -> None:
        setattr(stats, self._counted, value - getattr(stats, self._ordinary))


class CompactTrafficStats(TrafficStats):
    """Autobahn's numbers.

    An ordinary message is one frame, and as long for the application as on the WebSocket: two
    counters of its own stand for four of Autobahn's in each direction.
    """

    __slots__ = (
        "_incoming_app_octets",
        "_incoming_frames",
        "_incoming_messages",
        "_incoming_octets",
        "_outgoing_app_octets",
        "_outgoing_frames",
        "_outgoing_messages",
        "_outgoing_octets",
        "incomingOctetsWireLevel",
        "ordinary_in",
        "ordinary_octets_in",
        "ordinary_octets_out",
        "ordinary_out",
        "outgoingOctetsWireLevel",
        "preopenIncomingOctetsWireLevel",
        "preopenOutgoingOctetsWireLevel",
    )

    incomingOctetsWebSocketLevel = _Sum("_incoming_octets", "ordinary_octets_in")
    incomingOctetsAppLevel = _Sum("_incoming_app_octets", "ordinary_octets_in")
    incomingWebSocketFrames = _Sum("_incoming_frames", "ordinary_in")
    incomingWebSocketMessages = _Sum("_incoming_messages", "ordinary_in")
    outgoingOctetsWebSocketLevel = _Sum("_outgoing_octets", "ordinary_octets_out")
    outgoingOctetsAppLevel = _Sum("_outgoing_app_octets", "ordinary_octets_out")
    outgoingWebSocketFrames = _Sum("_outgoing_frames", "ordinary_out")
    outgoingWebSocketMessages = _Sum("_outgoing_messages", "ordinary_out")

    def reset(self) -> None:
        """Begin again from zero."""
        self.ordinary_in = self.ordinary_octets_in = 0
        self.ordinary_out = self.ordinary_octets_out = 0
        self._incoming_octets = self._incoming_app_octets = 0
        self._incoming_frames = self._incoming_messages = 0
        self._outgoing_octets = self._outgoing_app_octets = 0
        self._outgoing_frames = self._outgoing_messages = 0
        self.incomingOctetsWireLevel = self.outgoingOctetsWireLevel = 0
        self.preopenIncomingOctetsWireLevel = self.preopenOutgoingOctetsWireLevel = 0
