"""Where topics are kept, by the text that a program or a command line gives."""

from typing import Any

from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.topics.broker import Broker
from aiorest_ws.topics.memory import MemoryBroker

__all__ = ("MEMORY", "REDIS_SCHEMES", "broker_for", "is_memory")

MEMORY = "memory"
REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel")


def is_memory(topics: str | Broker) -> bool:
    """Tell whether topics are to be kept in the memory of the process."""
    return topics == MEMORY


def broker_for(topics: str | Broker, reactor: Any) -> Broker:
    """Return the broker for `memory`, for the URL of a Redis server, or the one that is given.

    Raises ImproperlyConfigured for any other text.
    """
    if isinstance(topics, Broker):
        return topics
    if is_memory(topics):
        return MemoryBroker(reactor.seconds)
    scheme = topics.partition("://")[0] if isinstance(topics, str) else ""
    if scheme not in REDIS_SCHEMES:
        # Not the text itself: a URL may have a password in it.
        raise ImproperlyConfigured(
            f"topics must be {MEMORY!r} or a URL that begins with one of "
            f"{', '.join(f'{known}://' for known in REDIS_SCHEMES)}"
        )
    from aiorest_ws.topics.redis.broker import RedisBroker

    return RedisBroker(topics, reactor)
