"""What topics must not leave behind."""

from collections.abc import Callable
from typing import Any

from twisted.internet.task import LoopingCall

from aiorest_ws.awaiting import settled, start


def members_of(broker: Any) -> Callable[[str], dict[str, bytes]]:
    """Return a function that tells who is in a topic of a broker that answers at once."""
    return lambda topic: settled(start(broker.members(topic)))[1]


def loops_of(reactor: Any) -> list[LoopingCall]:
    """Return what runs again and again."""
    return [call.func for call in reactor.getDelayedCalls() if isinstance(call.func, LoopingCall)]
