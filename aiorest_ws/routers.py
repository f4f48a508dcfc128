"""`SimpleRouter`: register views, and find the view of a request."""

from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any

from aiorest_ws.abstract import AbstractEndpoint, AbstractRouter
from aiorest_ws.decorators import EndpointFunction
from aiorest_ws.dispatch.dispatcher import Dispatcher, Dispatchers
from aiorest_ws.dispatch.failures import ErrorHandler
from aiorest_ws.dispatch.route_table import RouteTable, normalize_path
from aiorest_ws.dispatch.scopes import Scope, Scopes
from aiorest_ws.exceptions import EndpointValueError, MalformedMessage, NotSpecifiedURL
from aiorest_ws.parsers import URLParser
from aiorest_ws.topics.routes import TopicRoute, TopicRoutes
from aiorest_ws.urls.utils import reverse
from aiorest_ws.validators import check_route
from aiorest_ws.views import MethodBasedView
from aiorest_ws.wrappers import Request

__all__ = ("SimpleRouter",)


class SimpleRouter(AbstractRouter):
    """Route requests to views.

    Blocking views run in the thread pool of the request's factory. Without a factory each runs in
    a thread of its own.
    """

    url_parser = URLParser()

    def __init__(self) -> None:
        super().__init__()
        self.error_handlers: dict[type[BaseException], ErrorHandler] = {}
        self.topics = TopicRoutes()
        self.scopes = Scopes(self)
        self._route_table = RouteTable()
        has_own_search = (
            type(self).extract_url is not SimpleRouter.extract_url
            or type(self).search_handler is not SimpleRouter.search_handler
        )
        make = partial(
            Dispatcher,
            self,
            self._route_table,
            asks_router=has_own_search,
            may_await=type(self).process_request is not SimpleRouter.process_request,
        )
        self.dispatchers = Dispatchers(make)

    # Registration

    def register(
        self,
        path: str,
        handler: type[MethodBasedView],
        methods: str | list[str],
        name: str | None = None,
    ) -> None:
        """Serve `path`, plain or a template such as `/users/{id}`, with a view class."""
        path = normalize_path(path) if isinstance(path, str) else path
        check_route(path, handler, methods, name)
        self._register_url(self.url_parser.define_route(path, handler, methods, name))

    def register_endpoint(self, endpoint: EndpointFunction) -> None:
        """Serve a function decorated with `@endpoint`."""
        if not isinstance(endpoint, EndpointFunction):
            raise TypeError(f"{endpoint!r} is not decorated with @endpoint.")
        self.register(endpoint.path, endpoint.as_view(), endpoint.methods, endpoint.name)

    def register_topic(
        self,
        pattern: str,
        *,
        permission_classes: Sequence[Any] = (),
        history: int = 256,
        policy: str = "drop_oldest",
        presence: bool = False,
        on_subscribe: Callable[[Request, str], Any] | None = None,
    ) -> None:
        """Let clients subscribe to the topics of a pattern such as `orders/{id}`.

        Each topic keeps its last `history` messages for clients that reconnect, within the limits
        `history_bytes` and `history_seconds`. `policy` is applied to a message that does not fit
        into the queue of a slow client: `drop_oldest`, `latest` (keep one message for each key),
        `disconnect`, or `block` (publishers can wait). With `presence`, clients see who else is
        subscribed. `on_subscribe(request, topic)` may be a coroutine; it returns True to let a
        client in, and refuses it by returning anything false, None included, or by raising.
        Raises ValueError or TypeError for an invalid argument.
        """
        self.topics.add(
            TopicRoute(
                pattern,
                permission_classes=permission_classes,
                history=history,
                policy=policy,
                presence=presence,
                on_subscribe=on_subscribe,
            )
        )

    def include(self, router: AbstractRouter) -> None:
        """Add the endpoints and the topics that `router` has now.

        They keep the middlewares of `router`, which come after those of this router, and its error
        handlers, which come before. Both may be added later.
        """
        if not isinstance(router, AbstractRouter):
            raise TypeError(f"An included router must be an AbstractRouter, not {router!r}.")
        for name in router.routes:
            self._check_name(name)
        theirs: Scopes = getattr(router, "scopes", None) or Scopes(router)
        for endpoint in list(router.urls):
            self._register_url(endpoint, theirs.of(endpoint))
        for topic in getattr(router, "topics", ()):
            self.topics.add(topic)
            self.scopes.add(topic, theirs.of(topic))

    def _register_url(self, endpoint: AbstractEndpoint, scope: Scope | None = None) -> None:
        if not isinstance(endpoint, AbstractEndpoint):
            raise TypeError(f"A route must be an AbstractEndpoint, not {endpoint!r}.")
        if endpoint.name:
            self._check_name(endpoint.name)
        self._route_table.add(endpoint, self.scopes.add(endpoint, scope))
        self._urls.append(endpoint)
        if endpoint.name:
            self._routes[endpoint.name] = endpoint

    def _check_name(self, name: str) -> None:
        if name in self._routes:
            raise EndpointValueError(f"Duplicate {name}, already handled by {self._routes[name]}")

    def reverse(self, name: str, /, *args: Any, **query: Any) -> str:
        """Return the path of a named endpoint, with `args` for its parameters.

        `query` is appended as a query string; a list becomes a repeated name. Raises
        NoReverseMatch for an unknown name, ValueError for a wrong number of `args`.
        """
        return reverse(name, {"path": "", "routes": self._routes}, args, query, relative=True)

    # Look-up

    def extract_url(self, request: Request) -> str:
        """Return the URL of a request, without its query, stripped and with a trailing slash."""
        if not request.url:
            raise NotSpecifiedURL
        if not isinstance(request.url, str):
            raise MalformedMessage("`url` must be a string.")
        return normalize_path(request.url.partition("?")[0])

    def search_handler(
        self, request: Request, url: str
    ) -> tuple[Any, Sequence[str], Mapping[str, Any]]:
        """Return a view instance (None if no endpoint has this URL), path values and `args`."""
        route, values = self._route_table.find(url)
        if route is None:
            return None, (), {}
        view = route.endpoint_for(request.method).handler()
        view._route = route  # for the dispatcher
        return view, values, request.args

    def process_request(self, request: Request) -> Any:
        """Return the reply's bytes, or an awaitable or a Stream if the view is asynchronous.

        Every exception becomes a failure; nothing is raised.
        """
        # A context variable that a view sets must not reach the connection's next request.
        return copy_context().run(self.dispatchers.reply, request)
