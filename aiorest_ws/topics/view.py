"""What answers SUBSCRIBE and UNSUBSCRIBE: middlewares see it as the view of such a request."""

from typing import Any

from aiorest_ws.awaiting import is_awaitable
from aiorest_ws.exceptions import MethodNotAllowed, SubscriptionRefused
from aiorest_ws.topics.routes import TopicRoute
from aiorest_ws.views import MethodBasedView
from aiorest_ws.wrappers import Request

__all__ = ("SUBSCRIBE", "UNSUBSCRIBE", "TopicView")

SUBSCRIBE = "SUBSCRIBE"
UNSUBSCRIBE = "UNSUBSCRIBE"


class TopicView(MethodBasedView):
    """Let the client of a request subscribe to a topic, or unsubscribe from it.

    `topic` is its name, `values` what the parameters of its family are in it.
    """

    def __init__(self, topic: str, route: TopicRoute, values: dict[str, str]) -> None:
        super().__init__()
        self.topic = topic
        self.values = values
        self.route = route
        # A middleware that knows of permissions leaves them to this view.
        self.permission_classes = route.permission_classes

    async def answer(self, request: Request) -> dict[str, Any]:
        """Return what is told of the subscription, which begins when that has been sent."""
        connection = request.connection
        if connection is None:
            raise MethodNotAllowed
        if str(request.method).strip().upper() == UNSUBSCRIBE:
            connection.unsubscribe(self.topic)
            return {"topic": self.topic}
        with connection.subscribing(request, self.topic):
            for permission in self.permission_classes:
                if not await _value(permission.check(request, self)):
                    raise SubscriptionRefused
            hook = self.route.on_subscribe
            if hook is not None and await _value(hook(request, self.topic)) is False:
                raise SubscriptionRefused
            told: dict[str, Any] = await connection.answer_subscribe(request, self.topic)
        return told

    def undo(self, request: Request) -> None:
        """Forget the subscription: a middleware has turned the answer into a failure."""
        if request.connection is not None:
            request.connection.undo_subscription(request)


async def _value(answer: Any) -> Any:
    return await answer if is_awaitable(answer) else answer
