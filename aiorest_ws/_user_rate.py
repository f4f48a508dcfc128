"""What a user may send in a second, in all processes together: an option of `Limits`."""

from typing import Any

from aiorest_ws.abstract import AbstractMiddleware
from aiorest_ws.exceptions import TooManyMessages, TopicsUnavailable
from aiorest_ws.log import logger
from aiorest_ws.topics.memory import MemoryBroker
from aiorest_ws.wrappers import Request

__all__ = ("UserRateMiddleware", "user_key")


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

    def __init__(self, per_second: float, clock: Any) -> None:
        self._per_second = per_second
        self._alone = MemoryBroker(clock)
        self._is_alone = False

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
        try:
            is_admitted: bool = await topics.admit(key, self._per_second)
        except TopicsUnavailable:
            if not self._is_alone:
                self._is_alone = True
                logger.warning("the rates of users are counted in each process by itself")
            self._alone.sweep()
            return await self._alone.admit(key, self._per_second)
        self._is_alone = False
        return is_admitted
