"""The stages of a call: middlewares, permissions, the view, `process_response`, the renderer.

They are steps, which yield what has to be awaited. A plan has compiled functions for most of them.
"""

from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any, cast

from aiorest_ws.auth.guard import access, is_guarded
from aiorest_ws.awaiting import Steps, is_awaitable
from aiorest_ws.codecs import encode_json
from aiorest_ws.dispatch.blocking import run_blocking
from aiorest_ws.dispatch.call import Call
from aiorest_ws.dispatch.failures import failure_reply, to_failure
from aiorest_ws.dispatch.plan import Unfinished, responding
from aiorest_ws.dispatch.routes import BoundHandler, has_handler
from aiorest_ws.dispatch.streams import Stream, discard, is_stream, open_stream
from aiorest_ws.dispatch.success import has_default_renderer, success_reply
from aiorest_ws.exceptions import MethodNotAllowed
from aiorest_ws.topics.view import TopicView
from aiorest_ws.views import method_word
from aiorest_ws.wrappers import Request, Response

__all__ = ("pass_stages",)

_NOT_BEGUN = Unfinished(0)


def pass_stages(
    call: Call, middlewares: Sequence[Any], begun: Unfinished = _NOT_BEGUN
) -> Steps[bytes | Stream]:
    """Take a call through all stages that are left, and return the reply.

    A position is the number of middlewares that the call has entered, then one more if it may
    reach the view, and one more if the view has answered.
    """
    response = begun.response
    if response is not None:
        return (yield from _respond(call, middlewares, begun, response))
    request, view = call.request, call.view
    position, answer, error, *_ = begun
    stream = None
    response = Response()
    try:
        if error is not None:
            raise error
        if is_awaitable(answer):
            answer = yield answer
        while position < len(middlewares):
            position += 1
            waiting = middlewares[position - 1].process_request(request, view)
            if is_awaitable(waiting):
                yield waiting
        if position == len(middlewares):
            if is_guarded(view) and not isinstance(view, TopicView):
                yield from access(request, view)
            position += 1
        if position == len(middlewares) + 1:
            answer = _call_view(call)
            if is_awaitable(answer):
                answer = yield answer
        stream = answer if is_stream(answer) else None
        response.content = answer
    except GeneratorExit:
        raise
    except BaseException as exc:  # noqa: BLE001  a view may raise anything
        response.wrap_exception(to_failure(request, exc, call.scope.error_handlers))
    response.append_request(request)
    entered = middlewares[:position]
    answered = Unfinished(len(entered) + 2, response=response, answer=answer)
    return (yield from _respond(call, entered, answered, response, stream))


def _respond(
    call: Call,
    entered: Sequence[Any],
    begun: Unfinished,
    response: Response,
    stream: object = None,
) -> Steps[bytes | Stream]:
    """Show a response to the middlewares that have yet to see it, and return the reply."""
    request = call.request
    asked, changed, error = begun.position - len(entered) - 2, begun.waiting, begun.error
    left = responding(entered)[asked:]
    while True:
        try:
            if error is not None:
                raise error
            if is_awaitable(changed):
                changed = yield changed
            response = response if changed is None else _checked(changed)
        except GeneratorExit:
            raise
        except BaseException as exc:  # noqa: BLE001  a middleware may raise anything
            response.wrap_exception(to_failure(request, exc, call.scope.error_handlers))
        if not left:
            break
        changed = error = None
        try:
            changed = left.pop(0).process_response(request, response)
        except BaseException as exc:  # noqa: BLE001  raised above
            error = exc
    response.append_request(request)
    return _reply_to_response(call, response, begun.answer, stream)


def _call_view(call: Call) -> Any:
    """Return what the view answers, or an awaitable of it."""
    request, view, values = call.request, call.view, call.values
    if isinstance(view, TopicView):
        return view.answer(request)
    route = call.route
    word = method_word(request.method)
    handler = route.handlers.get(word) if route is not None else None
    if handler is None:
        if not (word in view.methods if route is None else route.takes(word)):
            raise MethodNotAllowed
        if not has_handler(type(view), word):
            raise MethodNotAllowed
        handler = BoundHandler(type(view), word)
    keywords = handler.bind(len(values), call.keywords)
    method: Callable[..., Any] = getattr(view, handler.attribute)
    if view.blocking:
        # A thread of the pool needs a context of its own, or what a view sets in it would stay.
        run = copy_context().run
        return run_blocking(request, partial(run, method, request, *values, **keywords))
    return method(request, *values, **keywords)


def _reply_to_response(
    call: Call, response: Response, answer: object, stream: object
) -> bytes | Stream:
    """Return the reply; close `stream`, which the view has returned, if nothing reads it."""
    request = call.request
    try:
        if response.status is not None:
            if isinstance(call.view, TopicView):
                call.view.undo(request)
            request._status = response.status
            content = response.to_representation()
            return cast("bytes", call.encode(encode_json, content))
        if stream is None and _is_untouched(response, answer, request):
            reply = success_reply(request, has_default_renderer(call.view), answer)
            if reply is not None:
                return reply
        content = response.to_representation()
        if is_stream(content.get("data")):
            behind, stream = stream, None
            return open_stream(call, content, call.scope.error_handlers, behind)
        return call.render(content)
    except Exception as exc:  # noqa: BLE001  a renderer may raise anything
        return failure_reply(request, exc, call.scope.error_handlers)
    finally:
        if stream is not None:
            discard(stream, request)


def _is_untouched(response: Response, answer: object, request: Request) -> bool:
    """Tell whether a success has the answer of the view and what it echoes, and nothing else."""
    content = response.content
    size = 2 if request.id is None else 3
    return len(content) == size and content.get("data", content) is answer


def _checked(response: object) -> Response:
    if not isinstance(response, Response):
        raise TypeError(f"process_response must return a Response or None, not {response!r}")
    return response
