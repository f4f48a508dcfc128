"""Topics that several processes share, on Redis."""

from aiorest_ws.topics.redis.broker import RedisBroker

__all__ = ("RedisBroker",)
