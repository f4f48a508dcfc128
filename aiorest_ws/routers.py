"""`SimpleRouter`: register views, and find the view of a request."""

from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar, Unpack, overload

from aiorest_ws.abstract import AbstractEndpoint, AbstractRouter
from aiorest_ws.decorators import EndpointFunction
from aiorest_ws.dispatch.dispatcher import Dispatcher, Dispatchers
from aiorest_ws.dispatch.failures import ErrorHandler
from aiorest_ws.dispatch.route_table import RouteTable, normalize_path
from aiorest_ws.dispatch.scopes import Scope, Scopes
from aiorest_ws.exceptions import (
    BaseAPIException,
    EndpointValueError,
    ImproperlyConfigured,
    InvalidHandler,
    MalformedMessage,
    NotSpecifiedURL,
)
from aiorest_ws.parsers import URLParser
from aiorest_ws.registration.functions import function_view
from aiorest_ws.registration.options import RouteOptions, check_options
from aiorest_ws.registration.registrar import Registrar
from aiorest_ws.topics.routes import Topic, TopicOptions, TopicRoute, TopicRoutes
from aiorest_ws.urls.utils import reverse
from aiorest_ws.validators import RouteArgumentsValidator, check_methods, check_path
from aiorest_ws.views import MethodBasedView
from aiorest_ws.wrappers import Request

__all__ = ("SimpleRouter",)

Function = TypeVar("Function", bound=Callable[..., Any])
T = TypeVar("T")


class SimpleRouter(AbstractRouter):
    """Route requests to views.

    `prefix` comes before the path of every endpoint, `/api` or `/shops/{shop}`. `auth_required` is
    for the views that do not say it themselves; `permission_classes` are checked before their
    own. Both are for included views and for topics too.

    Blocking views run in the thread pool of the request's factory. Without a factory each runs in
    a thread of its own.
    """

    args_validator = RouteArgumentsValidator()
    url_parser = URLParser()

    def __init__(
        self,
        prefix: str = "",
        *,
        auth_required: bool | None = None,
        permission_classes: Sequence[Any] = (),
    ) -> None:
        super().__init__()
        if hasattr(self, "_correct_path"):
            raise ImproperlyConfigured(
                f"{type(self).__qualname__} has `_correct_path` of aiorest-ws 1.1, which has no "
                "effect now: override extract_url() and register()."
            )
        self._registrar = Registrar(prefix, auth_required, permission_classes)
        self.error_handlers: dict[type[BaseException], ErrorHandler] = {}
        self.topics = TopicRoutes()
        self.scopes = Scopes(self)
        self._route_table = RouteTable()
        self._has_own_search = (
            type(self).extract_url is not SimpleRouter.extract_url
            or type(self).search_handler is not SimpleRouter.search_handler
        )
        make = partial(
            Dispatcher,
            self,
            self._route_table,
            asks_router=self._has_own_search,
            may_await=type(self).process_request is not SimpleRouter.process_request,
        )
        self.dispatchers = Dispatchers(make)

    # Registration

    def get(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[Function], Function]:
        """Answer GET with the decorated function; see `endpoint`."""
        return self._decorator(path, "GET", options)

    def post(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[Function], Function]:
        """Answer POST with the decorated function; see `endpoint`."""
        return self._decorator(path, "POST", options)

    def put(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[Function], Function]:
        """Answer PUT with the decorated function; see `endpoint`."""
        return self._decorator(path, "PUT", options)

    def patch(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[Function], Function]:
        """Answer PATCH with the decorated function; see `endpoint`."""
        return self._decorator(path, "PATCH", options)

    def delete(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[Function], Function]:
        """Answer DELETE with the decorated function; see `endpoint`."""
        return self._decorator(path, "DELETE", options)

    def head(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[Function], Function]:
        """Answer HEAD with the decorated function; see `endpoint`."""
        return self._decorator(path, "HEAD", options)

    def options(
        self, path: str, **options: Unpack[RouteOptions]
    ) -> Callable[[Function], Function]:
        """Answer OPTIONS with the decorated function; see `endpoint`."""
        return self._decorator(path, "OPTIONS", options)

    def trace(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[Function], Function]:
        """Answer TRACE with the decorated function; see `endpoint`."""
        return self._decorator(path, "TRACE", options)

    def endpoint(
        self, path: str, methods: str | list[str], **options: Unpack[RouteOptions]
    ) -> Callable[[Function], Function]:
        """Answer requests for `path` with the decorated function, which stays as it is.

        The function gets the request first. Each name in a template such as `/users/{id}` must be
        one of its other parameters, positional or keyword-only. Raises TypeError for an unknown
        option, InvalidPathArgument, NotSupportedArgumentType, EndpointValueError and
        InvalidHandler for others that cannot work.
        """
        return self._decorator(path, methods, options)

    def register(
        self,
        path: str,
        handler: type[MethodBasedView],
        methods: str | list[str],
        name: str | None = None,
    ) -> None:
        """Serve `path`, plain or a template such as `/users/{id}`, with a view class.

        Path values are passed in the order of the path.
        """
        path = normalize_path(path) if isinstance(path, str) else path
        self.args_validator.validate(path, handler, methods, name)
        path = self._registrar.prefix + path
        endpoint = self.url_parser.define_route(path, handler, methods, name)
        self._register_url(self._registrar.complete(endpoint))

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
        route = TopicRoute(
            pattern,
            permission_classes=permission_classes,
            history=history,
            policy=policy,
            presence=presence,
            on_subscribe=on_subscribe,
        )
        self.topics.add(self._registrar.topic(route))

    @overload
    def topic(
        self, pattern: str, *, payload: type[T], **options: Unpack[TopicOptions]
    ) -> Topic[T]: ...

    @overload
    def topic(
        self, pattern: str, *, payload: Any = None, **options: Unpack[TopicOptions]
    ) -> Topic[Any]: ...

    def topic(
        self, pattern: str, *, payload: Any = None, **options: Unpack[TopicOptions]
    ) -> Topic[Any]:
        """Register topics, as `register_topic` does, and return what publishes to them.

        `payload` is the type of what is published.
        """
        route = TopicRoute(pattern, payload=payload, **options)
        for name in route.pattern.parameters:
            if name in {"key", "block", "wait_seconds"}:
                raise ValueError(f"{pattern!r} cannot have {name!r}, an option of `publish`")
        self.topics.add(self._registrar.topic(route))
        return route.topic

    def include(self, router: AbstractRouter, prefix: str = "") -> None:
        """Add the endpoints and the topics that `router` has now; `prefix` is for the endpoints.

        They keep the middlewares of `router`, which come after those of this router, and its error
        handlers, which come before. Both may be added later.
        """
        if not isinstance(router, AbstractRouter):
            raise TypeError(f"An included router must be an AbstractRouter, not {router!r}.")
        for name in router.routes:
            self._check_name(name)
        theirs: Scopes = getattr(router, "scopes", None) or Scopes(router)
        scopes = [theirs.of(endpoint) for endpoint in router.urls]
        endpoints = self._registrar.include(router.urls, prefix)
        for endpoint, scope in zip(endpoints, scopes, strict=True):
            self._add(endpoint, scope)
        for topic in getattr(router, "topics", ()):
            guarded = self._registrar.topic(topic)
            self.topics.add(guarded)
            self.scopes.add(guarded, theirs.of(topic))

    def _decorator(
        self, path: str, methods: str | list[str], options: RouteOptions
    ) -> Callable[[Function], Function]:
        check_options(options)
        check_path(path)
        check_methods(methods)

        def register(function: Function) -> Function:
            if isinstance(function, EndpointFunction):
                raise InvalidHandler(
                    f"The view of {function.path!r} is decorated with @endpoint already; "
                    "router.register_endpoint registers it."
                )
            view = function_view(function, methods, options)
            self.register(path, view, methods, options.get("name"))
            return function

        return register

    def _register_url(self, endpoint: AbstractEndpoint) -> None:
        # Of 1.1: a subclass may override it. Like there, `include` does not call it.
        self._add(endpoint)

    def _add(self, endpoint: AbstractEndpoint, scope: Scope | None = None) -> None:
        if endpoint.name:
            self._check_name(endpoint.name)
        self._route_table.add(endpoint, self.scopes.add(endpoint, scope))
        if not self._has_own_search:
            self.plain_bytes = self._route_table.plain_bytes
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

    def decode(self, payload: bytes, is_binary: bool = False) -> Request:
        """Return the request in a message; raise MalformedMessage if there is none.

        Its `data` may be decoded already for its view.
        """
        if len(payload) <= self.plain_bytes:
            return super().decode(payload, is_binary)
        return self._route_table.decode(payload, is_binary)

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
        return view, tuple(values), dict(request.args)

    def route_of(self, request: Request) -> str | None:
        """Return the path or the template of the endpoint that a request is for, if it has one."""
        try:
            route, _ = self._route_table.find(self.extract_url(request))
        except BaseAPIException:
            return None
        return None if route is None else route.endpoint_for(request.method).path

    def process_request(self, request: Request) -> Any:
        """Return the reply's bytes, or an awaitable or a Stream if the view is asynchronous.

        Every exception becomes a failure; nothing is raised.
        """
        # A context variable that a view sets must not reach the connection's next request.
        return copy_context().run(self.dispatchers.reply, request)
