"""What a user may send in a second, in all processes together: an option of `Limits`."""

from typing import Any

from twisted.internet.defer import TimeoutError as DeferredTimeout

from aiorest_ws.abstract import AbstractMiddleware
from aiorest_ws.awaiting import begun
from aiorest_ws.exceptions import TooManyMessages, TopicsUnavailable
from aiorest_ws.log import logger
from aiorest_ws.topics.memory import MemoryBroker
from aiorest_ws.wrappers import Request

__all__ = ("UserRateMiddleware", "user_key")

# A broker that does not answer in this time is left alone for that one: calls wait for it.
ANSWER_SECONDS = 0.25
ALONE_SECONDS = 5


def user_key(request: Request) -> str:
    """Return what one user's requests have in common; without a user, those of an address."""
    user = getattr(request, "user", None)
    if user is not None and user.is_authenticated():
        return f"user:{getattr(user, 'username', '') or getattr(user, 'id', None)}"
    return f"address:{request.connection.address}"


class UserRateMiddleware(AbstractMiddleware):
    """Refuse requests of a user who sends too many (429); the connection stays.

    It comes after those that find out who calls. While the broker of the topics cannot be reached,
    each process counts for itself.
    """

    def __init__(self, per_second: float, reactor: Any) -> None:
        self._per_second = per_second
        self._reactor = reactor
        self._clock = reactor.seconds
        self._alone = MemoryBroker(self._clock)
        self._is_alone = False
        self._alone_until = self._swept = 0.0

    async def process_request(self, request: Request, handler: Any) -> None:  # noqa: ARG002
        """Take one from what the user of the request may still send."""
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
        if now >= self._alone_until:
            try:
                asked = begun(topics.admit(key, self._per_second))
                is_admitted: bool = await asked.addTimeout(ANSWER_SECONDS, self._reactor)
            except (TopicsUnavailable, DeferredTimeout):
                if not self._is_alone:
                    logger.warning("the rates of users are counted in each process by itself")
                self._is_alone = True
                self._alone_until = now + ALONE_SECONDS
            else:
                self._is_alone = False
                return is_admitted
        if now >= self._swept + 1:
            self._swept = now
            self._alone.sweep()
        return await self._alone.admit(key, self._per_second)
