"""Scripts on their way to Redis, in order: what waits goes in one write."""

import asyncio
import random
from collections import deque
from contextlib import suppress
from typing import Any

from aiorest_ws.exceptions import TopicsUnavailable
from aiorest_ws.log import logger
from aiorest_ws.topics._redis_scripts import ALL, Script
from aiorest_ws.topics._redis_url import RedisURL

__all__ = ("Backoff", "Sender", "unavailable")

# What is sent at once, and what may wait.
BATCH = 256
WAITING = 10_000
WAITING_BYTES = 16 * 1024 * 1024

FIRST_DELAY = 0.1
LAST_DELAY = 5.0


class Backoff:
    """The pauses between attempts: longer each time, and not the same in all processes."""

    def __init__(self) -> None:
        self._delay = FIRST_DELAY

    def next(self) -> float:
        """Return how long to wait, in seconds."""
        delay = self._delay
        self._delay = min(2 * delay, LAST_DELAY)
        return delay * random.uniform(0.5, 1)  # noqa: S311  no secret

    def reset(self) -> None:
        """Begin again: it has worked."""
        self._delay = FIRST_DELAY


class _Call:
    __slots__ = ("arguments", "done", "script", "size")

    def __init__(
        self, script: Script, arguments: tuple[Any, ...], size: int, done: asyncio.Future[Any]
    ) -> None:
        self.script = script
        self.arguments = arguments
        self.size = size
        self.done = done


class Sender:
    """Sends scripts by one connection. While there is none, calls fail at once."""

    def __init__(self, url: RedisURL, loop: asyncio.AbstractEventLoop) -> None:
        from redis.exceptions import NoScriptError, RedisError

        self._errors = (RedisError, OSError, TimeoutError)
        self._no_script = NoScriptError
        self._loop = loop
        self._client = url.client(is_async=True)
        self._calls: deque[_Call] = deque()
        self._bytes = 0
        self._sending: asyncio.Task[None] | None = None
        self._backoff = Backoff()
        self._next_attempt = 0.0

    async def call(self, script: Script, *arguments: Any, keys: int, size: int = 0) -> Any:
        """Return what a script does, or raise TopicsUnavailable; it may have been done then."""
        if self._loop.time() < self._next_attempt:
            raise TopicsUnavailable
        if len(self._calls) >= WAITING or self._bytes + size > WAITING_BYTES:
            raise TopicsUnavailable("Too much waits to be published.")
        call = _Call(script, (script.sha, keys, *arguments), size, self._loop.create_future())
        self._calls.append(call)
        self._bytes += size
        if self._sending is None:
            self._sending = self._loop.create_task(self._send())
        return await call.done

    async def load(self) -> None:
        """Connect, and let Redis know the scripts. Raises redis-py's errors and OSError."""
        for script in ALL:
            await self._client.script_load(script.text)

    async def disconnect(self) -> None:
        """Drop the connection: it leads nowhere. The next call makes another one."""
        with suppress(*self._errors):
            await self._client.connection_pool.disconnect()

    async def set_fields(self, key: str, fields: dict[str, str]) -> None:
        """Set fields of a hash; raise TopicsUnavailable."""
        try:
            await self._client.hset(key, mapping=fields)
        except self._errors as exc:
            raise unavailable(exc) from exc

    async def close(self) -> None:
        """Send nothing more."""
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.cancel()
        self._fail(list(self._calls), TopicsUnavailable())
        self._calls.clear()
        with suppress(*self._errors):
            await self._client.aclose()

    async def _send(self) -> None:
        try:
            while self._calls:
                batch = [self._calls.popleft() for _ in range(min(BATCH, len(self._calls)))]
                try:
                    await self._send_batch(batch)
                    self._backoff.reset()
                except Exception as exc:  # noqa: BLE001  whoever waits is to hear of it
                    if not isinstance(exc, self._errors):
                        logger.error("topics: Redis cannot be asked", exc_info=exc)
                    self._next_attempt = self._loop.time() + self._backoff.next()
                    await self.disconnect()
                    waiting, self._calls = [*batch, *self._calls], deque()
                    self._fail(waiting, unavailable(exc))
        finally:
            self._sending = None

    async def _send_batch(self, batch: list[_Call]) -> None:
        unknown = self._finish(batch, await self._execute(batch))
        if unknown:
            # A server that has been started again.
            await self.load()
            self._finish(unknown, await self._execute(unknown), is_last=True)

    async def _execute(self, calls: list[_Call]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for call in calls:
            pipeline.execute_command("EVALSHA", *call.arguments)
        return list(await pipeline.execute(raise_on_error=False))

    def _finish(
        self, calls: list[_Call], results: list[Any], *, is_last: bool = False
    ) -> list[_Call]:
        """Hand over what has come; return the calls whose scripts are not known there."""
        unknown = []
        for call, result in zip(calls, results, strict=True):
            if isinstance(result, self._no_script) and not is_last:
                unknown.append(call)
                continue
            self._bytes -= call.size
            if call.done.done():
                continue  # nobody waits for it any more
            if isinstance(result, Exception):
                call.done.set_exception(unavailable(result))
            else:
                call.done.set_result(result)
        return unknown

    def _fail(self, calls: list[_Call], exc: TopicsUnavailable) -> None:
        for call in calls:
            if not call.done.done():
                call.done.set_exception(exc)
        self._bytes = 0


def unavailable(exc: BaseException) -> TopicsUnavailable:
    """Return the error for what a client of Redis has raised."""
    error = TopicsUnavailable()
    error.__cause__ = exc
    return error
