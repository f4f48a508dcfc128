"""Whether a connection reads, handles messages and writes."""

from enum import Flag, auto

__all__ = ("FlowState",)


class FlowState(Flag):
    """What keeps a connection from the fast path; several may hold at once."""

    OPEN = 0

    # The client does not read what it was sent: nothing is read or parsed.
    WRITE_PAUSED = auto()

    # This turn of the loop is over; the rest is handled in the next one.
    YIELDING = auto()

    # New messages wait for a call to end, or for the connect hooks.
    QUEUEING = auto()

    # Queued messages are not all handled.
    BACKLOG = auto()

    # Each message is counted: `Limits.messages_per_second`.
    COUNTING = auto()

    # All that has been read is answered now, whatever waits.
    FINISHING = auto()

    # Calls are refused: the connection closes, or the server stops.
    DRAINING = auto()


# The flags that keep incoming messages from the fast path.
NOT_RECEIVING = (
    FlowState.WRITE_PAUSED
    | FlowState.YIELDING
    | FlowState.QUEUEING
    | FlowState.BACKLOG
    | FlowState.COUNTING
)
