"""Whether a connection reads, handles messages and writes."""

from enum import Flag, auto

__all__ = (
    "BACKLOG",
    "COUNTING",
    "DRAINING",
    "FINISHING",
    "NOT_RECEIVING",
    "QUEUEING",
    "WRITE_PAUSED",
    "YIELDING",
    "FlowState",
)


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


# A connection keeps its flags as an int: an operation on an enum.Flag takes 0.3 to 1.6 us.
WRITE_PAUSED = FlowState.WRITE_PAUSED.value
YIELDING = FlowState.YIELDING.value
QUEUEING = FlowState.QUEUEING.value
BACKLOG = FlowState.BACKLOG.value
COUNTING = FlowState.COUNTING.value
FINISHING = FlowState.FINISHING.value
DRAINING = FlowState.DRAINING.value

# The flags that keep incoming messages from the fast path.
NOT_RECEIVING = WRITE_PAUSED | YIELDING | QUEUEING | BACKLOG | COUNTING
