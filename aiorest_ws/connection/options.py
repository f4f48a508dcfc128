"""Overrides and options that keep messages from the fast path."""

import sys
from collections.abc import Iterable
from typing import Any

__all__ = (
    "CLOSED",
    "REPLYING",
    "SENDING",
    "WATCHED",
    "WatchedOption",
    "is_changed",
    "limits_of_options",
)

# The limit of a fast path that no message may take.
CLOSED = -1

# Autobahn's methods that see everything that is sent, if a subclass overrides them.
SENDING = ("sendFrame", "sendData")

# The methods that a reply passes, if a subclass overrides them.
REPLYING = ("sendMessage", "_encode_message")

# Options that open the fast path or close it.
WATCHED = frozenset(
    {
        "applyMask",
        "autoFragmentSize",
        "logFrames",
        "logOctets",
        "maskServerFrames",
        "maxFramePayloadSize",
        "maxMessagePayloadSize",
        "utf8validateIncoming",
    }
)


def is_changed(kind: type, names: Iterable[str]) -> bool:
    """Tell whether an application has overridden one of these methods."""
    return any(_owner(kind, name).partition(".")[0] not in _OURS for name in names)


_OURS = {"aiorest_ws", "autobahn"}


def _owner(kind: type, name: str) -> str:
    owner = next((ancestor for ancestor in kind.__mro__ if name in vars(ancestor)), kind)
    return owner.__module__


def limits_of_options(connection: Any, *, receives: bool, sends: bool) -> tuple[int, int]:
    """Return the largest payloads that may take the fast path in and out, as options say."""
    if connection.logOctets or connection.logFrames:
        return CLOSED, CLOSED
    message, frame = (
        limit if limit > 0 else sys.maxsize
        for limit in (connection.maxMessagePayloadSize, connection.maxFramePayloadSize)
    )
    receives = receives and connection.applyMask and connection.utf8validateIncoming
    sends = sends and not (connection.maskServerFrames or connection.autoFragmentSize > 0)
    return min(message, frame) if receives else CLOSED, message if sends else CLOSED


class WatchedOption:
    """An option of Autobahn's that a connection may set for itself at any time."""

    def __init__(self, name: str, value: Any) -> None:
        self._name = name
        self._value = value

    def __get__(self, connection: Any, owner: type) -> Any:
        return self._value if connection is None else vars(connection).get(self._name, self._value)

    def __set__(self, connection: Any, value: Any) -> None:
        vars(connection)[self._name] = value
        connection.forget_options()
