"""An answer in parts: what an async generator yields, each item as a reply of its own."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from aiorest_ws.awaiting import PLAIN_TYPES, begun, stepped
from aiorest_ws.codecs import encode_json
from aiorest_ws.dispatch.failures import ErrorHandlers, failure_reply
from aiorest_ws.log import logger
from aiorest_ws.wrappers import Request

__all__ = ("CANCELLED", "Stream", "discard", "in_parts", "is_stream")

# What is cancelled on either kind of reactor.
CANCELLED = (asyncio.CancelledError, CancelledError)

_FIRST_KEYS = ("event_name", "id")


def is_stream(answer: Any) -> bool:
    """Tell whether a view's `answer` is one in parts."""
    kind = type(answer)
    return (
        kind not in PLAIN_TYPES and hasattr(kind, "__aiter__") and not hasattr(kind, "__await__")
    )


def in_parts(
    request: Request,
    view: Any,
    content: dict[str, Any],
    values: Sequence[str],
    arguments: Mapping[str, Any],
    error_handlers: ErrorHandlers,
    behind: Any = None,
) -> "Stream":
    """Return the Stream of a view's answer, `data` in `content`, rendered as the view says."""
    try:
        renderer = view.get_renderer(request.get_argument("format"), *values, **arguments)
        return Stream(request, content, renderer.render, error_handlers, behind)
    except BaseException:
        discard(content["data"], request)
        raise


class Stream:
    """The replies of one request: an async iterator of bytes, to be closed with `aclose`.

    The last one says so, or is a failure. All steps of what the view has returned are made in a
    context of their own. A cancellation is raised; every other fault is the last reply.
    """

    def __init__(
        self,
        request: Request,
        content: dict[str, Any],
        render: Callable[[dict[str, Any]], Any],
        error_handlers: ErrorHandlers,
        behind: Any = None,
    ) -> None:
        """Take what is in `content` as `data`; close `behind` after it, which it may read from."""
        self._items = aiter(content["data"])
        self._sources = [self._items] if behind is self._items else [self._items, behind]
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
            self.is_over = True
        except (GeneratorExit, *CANCELLED):
            raise
        except BaseException as exc:  # noqa: BLE001  it is a view's
            return self.failure(exc)
        end = {name: self._content[name] for name in _FIRST_KEYS if name in self._content}
        end["stream"] = "end"
        try:
            return self._rendered(end)
        except Exception:  # noqa: BLE001  a renderer may be for items only
            return encode_json(end)

    def failure(self, exc: BaseException) -> bytes:
        """Return the reply that ends the stream with `exc`."""
        self.is_over = True
        return failure_reply(self._request, exc, self._error_handlers)

    async def aclose(self) -> None:
        """Close what the view has returned, whether it has begun or not; what fails is logged."""
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
            for tell in when_closed:
                tell()

    def when_closed(self, tell: Callable[[], Any]) -> None:
        """Call `tell` as soon as all is closed."""
        self._when_closed.append(tell)

    def _rendered(self, content: dict[str, Any]) -> bytes:
        rendered = self._render(content)
        if not isinstance(rendered, bytes):
            raise TypeError(f"a renderer must return bytes, not {type(rendered).__name__}")
        return rendered


# Nothing else holds on to what closes on its own, and asyncio holds its tasks weakly.
_closing: set[Deferred[Any]] = set()


def discard(answer: Any, request: Request | None = None) -> None:
    """Close a Stream, or what would have become one of `request`, that nobody will read."""
    closing = answer.aclose() if isinstance(answer, Stream) else _close(answer, request)
    outcome = begun(_uncancelled(closing))
    if outcome.called:
        return
    _closing.add(outcome)
    outcome.addBoth(lambda _: _closing.discard(outcome))


async def _uncancelled(closing: Coroutine[Any, Any, None]) -> None:
    with suppress(*CANCELLED):
        await closing


async def _next(items: Any) -> Any:
    return await items.__anext__()


async def _close(source: Any, request: Request | None) -> None:
    kind = type(source)
    close = getattr(kind, "aclose", None)
    # What only makes iterators may be for others, too.
    if close is None or not hasattr(kind, "__anext__"):
        return
    try:
        await close(source)
    except (GeneratorExit, *CANCELLED):
        raise
    except BaseException as exc:  # noqa: BLE001  such as one that yields in `finally`
        logger.error(
            "request %s: %r left a stream that could not be closed",
            "-" if request is None else request.log_id,
            request,
            exc_info=exc,
        )
