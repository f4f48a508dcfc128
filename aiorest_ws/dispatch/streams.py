"""Streams: each item that an async generator yields is sent as a reply of its own."""

from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred

from aiorest_ws.awaiting import CANCELLED, PLAIN_TYPES, is_cancelled, start, stepped
from aiorest_ws.codecs import encode_json
from aiorest_ws.dispatch.call import Call
from aiorest_ws.dispatch.failures import ErrorHandlers, failure_reply
from aiorest_ws.log import logger
from aiorest_ws.wrappers import Request

__all__ = ("Stream", "discard", "is_stream", "open_stream")

_FIRST_KEYS = ("event_name", "id")


def is_stream(answer: object) -> bool:
    """Tell whether a view's `answer` is to be sent as a stream."""
    kind = type(answer)
    return (
        kind not in PLAIN_TYPES and hasattr(kind, "__aiter__") and not hasattr(kind, "__await__")
    )


def open_stream(
    call: Call, content: dict[str, Any], error_handlers: ErrorHandlers, source: Any = None
) -> "Stream":
    """Return the Stream of `data` in `content`, rendered by the renderer of the call.

    If that reads from another iterator, `source`, the Stream closes both.
    """
    try:
        render = partial(call.encode, call.renderer().render)
        return Stream(call.request, content, render, error_handlers, source)
    except BaseException:
        discard(content["data"], call.request)
        raise


class Stream:
    """The replies to one request: an async iterator of bytes, to be closed with `aclose`.

    The last reply ends the stream or is a failure. What the view has returned runs in a context of
    its own. A cancellation is raised; any other exception becomes the last reply.
    """

    def __init__(
        self,
        request: Request,
        content: dict[str, Any],
        render: Callable[[dict[str, Any]], Any],
        error_handlers: ErrorHandlers,
        source: Any = None,
    ) -> None:
        """Send the items of `data` in `content`; when they end, close it and then `source`."""
        self._items = aiter(content["data"])
        self._sources = [self._items] if source is self._items else [self._items, source]
        self._request = request
        self._content = content
        self._render = render
        self._error_handlers = error_handlers
        self._context = copy_context()
        self._when_closed: list[Callable[[], Any]] = []
        self._is_closed = False
        self.is_over = False

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> bytes:
        """Return the next reply."""
        if self.is_over:
            await self.aclose()
            raise StopAsyncIteration
        try:
            item = await stepped(_next(self._items), self._context.run)
            return self._rendered({**self._content, "data": item, "stream": "next"})
        except StopAsyncIteration:
            if is_cancelled():
                return self.failure(CANCELLED[0]())
            self.is_over = True
        except GeneratorExit:
            raise
        except BaseException as exc:
            if isinstance(exc, CANCELLED) and is_cancelled():
                raise
            return self.failure(exc)
        end = {name: self._content[name] for name in _FIRST_KEYS if name in self._content}
        end["stream"] = "end"
        try:
            return self._rendered(end)
        except Exception:  # noqa: BLE001  a renderer may accept items only
            return encode_json(end)

    def failure(self, exc: BaseException) -> bytes:
        """End the stream; return the failure for `exc`."""
        self.is_over = True
        return failure_reply(self._request, exc, self._error_handlers)

    async def aclose(self) -> None:
        """Close what the view has returned, started or not. Exceptions are logged."""
        if self._is_closed:
            return
        self._is_closed = self.is_over = True
        sources, self._sources, self._items = self._sources, [], None
        self._content = {}
        try:
            for source in sources:
                await stepped(_close(source, self._request), self._context.run)
        finally:
            when_closed, self._when_closed = self._when_closed, []
            for callback in when_closed:
                callback()

    def when_closed(self, callback: Callable[[], Any]) -> None:
        """Call `callback` when the stream is closed."""
        self._when_closed.append(callback)

    def _rendered(self, content: dict[str, Any]) -> bytes:
        rendered = self._render(content)
        if not isinstance(rendered, bytes):
            raise TypeError(f"a renderer must return bytes, not {type(rendered).__name__}")
        return rendered


# Keeps the closing coroutines alive: nothing else refers to them, asyncio only weakly.
_closing: set[Deferred[Any]] = set()


def discard(answer: object, request: Request | None = None) -> None:
    """Close a Stream that nothing will read, or a view's answer that would have become one."""
    closing = answer.aclose() if isinstance(answer, Stream) else _close(answer, request)
    outcome = start(_uncancelled(closing))
    if outcome.called:
        return
    _closing.add(outcome)
    outcome.addBoth(lambda _: _closing.discard(outcome))


async def _uncancelled(closing: Coroutine[Any, Any, None]) -> None:
    with suppress(*CANCELLED):
        await closing


async def _next(items: Any) -> Any:
    return await items.__anext__()


async def _close(source: object, request: Request | None) -> None:
    kind = type(source)
    close = getattr(kind, "aclose", None)
    # An iterable that is not an iterator itself may have other readers.
    if close is None or not hasattr(kind, "__anext__"):
        return
    try:
        await close(source)
    except GeneratorExit:
        raise
    except BaseException as exc:
        if isinstance(exc, CANCELLED) and is_cancelled():
            raise
        logger.error(
            "request %s: %r left a stream that could not be closed",
            "-" if request is None else request.log_id,
            request,
            exc_info=exc,
        )
