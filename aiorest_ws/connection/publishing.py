"""What a factory publishes to topics."""

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread
from twisted.python.failure import Failure
from twisted.python.threadable import isInIOThread

from aiorest_ws.connection.factory import ConnectionFactory
from aiorest_ws.dispatch.user_rate import user_key
from aiorest_ws.log import logger
from aiorest_ws.topics.broker import Broker, Position
from aiorest_ws.topics.hub import Hub
from aiorest_ws.topics.routes import TopicRoutes
from aiorest_ws.topics.urls import MEMORY, broker_for
from aiorest_ws.validators import check_encoder
from aiorest_ws.values import Converter
from aiorest_ws.wrappers import Request

__all__ = ("PublishingFactory",)

# For a router without topics.
_NO_TOPICS = TopicRoutes()


class PublishingFactory(ConnectionFactory):
    """A factory that publishes to topics, and knows who subscribes to them."""

    current_router: Any  # see RoutingFactory

    def __init__(
        self,
        *args: Any,
        topics: str | Broker = MEMORY,
        presence_info: Callable[[Request], Any] | None = None,
        encoder: Converter | None = None,
        **known: Any,
    ) -> None:
        super().__init__(*args, **known)
        self.encoder = check_encoder(encoder)
        self._presence_info = presence_info
        broker = broker_for(topics, self.reactor)
        self.topics = Hub(broker, self.limits, self.reactor, self._topic_routes, encoder)

    def _topic_routes(self) -> TopicRoutes:
        routes: TopicRoutes = getattr(self.current_router, "topics", _NO_TOPICS)
        return routes

    def publish(
        self,
        topic: str,
        data: Any,
        *,
        key: str | None = None,
        block: bool = False,
        wait_seconds: float = 0.0,
    ) -> Deferred[Position]:
        """Send `data` to all subscribers of a topic; return an awaitable of its position.

        It is encoded at once. `key` says what it is about, for a topic with the policy `latest`.
        With `block`, and the policy `block`, it waits until no subscriber of this process would
        lose another message for it. A broker that cannot be reached is tried for `wait_seconds`.

        Raises UnknownTopic for what is not registered, ValueError for what cannot be a topic,
        SerializerError, which names the type, for what JSON cannot hold, ReplyTooLarge; the
        awaitable, TopicsUnavailable.
        """
        return self.topics.publish(topic, data, key=key, block=block, wait_seconds=wait_seconds)

    def publish_from_thread(self, topic: str, data: Any, **options: Any) -> Position:
        """Publish from another thread, such as that of a blocking view; blocks until it is done.

        Takes and raises what `publish` does; RuntimeError in the thread of the reactor.
        """
        if isInIOThread():
            raise RuntimeError("publish_from_thread would wait for itself: await publish() here")
        publish: Callable[[], Any] = partial(self.publish, topic, data, **options)
        position: Position = blockingCallFromThread(self.reactor, publish)
        return position

    async def presence(self, topic: str) -> dict[str, Any]:
        """Return who subscribes to a topic, in all processes.

        That is a random name for each subscription, with what `presence_info` has told of it.
        Raises TopicsUnavailable.
        """
        return await self.topics.presence(topic)

    def user_key(self, request: Request) -> str:
        """Return what `messages_per_second_per_user` counts together."""
        return user_key(request)

    def presence_info(self, request: Request) -> Any:
        """Return what other subscribers may know of a client; may be a coroutine."""
        return None if self._presence_info is None else self._presence_info(request)

    def startFactory(self) -> None:
        """Connect to the broker, unless the service has done so."""
        super().startFactory()  # type: ignore[no-untyped-call]
        self.topics.start().addErrback(_log_no_topics)

    def stopFactory(self) -> None:
        """Stop sweeping topics; what is published while the service stops is still sent."""
        super().stopFactory()  # type: ignore[no-untyped-call]
        self.topics.stop_sweeping()


def _log_no_topics(failure: Failure) -> None:
    logger.critical("topics are not available: %s", failure.getErrorMessage())
