"""Limit the rate of a user over all connections and processes: an option of `Limits`."""

from typing import Any

from twisted.internet.defer import TimeoutError as DeferredTimeout

from aiorest_ws.abstract import AbstractMiddleware
from aiorest_ws.awaiting import start
from aiorest_ws.exceptions import TooManyMessages, TopicsUnavailable
from aiorest_ws.log import logger
from aiorest_ws.topics.memory import MemoryBroker
from aiorest_ws.wrappers import Request

__all__ = ("UserRateMiddleware", "user_key")

# How long a call waits for the broker. After that, each process counts by itself for a while.
ANSWER_SECONDS = 0.25
LOCAL_SECONDS = 5


def user_key(request: Request) -> str:
    """Return the key by which requests are counted: that of the user, or of the address."""
    user = getattr(request, "user", None)
    if user is not None and user.is_authenticated():
        return f"user:{getattr(user, 'username', '') or getattr(user, 'id', None)}"
    return f"address:{request.connection.address}"


class UserRateMiddleware(AbstractMiddleware):
    """Answer 429 to a user who exceeds the rate limit; the connection stays open.

    It must come after the middlewares that authenticate. While the broker of the topics is
    unreachable, each process counts by itself.
    """

    def __init__(self, per_second: float, reactor: Any) -> None:
        self._per_second = per_second
        self._reactor = reactor
        self._clock = reactor.seconds
        self._local = MemoryBroker(self._clock)
        self._is_local = False
        self._local_until = self._swept_at = 0.0

    async def process_request(self, request: Request, handler: Any) -> None:  # noqa: ARG002
        """Count a request; raise TooManyMessages if its user exceeds the limit."""
        factory = request.factory
        if factory is None:
            return
        key = factory.user_key(request)
        if not await self._admits(factory.topics, key):
            words = f"429, {key.partition(':')[0]} of several connections or processes"
            factory.limit_hits.note("messages_per_second_per_user", request.connection.peer, words)
            raise TooManyMessages

    async def _admits(self, topics: Any, key: str) -> bool:
        now = self._clock()
        if now >= self._local_until:
            try:
                asked = start(topics.admit(key, self._per_second))
                is_admitted: bool = await asked.addTimeout(ANSWER_SECONDS, self._reactor)
            except (TopicsUnavailable, DeferredTimeout):
                if not self._is_local:
                    logger.warning("the rates of users are counted in each process by itself")
                self._is_local = True
                self._local_until = now + LOCAL_SECONDS
            else:
                self._is_local = False
                return is_admitted
        if now >= self._swept_at + 1:
            self._swept_at = now
            self._local.sweep()
        return await self._local.admit(key, self._per_second)
