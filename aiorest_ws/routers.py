"""`SimpleRouter`: a `Request` becomes the bytes of its reply."""

from collections.abc import Callable, Mapping
from contextvars import copy_context
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet.defer import DeferredLock

from aiorest_ws._segments import SegmentTree
from aiorest_ws.abstract import AbstractEndpoint, AbstractRouter
from aiorest_ws.awaiting import Ready, drive, is_awaitable
from aiorest_ws.blocking import run_blocking
from aiorest_ws.codecs import encode_json
from aiorest_ws.decorators import EndpointFunction
from aiorest_ws.endpoints import DynamicEndpoint, PlainEndpoint
from aiorest_ws.exceptions import (
    EndpointValueError,
    MalformedMessage,
    MethodNotAllowed,
    NotSpecifiedHandler,
    NotSpecifiedURL,
)
from aiorest_ws.failures import ErrorHandler, failure_reply, judge
from aiorest_ws.parsers import URLParser
from aiorest_ws.urls.utils import reverse
from aiorest_ws.validators import check_route
from aiorest_ws.views import MethodBasedView, method_word, signature_of
from aiorest_ws.wrappers import Request, Response

__all__ = ("SimpleRouter",)


# Words of the wire protocol that have no endpoint yet: 405, wherever they point.
_NOT_YET_SERVED = frozenset({"CANCEL", "SUBSCRIBE", "UNSUBSCRIBE"})


class _Route:
    """What is known of an endpoint when it is registered, so that no call has to ask again."""

    __slots__ = ("endpoint", "next", "path_names", "words")

    def __init__(self, endpoint: AbstractEndpoint) -> None:
        self.endpoint = endpoint
        self.next: _Route | None = None  # registered later for the same path
        self.words = frozenset(word.strip().lower() for word in endpoint.methods)
        self.path_names = frozenset(
            endpoint.parameters if isinstance(endpoint, DynamicEndpoint) else ()
        )
        for word in self.words.intersection(getattr(endpoint.handler, "methods", ())):
            signature_of(endpoint.handler, word)

    def append(self, route: "_Route") -> None:
        """Add a route that answers when no earlier one for this path takes the method."""
        last = self
        while last.next is not None:
            last = last.next
        last.next = route

    def taking(self, method: Any) -> "_Route":
        """Return the first route of this path that takes `method`, or the very first."""
        word = method.strip().lower() if isinstance(method, str) else None
        route: _Route | None = self
        while route is not None:
            if word in route.words:
                return route
            route = route.next
        return self


class SimpleRouter(AbstractRouter):
    """Route requests to views.

    Blocking views run in the thread pool of the request's factory, or, without one, in a thread
    of their own.
    """

    url_parser = URLParser()

    def __init__(self) -> None:
        super().__init__()
        self.error_handlers: dict[type[BaseException], ErrorHandler] = {}
        self._plain: dict[str, _Route] = {}
        self._tree: SegmentTree[_Route] = SegmentTree()
        self._foreign: list[_Route] = []
        self._turns: WeakKeyDictionary[Any, dict[type, DeferredLock]] = WeakKeyDictionary()

    # Registration

    def register(
        self,
        path: str,
        handler: type[MethodBasedView],
        methods: str | list[str],
        name: str | None = None,
    ) -> None:
        """Serve `path`, plain or a template such as `/users/{id}`, by a view class."""
        path = _normalised(path) if isinstance(path, str) else path
        check_route(path, handler, methods, name)
        self._register_url(self.url_parser.define_route(path, handler, methods, name))

    def register_endpoint(self, endpoint: EndpointFunction) -> None:
        """Serve a function that was decorated with `@endpoint`."""
        if not isinstance(endpoint, EndpointFunction):
            raise TypeError(f"{endpoint!r} is not decorated with @endpoint.")
        self.register(endpoint.path, endpoint.as_view(), endpoint.methods, endpoint.name)

    def include(self, router: AbstractRouter) -> None:
        """Serve the endpoints that `router` has now, too."""
        if not isinstance(router, AbstractRouter):
            raise TypeError(f"An included router must be an AbstractRouter, not {router!r}.")
        for name in router._routes:
            self._check_name(name)
        for endpoint in list(router._urls):
            self._register_url(endpoint)

    def _register_url(self, endpoint: AbstractEndpoint) -> None:
        if not isinstance(endpoint, AbstractEndpoint):
            raise TypeError(f"A route must be an AbstractEndpoint, not {endpoint!r}.")
        route = _Route(endpoint)
        if endpoint.name:
            self._check_name(endpoint.name)
            self._routes[endpoint.name] = endpoint
        self._urls.append(endpoint)
        # A subclass may match in its own way, so only our very own go into the indexes.
        if type(endpoint) is PlainEndpoint:
            earlier = self._plain.setdefault(endpoint.path, route)
        elif type(endpoint) is DynamicEndpoint:
            earlier = self._tree.add(endpoint.path, route)
        else:
            self._foreign.append(route)
            return
        if earlier is not route:
            earlier.append(route)

    def _check_name(self, name: str) -> None:
        if name in self._routes:
            raise EndpointValueError(f"Duplicate {name}, already handled by {self._routes[name]}")

    def reverse(self, name: str, /, *args: Any, **query: Any) -> str:
        """Return the path of a named endpoint with `args` in the places of its parameters.

        `query` is appended as it is in URLs. Raises NoReverseMatch for an unknown name,
        ValueError for a wrong number of `args`.
        """
        return reverse(name, {"path": "", "routes": self._routes}, args, query, relative=True)

    # From a request to a view

    def extract_url(self, request: Request) -> str:
        """Return the URL of a request, stripped and with a slash at its end."""
        if not request.url:
            raise NotSpecifiedURL
        if not isinstance(request.url, str):
            raise MalformedMessage("`url` must be a string.")
        return _normalised(request.url)

    def search_handler(
        self, request: Request, url: str
    ) -> tuple[Any, tuple[str, ...], Mapping[str, Any]]:
        """Return a view instance (None if nothing has this URL), path values and `args`."""
        route = self._plain.get(url) or self._tree.find(url)
        values: tuple[str, ...] | None = None
        if route is None:
            for route in self._foreign:
                values = route.endpoint.match(url)
                if values is not None:
                    break
            else:
                return None, (), {}
        else:
            if route.next is not None:
                route = route.taking(request.method)
            values = route.endpoint.match(url)
        view = route.endpoint.handler()
        view._route = route  # see _call
        return view, values or (), request.args

    # From a view to a reply

    def process_request(self, request: Request) -> Any:
        """Return the reply's bytes, or an awaitable of them where something is asynchronous.

        Every fault becomes a failure; nothing is raised.
        """
        # What a view sets in a context variable is not for the next request of its connection.
        return copy_context().run(self._process, request)

    def _process(self, request: Request) -> Any:
        try:
            if request.extra_names:
                self._refuse_reserved(request)
            view, values, arguments = self._search(request)
            if self._middlewares:
                return _ready(drive(self._through_middlewares(request, view, values, arguments)))
            answer = self._call(request, view, values, arguments)
            if is_awaitable(answer):
                return _ready(drive(self._awaited(request, view, answer, values, arguments)))
            return self._success(request, view, answer, values, arguments)
        except BaseException as exc:  # noqa: BLE001  a view may raise anything
            return failure_reply(request, exc, self.error_handlers)

    def _search(self, request: Request) -> tuple[Any, tuple[str, ...], Mapping[str, Any]]:
        try:
            view, values, arguments = self.search_handler(request, self.extract_url(request))
            if view is None:
                raise NotSpecifiedHandler
        except (NotSpecifiedURL, NotSpecifiedHandler) as exc:
            if (
                isinstance(request.method, str)
                and request.method.strip().upper() in _NOT_YET_SERVED
            ):
                raise MethodNotAllowed from exc
            raise
        return view, values, arguments

    def _refuse_reserved(self, request: Request) -> None:
        for middleware in self._middlewares:
            names = getattr(middleware, "request_attributes", ())
            for name in (names,) if isinstance(names, str) else names:
                if name in request.extra_names:
                    raise MalformedMessage(f"The key {name!r} is reserved and cannot be sent.")

    def _call(
        self,
        request: Request,
        view: Any,
        values: tuple[str, ...],
        arguments: Mapping[str, Any],
    ) -> Any:
        """Return what the view answers, or an awaitable of it."""
        # A search_handler of a subclass may return a view of its own making.
        route: _Route | None = getattr(view, "_route", None)
        word = method_word(request.method)
        if word not in (view.methods if route is None else route.words):
            raise MethodNotAllowed
        path_names = route.path_names if route is not None else frozenset()
        call: Callable[[], Any]
        view_class: type[Any] = type(view)
        if view_class.dispatch is MethodBasedView.dispatch:
            handler = getattr(view, word, None)
            if not callable(handler):
                raise MethodNotAllowed
            signature = signature_of(view_class, word)  # type: ignore[arg-type]
            arguments = signature.bind(len(values), arguments, path_names)
            call = partial(handler, request, *values, **arguments)
        else:
            signature = signature_of(view_class, "dispatch")  # type: ignore[arg-type]
            arguments = signature.bind(len(values), arguments, path_names)
            call = partial(view.dispatch, request, *values, **arguments)
        if view.blocking:
            # A thread of a pool has no context of its own: what a view sets would stay.
            call = partial(run_blocking, request, partial(copy_context().run, call))
        if view.ordered and request.connection is not None:
            return self._in_turn(request.connection, type(view), call)
        return call()

    async def _in_turn(self, connection: Any, view: type, call: Callable[[], Any]) -> Any:
        lock = self._turns.setdefault(connection, {}).setdefault(view, DeferredLock())
        async with lock:
            answer = call()
            return await answer if is_awaitable(answer) else answer

    async def _awaited(
        self,
        request: Request,
        view: Any,
        answer: Any,
        values: tuple[str, ...],
        arguments: Mapping[str, Any],
    ) -> bytes:
        try:
            return self._success(request, view, await answer, values, arguments)
        except GeneratorExit:
            raise
        except BaseException as exc:  # noqa: BLE001  a view may raise anything
            return failure_reply(request, exc, self.error_handlers)

    async def _through_middlewares(
        self,
        request: Request,
        view: Any,
        values: tuple[str, ...],
        arguments: Mapping[str, Any],
    ) -> bytes:
        response = Response()
        entered: list[Any] = []
        try:
            for middleware in self._middlewares:
                entered.append(middleware)
                await _value(middleware.process_request(request, view))
            response.content = await _value(self._call(request, view, values, arguments))
        except GeneratorExit:
            raise
        except BaseException as exc:  # noqa: BLE001  a view may raise anything
            response.wrap_exception(judge(request, exc, self.error_handlers))
        response.append_request(request)
        for middleware in reversed(entered):
            if not hasattr(middleware, "process_response"):
                continue
            try:
                changed = await _value(middleware.process_response(request, response))
                response = response if changed is None else _checked(changed)
            except GeneratorExit:
                raise
            except BaseException as exc:  # noqa: BLE001  so may a middleware
                response.wrap_exception(judge(request, exc, self.error_handlers))
        response.append_request(request)
        try:
            content = response.to_representation()
            if response.status is not None:
                return encode_json(content)
            return self._render(request, view, content, values, arguments)
        except Exception as exc:  # noqa: BLE001  and a renderer
            return failure_reply(request, exc, self.error_handlers)

    def _success(
        self,
        request: Request,
        view: Any,
        answer: Any,
        values: tuple[str, ...],
        arguments: Mapping[str, Any],
    ) -> bytes:
        content = {"data": answer, **request.to_representation()}
        return self._render(request, view, content, values, arguments)

    def _render(
        self,
        request: Request,
        view: Any,
        content: dict[str, Any],
        values: tuple[str, ...],
        arguments: Mapping[str, Any],
    ) -> bytes:
        # `preferred_format` cannot be among them any more: _call has refused it.
        renderer = view.get_renderer(request.get_argument("format"), *values, **arguments)
        rendered = renderer.render(content)
        if not isinstance(rendered, bytes):
            raise TypeError(f"{renderer!r} must render bytes, not {type(rendered).__name__}")
        return rendered


def _normalised(path: str) -> str:
    path = path.strip()
    return path if path.endswith("/") or not path else f"{path}/"


def _checked(response: Any) -> Response:
    if not isinstance(response, Response):
        raise TypeError(f"process_response must return a Response or None, not {response!r}")
    return response


async def _value(answer: Any) -> Any:
    return await answer if is_awaitable(answer) else answer


def _ready(reply: Any) -> Any:
    return Ready(reply) if isinstance(reply, bytes) else reply
