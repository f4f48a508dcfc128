"""What answers SUBSCRIBE and UNSUBSCRIBE: middlewares see it as the view of such a request."""

from typing import Any

from aiorest_ws.awaiting import maybe_await
from aiorest_ws.exceptions import MethodNotAllowed, SubscriptionRefused
from aiorest_ws.topics.routes import TopicRoute
from aiorest_ws.topics.subscriptions import Subscriptions
from aiorest_ws.views import MethodBasedView
from aiorest_ws.wrappers import UNSUBSCRIBE, Request, normalize_method

__all__ = ("TopicView",)


class TopicView(MethodBasedView):
    """Let the client of a request subscribe to a topic, or unsubscribe from it.

    `topic` is its name, `values` what the parameters of its family are in it.
    """

    def __init__(self, topic: str, route: TopicRoute, values: dict[str, str]) -> None:
        super().__init__()
        self.topic = topic
        self.values = values
        self.route = route
        self.permission_classes = route.permission_classes

    async def answer(self, request: Request) -> dict[str, Any]:
        """Return what is told of the subscription, which starts when that has been sent."""
        connection = request.connection
        if connection is None:
            raise MethodNotAllowed
        if normalize_method(request.method) == UNSUBSCRIBE:
            connection.unsubscribe(self.topic)
            return {"topic": self.topic}
        subscriptions: Subscriptions = connection.topic_subscriptions
        with subscriptions.subscribing(request, self.topic):
            for permission in self.permission_classes:
                if not await maybe_await(permission.check(request, self)):
                    raise SubscriptionRefused
            hook = self.route.on_subscribe
            if hook is not None:
                is_let_in = await maybe_await(hook(request, self.topic))
                if is_let_in is None:
                    self.route.note_missing_answer()
                if not is_let_in:
                    raise SubscriptionRefused
            first_state = self.route.topic.first_state
            return await subscriptions.answer_subscribe(request, self.topic, first_state)

    def undo(self, request: Request) -> None:
        """Forget the subscription: a middleware has turned the answer into a failure."""
        if request.connection is not None:
            request.connection.call_ended(request)
