"""`Depends`: a parameter that the server makes for each call, such as a database session."""

import inspect
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import wraps
from types import AsyncGeneratorType
from typing import Any, TypeAlias

from aiorest_ws.awaiting import Steps, is_awaitable, take
from aiorest_ws.log import logger

__all__ = ("Depends", "close_all", "provided")

Generator: TypeAlias = AsyncGeneratorType[Any, None]
Opened = Sequence[Generator]


class Depends:
    """Marks a parameter that `get(request)` makes, as in `Annotated[Session, Depends(get)]`.

    `get` returns the value, or is a coroutine, or an asynchronous generator that yields it once.
    The generator goes on when the reply has been sent. If the call fails or is cancelled, it gets
    the exception first.
    """

    __slots__ = ("get",)

    def __init__(self, get: Callable[[Any], Any]) -> None:
        if not callable(get):
            raise TypeError(f"Depends takes a function of the request, not {get!r}")
        if inspect.isgeneratorfunction(get):
            raise TypeError(f"{get.__qualname__} is a generator; Depends takes asynchronous ones")
        self.get = get

    def __repr__(self) -> str:
        return f"Depends({getattr(self.get, '__qualname__', self.get)})"


def provided(
    call: Callable[..., Any], dependencies: Mapping[str, Depends], place: int
) -> Callable[..., Any]:
    """Return `call` with its dependencies; the request is its positional argument at `place`."""

    @wraps(call)
    def with_dependencies(*values: Any, **arguments: Any) -> Any:
        return take(_call(call, dependencies, values[place], values, arguments))

    return with_dependencies


def _call(
    call: Callable[..., Any],
    dependencies: Mapping[str, Depends],
    request: Any,
    values: Sequence[Any],
    arguments: dict[str, Any],
) -> Steps[Any]:
    opened: list[Generator] = []
    try:
        for name, dependency in dependencies.items():
            made = dependency.get(request)
            if isinstance(made, AsyncGeneratorType):
                opened.append(made)
                made = _first(made)
            if is_awaitable(made):
                made = yield made
            arguments[name] = made
        answer = call(*values, **arguments)
        if is_awaitable(answer):
            answer = yield answer
    except GeneratorExit:
        raise
    except BaseException as exc:
        if opened:
            yield _fail_all(opened, exc)
        raise
    if not opened:
        return answer
    if hasattr(answer, "__aiter__") and not hasattr(answer, "__await__"):
        return _followed(answer, opened)
    if request.connection is None:  # nobody else would
        yield close_all(opened)
    else:
        request._opened = [*(request._opened or ()), *opened]
    return answer


async def _first(generator: Generator) -> Any:
    async for value in generator:
        return value
    raise RuntimeError(f"{generator.__qualname__} of Depends has yielded nothing")


async def _followed(items: AsyncIterator[Any], opened: Opened) -> AsyncIterator[Any]:
    """Yield the items of a stream, then close what its view depends on."""
    try:
        try:
            async for item in items:
                yield item
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()
    except BaseException as exc:
        await _fail_all(opened, exc)
        raise
    await close_all(opened)


async def close_all(opened: Opened) -> None:
    """Let each generator go on to its end, the last one first; log what they raise."""
    for generator in reversed(opened):
        try:
            await anext(generator, None)
            await generator.aclose()
        except BaseException as exc:  # noqa: BLE001  the others are closed all the same
            logger.error("%s could not be closed", generator.__qualname__, exc_info=exc)


async def _fail_all(opened: Opened, exc: BaseException) -> None:
    """Raise `exc` in each generator, the last one first; raise what they raise instead."""
    cause = exc
    for generator in reversed(opened):
        try:
            await generator.athrow(cause)
            await generator.aclose()
        except StopAsyncIteration:
            continue  # it has ended
        except BaseException as raised:  # noqa: BLE001  the others hear of it
            cause = raised
    if cause is not exc:
        raise cause
