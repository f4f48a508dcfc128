"""From a request to the bytes of its reply."""

from collections.abc import Callable, Mapping, Sequence
from contextvars import Context, copy_context
from functools import partial
from types import CoroutineType
from typing import Any, Protocol, cast
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred, DeferredLock
from twisted.python.failure import Failure

from aiorest_ws.awaiting import (
    PLAIN_TYPES,
    Outcome,
    Ready,
    Steps,
    drive,
    is_awaitable,
    maybe_await,
    take,
)
from aiorest_ws.dispatch.call import CALLER, Call, read_query
from aiorest_ws.dispatch.declared import route_errors
from aiorest_ws.dispatch.failures import failure_reply
from aiorest_ws.dispatch.plan import Plan, Plans, Unfinished, Unplanned, names_set_by
from aiorest_ws.dispatch.route_table import RouteTable
from aiorest_ws.dispatch.routes import NO_ARGUMENTS, CallResult, Route
from aiorest_ws.dispatch.scopes import NO_EQUIPMENT, Equipment, Scope, Scopes
from aiorest_ws.dispatch.stages import pass_stages
from aiorest_ws.dispatch.streams import Stream, is_stream, open_stream
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
from aiorest_ws.wrappers import (
    CANCEL,
    PING,
    TOPIC_METHODS,
    Request,
    TypedRequest,
    normalize_method,
)

__all__ = ("Dispatcher", "Dispatchers", "DispatchingRouter")


class DispatchingRouter(Protocol):
    """What a dispatcher needs of its router."""

    scopes: Scopes
    topics: TopicRoutes

    def extract_url(self, request: Request) -> str: ...

    def search_handler(
        self, request: Request, url: str
    ) -> tuple[Any, Sequence[str], Mapping[str, Any]]: ...


class Dispatcher:
    """Make the replies of a router for one server.

    Most calls are made by a plan. If `asks_router`, every call is looked up by the router's
    `extract_url` and `search_handler` instead, because a subclass overrides them. If it
    `may_await`, every reply that has passed middlewares can be awaited.
    """

    __slots__ = ("_asks_router", "_equipment", "_plans", "_remembered", "_router", "_turns")

    def __init__(
        self,
        router: DispatchingRouter,
        table: RouteTable,
        equipment: Equipment,
        *,
        asks_router: bool,
        may_await: bool = False,
    ) -> None:
        self._router = router
        self._asks_router = asks_router
        self._equipment = equipment
        self._plans = Plans(table, equipment, is_for_views=may_await)
        self._remembered = self._plans.remembered
        self._turns: WeakKeyDictionary[Any, dict[type, DeferredLock]] = WeakKeyDictionary()

    def reply(self, request: Request) -> Any:  # noqa: C901  as long as it is, for speed
        """Return the reply's bytes, a Stream, or an awaitable; never raises."""
        # One long function: most calls of most servers need nothing else, and each further call
        # of a function takes 1 % of their time. All other calls, and all that are rejected, are
        # for _reply_unplanned.
        context: Context | None = None
        plan: Plan | None = None
        try:
            kind: Any = type(request)
            if kind is not Request and kind is not TypedRequest:
                raise Unplanned
            arguments = request._args or NO_ARGUMENTS
            result: CallResult | None = None
            try:
                plans, values = self._remembered[request.url]
                plan = plans[request.method]
                call_view = plan.calls[len(arguments)]
            except (KeyError, TypeError):  # not requested before, or without a plan
                found = None
                if not self._asks_router:
                    found = self._plans.find(read_query(request), request.method)
                if found is None:
                    raise Unplanned from None
                plan, values = found
                arguments = request._args or NO_ARGUMENTS
            else:
                result = call_view(request, values, arguments)
            view, answer, keywords = result or plan.call(request, values, arguments)
            kind = type(answer)
            if kind in PLAIN_TYPES and (plan.is_default or not plan.is_staged):
                return success_reply(request, plan.is_default, answer) or _render(
                    Call(request, view, values, keywords, plan.scope), answer
                )
            if plan.is_staged or kind is Unfinished:
                return self._reply_by_stages(plan, request, view, values, answer)
            if kind is CoroutineType or is_awaitable(answer):
                # The coroutine's: also for what is done with the value that it returns.
                context = copy_context()
                coroutine = answer if kind is CoroutineType else maybe_await(answer)
                answer = drive(coroutine, context)
                if isinstance(answer, Outcome):
                    request._call_seconds = plan.view_class.call_seconds
                    call = Call(request, view, values, keywords, plan.scope)
                    return self._reply_later(answer, call, plan, context)
                if type(answer) in PLAIN_TYPES:
                    return Ready(
                        success_reply(request, plan.is_default, answer)
                        or context.run(
                            _render, Call(request, view, values, keywords, plan.scope), answer
                        )
                    )
            call = Call(request, view, values, keywords, plan.scope)
            return self._reply_in(context, answer, call, plan)
        except Unplanned:
            return self._reply_unplanned(request)
        except BaseException as exc:  # noqa: BLE001  a view may raise anything
            return self._failure(request, exc, plan, context)

    def _reply_unplanned(self, request: Request) -> Any:
        try:
            return self._reply_step_by_step(request)
        except BaseException as exc:  # noqa: BLE001  a view may raise anything
            return self._failure(request, exc, None, None)

    def _reply_later(
        self, outcome: Outcome, call: Call, plan: Plan, context: Context
    ) -> Deferred[Any]:
        context.run(CALLER.set, call.request)
        reply_to = partial(self._reply_to_outcome, outcome, call, plan)
        return outcome.addBoth(partial(context.run, reply_to))

    def _reply_in(
        self, context: Context | None, answer: object, call: Call, plan: Plan
    ) -> bytes | Stream:
        if context is None:
            return self._reply_to_answer(answer, call, plan)
        reply = context.run(self._reply_to_answer, answer, call, plan)
        return Ready(reply) if isinstance(reply, bytes) else reply

    def _failure(
        self,
        request: Request,
        exc: BaseException,
        plan: Plan | None,
        context: Context | None,
    ) -> bytes:
        scope = self._own_scope if plan is None else plan.scope
        if context is None:
            return failure_reply(request, exc, scope.error_handlers)
        return Ready(context.run(failure_reply, request, exc, scope.error_handlers))

    def _reply_to_outcome(self, outcome: Outcome, call: Call, plan: Plan, answer: object) -> Any:
        if isinstance(answer, Failure):
            return _reply_to_failure(outcome, call.request, call.scope, answer)
        try:
            return self._reply_to_answer(answer, call, plan)
        except BaseException as exc:  # noqa: BLE001  a renderer may raise anything
            return failure_reply(call.request, exc, call.scope.error_handlers)

    def _reply_to_answer(self, answer: object, call: Call, plan: Plan) -> bytes | Stream:
        if is_stream(answer):
            call.request._call_seconds = call.view.call_seconds
            return open_stream(call, call.content(answer), call.scope.error_handlers)
        return success_reply(call.request, plan.is_default, answer) or _render(call, answer)

    def _reply_by_stages(
        self, plan: Plan, request: Request, view: Any, values: Sequence[str], answer: object
    ) -> Any:
        """Reply to a call that its plan has begun and left at a stage."""
        if type(answer) is not Unfinished:
            answer = Unfinished(len(plan.middlewares) + 2, answer)
        request._call_seconds = view.call_seconds
        call = Call(request, view, values, request.args, plan.scope, plan.route)
        return self._reply_to(call, pass_stages(call, plan.middlewares, answer))

    def _reply_to(self, call: Call, steps: Steps[bytes | Stream]) -> Any:
        reply: Any = take(steps)
        if isinstance(reply, CoroutineType):
            request, scope = call.request, call.scope
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

    # Calls without a plan: in a thread, in turns, of topics; requests to be rejected

    def _reply_step_by_step(self, request: Request) -> Any:
        read_query(request)
        _refuse_reserved(request, self._own_scope)
        view, values, arguments = self._search(request)
        scope = self._scope_of(view, request)
        _refuse_reserved(request, scope)
        request._call_seconds = view.call_seconds
        # A subclass's search_handler may return a view that ours has not made.
        route: Route | None = getattr(view, "_route", None)
        call = Call(request, view, values, arguments, scope, route)
        steps = pass_stages(call, scope.middlewares)
        if view.ordered and request.connection is not None:
            one = getattr(view, "taking_turns_with", type(view))
            steps = self._in_turn(request.connection, one, steps)
        return self._reply_to(call, steps)

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
            if method in (CANCEL, PING):  # the connection handles those without a URL
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
        scopes = self._router.scopes
        if isinstance(view, TopicView):
            scope = scopes.of(view.route)
        else:
            route: Route | None = getattr(view, "_route", None)
            scope = scopes.of(type(view)) if route is None else route.scope_for(request.method)
        return scope.equipped(self._equipment, route_errors(view))

    @property
    def _own_scope(self) -> Scope:
        return self._router.scopes.own.equipped(self._equipment)

    def _in_turn(
        self, connection: Any, view: type, steps: Steps[bytes | Stream]
    ) -> Steps[bytes | Stream]:
        lock = self._turns.setdefault(connection, {}).setdefault(view, DeferredLock())
        taken: list[Any] = []
        try:
            yield lock.acquire().addCallback(taken.append)
            answer = yield from steps
            if isinstance(answer, Stream):
                taken.clear()  # the turn ends with the stream
                answer.when_closed(lock.release)
            return answer
        finally:
            steps.close()
            # A call can be cancelled after its turn has come and before it resumes.
            if taken:
                lock.release()


def _reply_to_failure(
    outcome: Outcome, request: Request, scope: Scope, failure: Failure
) -> bytes | Failure:
    if outcome.was_cancelled:
        return failure  # for those who cancelled it
    exc = cast("BaseException", failure.value)
    return failure_reply(request, exc, scope.error_handlers)


def _render(call: Call, answer: object) -> bytes:
    return call.render(call.content(answer))


def _refuse_reserved(request: Request, scope: Scope) -> None:
    if not request.extra_names:
        return
    for middleware in scope.middlewares:
        for name in names_set_by(middleware):
            if name in request.extra_names:
                raise MalformedMessage(f"The key {name!r} is reserved and cannot be sent.")


class Dispatchers:
    """The dispatchers of a router, one for each server; `reply` makes the replies of all."""

    __slots__ = ("_make", "_newest", "_of_servers", "reply")

    def __init__(self, make: Callable[[Equipment], Dispatcher]) -> None:
        self._make = make
        self._of_servers: WeakKeyDictionary[Any, Dispatcher] = WeakKeyDictionary()
        self._newest = make(NO_EQUIPMENT)
        self.reply: Callable[[Request], Any] = self._newest.reply

    def add(self, server: Any, equipment: Equipment) -> None:
        """Reply to the requests of a server, and to those without one as if they were of it."""
        self._newest = self._of_servers[server] = self._make(equipment)
        has_one = len(self._of_servers) == 1
        self.reply = self._newest.reply if has_one else self._reply_for_server

    def _reply_for_server(self, request: Request) -> Any:
        factory = request.factory
        for server, dispatcher in self._of_servers.items():
            if server is factory:
                return dispatcher.reply(request)
        return self._newest.reply(request)
