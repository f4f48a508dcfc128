"""The broker for the `topics` of an application or of a command line."""

from typing import Any

from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.topics.broker import Broker
from aiorest_ws.topics.memory import MemoryBroker

__all__ = ("MEMORY", "REDIS_SCHEMES", "broker_for", "is_memory")

MEMORY = "memory"
REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel")


def is_memory(topics: str | Broker) -> bool:
    """Tell whether `topics` means the memory of the process."""
    return topics == MEMORY


def broker_for(topics: str | Broker, reactor: Any) -> Broker:
    """Return the broker for `memory` or the URL of a Redis server; return a Broker as it is.

    Raises ImproperlyConfigured for anything else.
    """
    if isinstance(topics, Broker):
        return topics
    if is_memory(topics):
        return MemoryBroker(reactor.seconds)
    scheme = topics.partition("://")[0] if isinstance(topics, str) else ""
    if scheme not in REDIS_SCHEMES:
        # Without the URL, which may contain a password.
        raise ImproperlyConfigured(
            f"topics must be {MEMORY!r} or a URL that begins with one of "
            f"{', '.join(f'{known}://' for known in REDIS_SCHEMES)}"
        )
    from aiorest_ws.topics.redis.broker import RedisBroker

    return RedisBroker(topics, reactor)
