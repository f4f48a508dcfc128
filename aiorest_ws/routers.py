"""`SimpleRouter`: a `Request` becomes the bytes of its reply."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import Context, copy_context
from functools import partial
from types import CoroutineType
from typing import Any, cast
from weakref import WeakKeyDictionary

import msgspec
from twisted.internet.defer import Deferred, DeferredLock
from twisted.python.failure import Failure

from aiorest_ws.abstract import AbstractEndpoint, AbstractRouter
from aiorest_ws.awaiting import PLAIN_TYPES, Outcome, Ready, drive, is_awaitable
from aiorest_ws.codecs import encode_json, encoder, for_javascript
from aiorest_ws.conf import settings
from aiorest_ws.decorators import EndpointFunction
from aiorest_ws.dispatch.blocking import run_blocking
from aiorest_ws.dispatch.failures import ErrorHandler, failure_reply, judge
from aiorest_ws.dispatch.routes import NO_ARGUMENTS, BoundHandler, Called, Route, has_handler
from aiorest_ws.dispatch.segments import SegmentTree
from aiorest_ws.dispatch.streams import Stream, discard, in_parts, is_stream
from aiorest_ws.endpoints import DynamicEndpoint, PlainEndpoint
from aiorest_ws.exceptions import (
    EndpointValueError,
    MalformedMessage,
    MethodNotAllowed,
    NotSpecifiedHandler,
    NotSpecifiedTopic,
    NotSpecifiedURL,
    SerializerError,
)
from aiorest_ws.parsers import URLParser
from aiorest_ws.topics.routes import TopicRoute, TopicRoutes
from aiorest_ws.topics.view import TopicView
from aiorest_ws.urls.utils import reverse
from aiorest_ws.validators import check_route
from aiorest_ws.views import MethodBasedView, method_word
from aiorest_ws.wrappers import SUBSCRIBE, UNSUBSCRIBE, Request, Response, normalize_method

__all__ = ("SimpleRouter",)


# What has been read of the settings: attributes of an object that makes others on demand are
# slower to ask for. The first reply reads them.
_SETTINGS = vars(settings)

CANCEL = "cancel"

# For topics, not for endpoints.
_FOR_TOPICS = frozenset({SUBSCRIBE, UNSUBSCRIBE})


# The handlers of a route for the method words, and the values in the path.
_Found = tuple[Mapping[str, BoundHandler], tuple[str, ...]]

# How many of the URLs that were asked for last are remembered with their routes, and how long one
# may be: together at most 2 MB.
FOUND_URLS = 4096
FOUND_URL_LENGTH = 128

# A subclass of these may match as it likes.
_INDEXED = (PlainEndpoint, DynamicEndpoint)


class _Success(msgspec.Struct, gc=False):
    """What is sent of a success: a Struct is written faster than a dict."""

    data: Any
    event_name: Any


class _IdentifiedSuccess(_Success, gc=False):
    id: str | int


class SimpleRouter(AbstractRouter):
    """Route requests to views.

    Blocking views run in the thread pool of the request's factory, or, without one, in a thread
    of their own.
    """

    url_parser = URLParser()

    def __init__(self) -> None:
        super().__init__()
        self.error_handlers: dict[type[BaseException], ErrorHandler] = {}
        self.topics = TopicRoutes()
        self._plain: dict[str, Route] = {}
        self._tree: SegmentTree[Route] = SegmentTree()
        self._foreign: list[Route] = []
        self._found: dict[Any, _Found] = {}
        self._has_own_search = (
            type(self).extract_url is not SimpleRouter.extract_url
            or type(self).search_handler is not SimpleRouter.search_handler
        )
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
        """Open a family of topics such as `orders/{id}` to clients.

        `history` messages of each are kept for those who come back, within the limits
        `history_bytes` and `history_seconds`. `policy` says what becomes of a message that does
        not fit into what waits for a slow client: `drop_oldest`, `latest` (one for each key of
        what is published), `disconnect`, or `block` (publishers that ask for it wait). With
        `presence` its clients see who else is there. `on_subscribe(request, topic)` may be a
        coroutine; it refuses a client by returning False or by raising. Raises ValueError or
        TypeError for what cannot be.
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
        """Serve the endpoints and the topics that `router` has now, too."""
        if not isinstance(router, AbstractRouter):
            raise TypeError(f"An included router must be an AbstractRouter, not {router!r}.")
        for name in router._routes:
            self._check_name(name)
        for endpoint in list(router._urls):
            self._register_url(endpoint)
        for topic in getattr(router, "topics", ()):
            self.topics.add(topic)

    def _register_url(self, endpoint: AbstractEndpoint) -> None:
        if not isinstance(endpoint, AbstractEndpoint):
            raise TypeError(f"A route must be an AbstractEndpoint, not {endpoint!r}.")
        if endpoint.name:
            self._check_name(endpoint.name)
        route = Route(endpoint)
        self._found.clear()
        # A subclass may match in its own way, so only our very own go into the indexes.
        if type(endpoint) is PlainEndpoint:
            earlier = self._plain.setdefault(endpoint.path, route)
        elif type(endpoint) is DynamicEndpoint:
            earlier = self._tree.add(endpoint.path, route)
        else:
            self._foreign.append(route)
            earlier = route
        if earlier is not route:
            earlier.add(endpoint)
        self._urls.append(endpoint)
        if endpoint.name:
            self._routes[endpoint.name] = endpoint

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
    ) -> tuple[Any, Sequence[str], Mapping[str, Any]]:
        """Return a view instance (None if nothing has this URL), path values and `args`."""
        route, values = self._find(url)
        if route is None:
            return None, (), {}
        view = route.endpoint_for(request.method).handler()
        view._route = route  # see _call
        return view, values, request.args

    def _find(self, url: str) -> tuple[Route | None, Sequence[str]]:
        route = self._plain.get(url)
        if route is not None:
            return route, ()
        found = self._tree.find(url)
        if found is not None:
            route, values = found
            return route, route.endpoint.match(url) or () if values is None else values
        for route in self._foreign:
            matched = route.endpoint.match(url)
            if matched is not None:
                return route, matched
        return None, ()

    # From a view to a reply

    def process_request(self, request: Request) -> Any:
        """Return the reply's bytes, or a Stream, or an awaitable where something is asynchronous.

        Every fault becomes a failure; nothing is raised.
        """
        # What a view sets in a context variable is not for the next request of its connection.
        context = copy_context()
        return context.run(_process, self, request, context)

    def _look_up(self, request: Request) -> tuple[BoundHandler, tuple[str, ...]] | None:
        """Return the handler of a simple call and the values in its URL, and remember the route.

        None is returned for all else, and where a subclass has to be asked.
        """
        url, method = request.url, request.method
        if type(url) is not str or type(method) is not str or self._has_own_search:
            return None
        found = self._found.get(url)
        if found is None:
            route, values = self._find(_normalised(url))
            if route is None:
                return None
            found = (route.handlers, tuple(values))
            # The same clients ask for the same things; what many of them ask for stays at hand. A
            # pattern of a parser's own may give less than its endpoint has parameters.
            is_whole = len(values) == len(getattr(route.endpoint, "parameters", ()))
            if is_whole and len(url) <= FOUND_URL_LENGTH and type(route.endpoint) in _INDEXED:
                if len(self._found) >= FOUND_URLS:
                    self._found.clear()
                self._found[url] = found
        handler = found[0].get(method)
        return (handler, found[1]) if handler is not None and handler.is_simple else None

    def _answered(
        self,
        outcome: Deferred[Any],
        request: Request,
        handler: BoundHandler,
        view: Any,
        values: Sequence[str],
        keywords: Mapping[str, Any],
        answer: Any,
    ) -> Any:
        if isinstance(answer, Failure):
            if isinstance(outcome, Outcome) and outcome.was_cancelled:
                return answer  # by whom the reply was for
            return failure_reply(request, cast("BaseException", answer.value), self.error_handlers)
        try:
            if is_stream(answer):
                return self._in_parts(request, view, answer, values, keywords)
            return self._success(request, handler, view, answer, values, keywords)
        except BaseException as exc:  # noqa: BLE001  so may a renderer
            return failure_reply(request, exc, self.error_handlers)

    def _process_any(self, request: Request, context: Context) -> Any:
        for middleware in self._middlewares:
            _refuse_reserved(request, middleware)
        view, values, arguments = self._search(request)
        request._call_seconds = view.call_seconds
        reply = self._through_middlewares(request, view, values, arguments)
        if view.ordered and request.connection is not None:
            reply = self._in_turn(request.connection, type(view), reply)
        reply = drive(reply, context)
        return Ready(reply) if isinstance(reply, bytes) else reply

    def _search(self, request: Request) -> tuple[Any, Sequence[str], Mapping[str, Any]]:
        word = normalize_method(request.method)
        if word in _FOR_TOPICS:
            return self._search_topic(request), (), {}
        try:
            view, values, arguments = self.search_handler(request, self.extract_url(request))
            if view is None:
                raise NotSpecifiedHandler
        except (NotSpecifiedURL, NotSpecifiedHandler) as exc:
            if word == CANCEL:  # one that names no URL is a connection's
                raise MethodNotAllowed from exc
            raise
        return view, values, arguments

    def _search_topic(self, request: Request) -> TopicView:
        if not request.url:
            raise NotSpecifiedURL
        found = self.topics.find(request.url) if isinstance(request.url, str) else None
        if found is None:
            raise NotSpecifiedTopic
        return TopicView(request.url, *found)

    def _in_parts(
        self,
        request: Request,
        view: Any,
        answer: Any,
        values: Sequence[str],
        keywords: Mapping[str, Any],
    ) -> Stream:
        request._call_seconds = view.call_seconds
        content = {"data": answer, **request.to_representation()}
        return in_parts(request, view, content, values, keywords, self.error_handlers)

    async def _in_turn(
        self, connection: Any, view: type, reply: Coroutine[Any, Any, bytes | Stream]
    ) -> bytes | Stream:
        lock = self._turns.setdefault(connection, {}).setdefault(view, DeferredLock())
        taken: list[Any] = []
        try:
            await lock.acquire().addCallback(taken.append)
            answer = await reply
            if isinstance(answer, Stream):
                taken.clear()  # its turn ends with it
                answer.when_closed(lock.release)
            return answer
        finally:
            reply.close()
            # A call can be cancelled between the moment its turn comes and the one it hears of it.
            if taken:
                lock.release()

    def _call(
        self, request: Request, view: Any, values: Sequence[str], arguments: Mapping[str, Any]
    ) -> Any:
        """Return what the view answers, or an awaitable of it."""
        if isinstance(view, TopicView):
            return view.answer(request)
        # A search_handler of a subclass may return a view of its own making.
        route: Route | None = getattr(view, "_route", None)
        word = method_word(request.method)
        handler = route.handlers.get(word) if route is not None else None
        if handler is None:
            if not (word in view.methods if route is None else route.takes(word)):
                raise MethodNotAllowed
            if not has_handler(type(view), word):
                raise MethodNotAllowed
            handler = BoundHandler(type(view), word)
        keywords = handler.bind(len(values), arguments)
        call: Callable[[], Any]
        call = partial(getattr(view, handler.attribute), request, *values, **keywords)
        if view.blocking:
            # A thread of a pool has no context of its own: what a view sets would stay.
            return run_blocking(request, partial(copy_context().run, call))
        return call()

    async def _through_middlewares(
        self,
        request: Request,
        view: Any,
        values: Sequence[str],
        arguments: Mapping[str, Any],
    ) -> bytes | Stream:
        response = Response()
        parts = None
        entered: list[Any] = []
        try:
            for middleware in self._middlewares:
                entered.append(middleware)
                await _value(middleware.process_request(request, view))
            answer = await _value(self._call(request, view, values, arguments))
            parts = answer if is_stream(answer) else None
            response.content = answer
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
        return self._rendered(request, view, response, parts, values, arguments)

    def _rendered(
        self,
        request: Request,
        view: Any,
        response: Response,
        parts: Any,
        values: Sequence[str],
        arguments: Mapping[str, Any],
    ) -> bytes | Stream:
        """Return the reply; `parts` is what the view has begun, whatever was made of it."""
        try:
            content = response.to_representation()
            if response.status is not None:
                if isinstance(view, TopicView):
                    view.undo(request)
                return encode_json(content)
            if is_stream(content.get("data")):
                behind, parts = parts, None
                return in_parts(
                    request, view, content, values, arguments, self.error_handlers, behind
                )
            return self._render(request, view, content, values, arguments)
        except Exception as exc:  # noqa: BLE001  and a renderer
            return failure_reply(request, exc, self.error_handlers)
        finally:
            if parts is not None:
                discard(parts, request)

    def _success(
        self,
        request: Request,
        handler: BoundHandler,
        view: Any,
        answer: Any,
        values: Sequence[str],
        keywords: Mapping[str, Any],
    ) -> bytes:
        return _plain_reply(request, handler, answer) or self._render_success(
            request, view, answer, values, keywords
        )

    def _render_success(
        self,
        request: Request,
        view: Any,
        answer: Any,
        values: Sequence[str],
        keywords: Mapping[str, Any],
    ) -> bytes:
        content = {"data": answer, **request.to_representation()}
        return self._render(request, view, content, values, keywords)

    def _render(
        self,
        request: Request,
        view: Any,
        content: dict[str, Any],
        values: Sequence[str],
        arguments: Mapping[str, Any],
    ) -> bytes:
        # `preferred_format` cannot be among them any more: _call has refused it.
        renderer = view.get_renderer(request.get_argument("format"), *values, **arguments)
        rendered = renderer.render(content)
        if not isinstance(rendered, bytes):
            raise TypeError(f"{renderer!r} must render bytes, not {type(rendered).__name__}")
        return rendered


def _process(router: SimpleRouter, request: Request, context: Context) -> Any:
    # In one piece: this is every call of most servers, and each function more is 1 % of it. What
    # it does not take, and all it would have to refuse, is for `_process_any` to judge.
    is_awaited = False
    try:
        if router._middlewares or type(request) is not Request:
            return router._process_any(request, context)
        arguments = request._args or NO_ARGUMENTS
        called: Called | None = None
        try:
            handlers, values = router._found[request.url]
            handler = handlers[request.method]
            call = handler.calls[len(arguments)]
        except (KeyError, TypeError):  # not so far, or never
            found = router._look_up(request)
            if found is None:
                return router._process_any(request, context)
            handler, values = found
        else:
            called = call(request, values, arguments)
        view, answer, keywords = called or handler.call(request, values, arguments)
        kind = type(answer)
        if kind in PLAIN_TYPES:
            return _plain_reply(request, handler, answer) or router._render_success(
                request, view, answer, values, keywords
            )
        if kind is not CoroutineType and is_stream(answer):
            return router._in_parts(request, view, answer, values, keywords)
        if kind is CoroutineType or is_awaitable(answer):
            is_awaited = True
            coroutine = answer if kind is CoroutineType else _awaited(answer)
            answer = drive(coroutine, context)
            if isinstance(answer, Deferred):
                request._call_seconds = handler.view_class.call_seconds
                answered = partial(
                    router._answered, answer, request, handler, view, values, keywords
                )
                return answer.addBoth(partial(context.run, answered))
            if type(answer) not in PLAIN_TYPES and is_stream(answer):
                return router._in_parts(request, view, answer, values, keywords)
            return Ready(router._success(request, handler, view, answer, values, keywords))
        return router._success(request, handler, view, answer, values, keywords)
    except BaseException as exc:  # noqa: BLE001  a view may raise anything
        reply = failure_reply(request, exc, router.error_handlers)
        return Ready(reply) if is_awaited else reply


def _plain_reply(request: Request, handler: BoundHandler, answer: Any) -> bytes | None:
    """Return the reply, None if a renderer has to make it."""
    try:
        if not handler.has_default_renderer or not _SETTINGS["COMPACT_JSON"]:
            return None
    except KeyError:  # which a renderer reads
        return None
    try:
        if request.id is None:
            encoded = encoder.encode(_Success(answer, request.event_name))
        else:
            encoded = encoder.encode(_IdentifiedSuccess(answer, request.event_name, request.id))
    except Exception as exc:
        raise SerializerError from exc
    if encoded.isascii():
        return encoded
    return for_javascript(encoded) if _SETTINGS.get("UNICODE_JSON") else None


def _normalised(path: str) -> str:
    path = path.strip()
    return path if path[-1:] in {"/", ""} else path + "/"


def _refuse_reserved(request: Request, middleware: Any) -> None:
    names = getattr(middleware, "request_attributes", ())
    for name in (names,) if isinstance(names, str) else names:
        if name in request.extra_names:
            raise MalformedMessage(f"The key {name!r} is reserved and cannot be sent.")


def _checked(response: Any) -> Response:
    if not isinstance(response, Response):
        raise TypeError(f"process_response must return a Response or None, not {response!r}")
    return response


async def _value(answer: Any) -> Any:
    return await answer if is_awaitable(answer) else answer


async def _awaited(answer: Any) -> Any:
    return await answer
