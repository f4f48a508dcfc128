"""From a request to the bytes of its reply."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import Context, copy_context
from functools import partial
from types import CoroutineType
from typing import Any, Protocol, cast
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred, DeferredLock
from twisted.python.failure import Failure

from aiorest_ws.auth.guard import check_access, is_guarded
from aiorest_ws.awaiting import PLAIN_TYPES, Outcome, Ready, drive, is_awaitable, maybe_await
from aiorest_ws.codecs import encode_json
from aiorest_ws.dispatch.blocking import run_blocking
from aiorest_ws.dispatch.call import CALLER, Call, read_query
from aiorest_ws.dispatch.failures import failure_reply, to_failure
from aiorest_ws.dispatch.route_table import RouteTable
from aiorest_ws.dispatch.routes import (
    NO_ARGUMENTS,
    BoundHandler,
    CallResult,
    NotSimple,
    Route,
    has_handler,
)
from aiorest_ws.dispatch.scopes import Scope, Scopes
from aiorest_ws.dispatch.streams import Stream, discard, is_stream, open_stream
from aiorest_ws.dispatch.success import success_reply
from aiorest_ws.exceptions import (
    MalformedMessage,
    MethodNotAllowed,
    NotSpecifiedHandler,
    NotSpecifiedTopic,
    NotSpecifiedURL,
)
from aiorest_ws.topics.routes import TopicRoutes
from aiorest_ws.topics.view import TopicView
from aiorest_ws.views import method_word
from aiorest_ws.wrappers import (
    CANCEL,
    TOPIC_METHODS,
    Request,
    Response,
    TypedRequest,
    normalize_method,
)

__all__ = ("Dispatcher", "DispatchingRouter")


class DispatchingRouter(Protocol):
    """What a dispatcher needs of its router."""

    scopes: Scopes
    topics: TopicRoutes

    @property
    def middlewares(self) -> list[Any]: ...

    def extract_url(self, request: Request) -> str: ...

    def search_handler(
        self, request: Request, url: str
    ) -> tuple[Any, Sequence[str], Mapping[str, Any]]: ...


class Dispatcher:
    """Make the replies of a router.

    Simple calls are looked up in `table`. If `asks_router`, every call is looked up by the
    router's `extract_url` and `search_handler` instead, because a subclass overrides them.
    """

    __slots__ = ("_asks_router", "_middlewares", "_remembered", "_router", "_table", "_turns")

    def __init__(self, router: DispatchingRouter, table: RouteTable, *, asks_router: bool) -> None:
        self._router = router
        self._table = table
        self._asks_router = asks_router
        self._middlewares = router.middlewares
        self._remembered = table.remembered
        self._turns: WeakKeyDictionary[Any, dict[type, DeferredLock]] = WeakKeyDictionary()

    def reply(self, request: Request) -> Any:
        """Return the reply's bytes, a Stream, or an awaitable; never raises."""
        # One long function: most calls of most servers need nothing else, and each further call
        # of a function takes 1 % of their time. All other calls, and all that are rejected, are
        # for _reply_step_by_step.
        context: Context | None = None
        handler: BoundHandler | None = None
        try:
            kind: Any = type(request)
            if self._middlewares or (kind is not Request and kind is not TypedRequest):
                return self._reply_step_by_step(request)
            arguments = request._args or NO_ARGUMENTS
            result: CallResult | None = None
            try:
                handlers, values = self._remembered[request.url]
                handler = handlers[request.method]
                call_view = handler.calls[len(arguments)]
            except (KeyError, TypeError):  # not requested before, or not simple
                found = None
                if not self._asks_router:
                    found = self._table.find_simple(read_query(request), request.method)
                if found is None:
                    return self._reply_step_by_step(request)
                handler, values = found
                arguments = request._args or NO_ARGUMENTS
            else:
                result = call_view(request, values, arguments)
            view, answer, keywords = result or handler.call(request, values, arguments)
            kind = type(answer)
            if kind in PLAIN_TYPES:
                return success_reply(request, handler, answer) or _render(
                    Call(request, view, values, keywords, handler.scope), answer
                )
            if kind is CoroutineType or is_awaitable(answer):
                # The coroutine's: also for what is done with the value that it returns.
                context = copy_context()
                coroutine = answer if kind is CoroutineType else maybe_await(answer)
                answer = drive(coroutine, context)
                if isinstance(answer, Outcome):
                    request._call_seconds = handler.view_class.call_seconds
                    call = Call(request, view, values, keywords, handler.scope)
                    return self._reply_later(answer, call, handler, context)
                if type(answer) in PLAIN_TYPES:
                    return Ready(
                        success_reply(request, handler, answer)
                        or context.run(
                            _render, Call(request, view, values, keywords, handler.scope), answer
                        )
                    )
            call = Call(request, view, values, keywords, handler.scope)
            return self._reply_in(context, answer, call, handler)
        except NotSimple:  # and from now on not taken for simple
            return self.reply(request)
        except BaseException as exc:  # noqa: BLE001  a view may raise anything
            return self._failure(request, exc, handler, context)

    def _reply_later(
        self, outcome: Outcome, call: Call, handler: BoundHandler, context: Context
    ) -> Deferred[Any]:
        context.run(CALLER.set, call.request)
        reply_to = partial(self._reply_to_outcome, outcome, call, handler)
        return outcome.addBoth(partial(context.run, reply_to))

    def _reply_in(
        self, context: Context | None, answer: object, call: Call, handler: BoundHandler
    ) -> bytes | Stream:
        if context is None:
            return self._reply_to_answer(answer, call, handler)
        reply = context.run(self._reply_to_answer, answer, call, handler)
        return Ready(reply) if isinstance(reply, bytes) else reply

    def _failure(
        self,
        request: Request,
        exc: BaseException,
        handler: BoundHandler | None,
        context: Context | None,
    ) -> bytes:
        scope = self._router.scopes.own if handler is None else handler.scope
        if context is None:
            return failure_reply(request, exc, scope.error_handlers)
        return Ready(context.run(failure_reply, request, exc, scope.error_handlers))

    def _reply_to_outcome(
        self, outcome: Outcome, call: Call, handler: BoundHandler, answer: object
    ) -> Any:
        if isinstance(answer, Failure):
            return _reply_to_failure(outcome, call.request, call.scope, answer)
        try:
            return self._reply_to_answer(answer, call, handler)
        except BaseException as exc:  # noqa: BLE001  a renderer may raise anything
            return failure_reply(call.request, exc, call.scope.error_handlers)

    def _reply_to_answer(
        self, answer: object, call: Call, handler: BoundHandler
    ) -> bytes | Stream:
        if is_stream(answer):
            call.request._call_seconds = call.view.call_seconds
            return open_stream(call, call.content(answer), call.scope.error_handlers)
        return success_reply(call.request, handler, answer) or _render(call, answer)

    # Calls with middlewares, in a thread, in turns, of topics; requests to be rejected

    def _reply_step_by_step(self, request: Request) -> Any:
        read_query(request)
        for middleware in self._middlewares:
            _refuse_reserved(request, middleware)
        view, values, arguments = self._search(request)
        scope = self._scope_of(view, request)
        for middlewares in scope.included_middlewares:
            for middleware in middlewares:
                _refuse_reserved(request, middleware)
        request._call_seconds = view.call_seconds
        reply: Any = self._reply_through_middlewares(Call(request, view, values, arguments, scope))
        if view.ordered and request.connection is not None:
            reply = self._in_turn(request.connection, type(view), reply)
        context = copy_context()
        try:
            reply = drive(reply, context)
        except BaseException as exc:  # noqa: BLE001  a call may have cancelled itself
            reply = context.run(failure_reply, request, exc, scope.error_handlers)
        if isinstance(reply, Outcome):
            context.run(CALLER.set, request)
            reply_to = partial(_reply_to_failure, reply, request, scope)
            return reply.addErrback(partial(context.run, reply_to))
        return Ready(reply) if isinstance(reply, bytes) else reply

    def _search(self, request: Request) -> tuple[Any, Sequence[str], Mapping[str, Any]]:
        method = normalize_method(request.method)
        if method in TOPIC_METHODS:
            return self._search_topic(request), (), {}
        router = self._router
        try:
            view, values, arguments = router.search_handler(request, router.extract_url(request))
            if view is None:
                raise NotSpecifiedHandler
        except (NotSpecifiedURL, NotSpecifiedHandler) as exc:
            if method == CANCEL:  # the connection handles a CANCEL without a URL
                raise MethodNotAllowed from exc
            raise
        return view, values, arguments

    def _search_topic(self, request: Request) -> TopicView:
        if not request.url:
            raise NotSpecifiedURL
        topics = self._router.topics
        found = topics.find(request.url) if isinstance(request.url, str) else None
        if found is None:
            raise NotSpecifiedTopic
        return TopicView(request.url, *found)

    def _scope_of(self, view: Any, request: Request) -> Scope:
        if isinstance(view, TopicView):
            return self._router.scopes.of(view.route)
        # A subclass's search_handler may return a view that ours has not made.
        route: Route | None = getattr(view, "_route", None)
        if route is None:
            return self._router.scopes.of(type(view))
        return route.scope_for(request.method)

    async def _in_turn(
        self, connection: Any, view: type, reply: Coroutine[Any, Any, bytes | Stream]
    ) -> bytes | Stream:
        lock = self._turns.setdefault(connection, {}).setdefault(view, DeferredLock())
        taken: list[Any] = []
        try:
            await lock.acquire().addCallback(taken.append)
            answer = await reply
            if isinstance(answer, Stream):
                taken.clear()  # the turn ends with the stream
                answer.when_closed(lock.release)
            return answer
        finally:
            reply.close()
            # A call can be cancelled after its turn has come and before it resumes.
            if taken:
                lock.release()

    async def _reply_through_middlewares(self, call: Call) -> bytes | Stream:
        request = call.request
        response = Response()
        stream = None
        entered: list[Any] = []
        try:
            for middleware in call.scope.middlewares:
                entered.append(middleware)
                await maybe_await(middleware.process_request(request, call.view))
            if is_guarded(call.view) and not isinstance(call.view, TopicView):
                await check_access(request, call.view)
            answer = await maybe_await(_call_view(call))
            stream = answer if is_stream(answer) else None
            response.content = answer
        except GeneratorExit:
            raise
        except BaseException as exc:  # noqa: BLE001  a view may raise anything
            response.wrap_exception(to_failure(request, exc, call.scope.error_handlers))
        response.append_request(request)
        for middleware in reversed(entered):
            if not hasattr(middleware, "process_response"):
                continue
            try:
                changed = await maybe_await(middleware.process_response(request, response))
                response = response if changed is None else _checked(changed)
            except GeneratorExit:
                raise
            except BaseException as exc:  # noqa: BLE001  a middleware may raise anything
                response.wrap_exception(to_failure(request, exc, call.scope.error_handlers))
        response.append_request(request)
        return self._reply_to_response(call, response, stream)

    def _reply_to_response(self, call: Call, response: Response, stream: object) -> bytes | Stream:
        """Return the reply; close `stream`, which the view has returned, if nothing reads it."""
        request = call.request
        try:
            content = response.to_representation()
            if response.status is not None:
                if isinstance(call.view, TopicView):
                    call.view.undo(request)
                request._status = response.status
                return cast("bytes", call.encode(encode_json, content))
            if is_stream(content.get("data")):
                behind, stream = stream, None
                return open_stream(call, content, call.scope.error_handlers, behind)
            return call.render(content)
        except Exception as exc:  # noqa: BLE001  a renderer may raise anything
            return failure_reply(request, exc, call.scope.error_handlers)
        finally:
            if stream is not None:
                discard(stream, request)


def _reply_to_failure(
    outcome: Outcome, request: Request, scope: Scope, failure: Failure
) -> bytes | Failure:
    if outcome.was_cancelled:
        return failure  # for those who cancelled it
    exc = cast("BaseException", failure.value)
    return failure_reply(request, exc, scope.error_handlers)


def _call_view(call: Call) -> Any:
    """Return what the view answers, or an awaitable of it."""
    request, view, values = call.request, call.view, call.values
    if isinstance(view, TopicView):
        return view.answer(request)
    # A subclass's search_handler may return a view that ours has not made.
    route: Route | None = getattr(view, "_route", None)
    word = method_word(request.method)
    handler = route.handlers.get(word) if route is not None else None
    if handler is None:
        if not (word in view.methods if route is None else route.takes(word)):
            raise MethodNotAllowed
        if not has_handler(type(view), word):
            raise MethodNotAllowed
        handler = BoundHandler(type(view), word, scope=call.scope)
    keywords = handler.bind(len(values), call.keywords)
    method: Callable[..., Any] = getattr(view, handler.attribute)
    if view.blocking:
        # A thread of the pool needs a context of its own, or what a view sets in it would stay.
        run = copy_context().run
        return run_blocking(request, partial(run, method, request, *values, **keywords))
    return method(request, *values, **keywords)


def _render(call: Call, answer: object) -> bytes:
    return call.render(call.content(answer))


def _refuse_reserved(request: Request, middleware: object) -> None:
    names = getattr(middleware, "request_attributes", ())
    for name in (names,) if isinstance(names, str) else names:
        if name in request.extra_names:
            raise MalformedMessage(f"The key {name!r} is reserved and cannot be sent.")


def _checked(response: object) -> Response:
    if not isinstance(response, Response):
        raise TypeError(f"process_response must return a Response or None, not {response!r}")
    return response
