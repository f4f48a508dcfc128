"""Scripts on their way to Redis, in order: what waits goes in one write."""

import asyncio
import random
import secrets
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aiorest_ws.exceptions import TopicsUnavailable
from aiorest_ws.log import logger
from aiorest_ws.topics.redis.members import ALL
from aiorest_ws.topics.redis.scripts import PUBLISH, SETTLE, Keys, Script
from aiorest_ws.topics.redis.url import RedisURL

__all__ = ("Backoff", "Sender", "unavailable")

# What is sent at once, and what may wait.
BATCH = 256
WAITING = 10_000
WAITING_BYTES = 16 * 1024 * 1024

FIRST_DELAY = 0.1
LAST_DELAY = 5.0

# Errors that are not of one call: the server may be out of them soon, or another one be it.
_OF_THE_SERVER = (
    *("NOSCRIPT", "READONLY", "LOADING", "MASTERDOWN", "NOREPLICAS", "MISCONF"),
    *("OOM", "OUTOFMEMORY", "BUSY"),
)

# How late those who wait for a connection may be told that there is none.
EXPIRY_SECONDS = 0.1


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
    __slots__ = ("arguments", "done", "end", "is_sent", "nonce", "script", "size")

    def __init__(
        self,
        script: Script,
        arguments: Callable[[str], tuple[Any, ...]],
        done: asyncio.Future[Any],
        *,
        size: int = 0,
        end: float = 0.0,
    ) -> None:
        self.script = script
        self.arguments = arguments
        self.done = done
        self.size = size
        # A publication is tried until then, and looked for by its nonce before it is made again.
        self.end = end
        self.nonce = secrets.token_hex(8) if script is PUBLISH else ""
        self.is_sent = False


class Sender:
    """Sends scripts by one connection, in the order of the calls.

    While there is none, calls fail at once, but for publications that may wait: those keep their
    order, and none is made twice.
    """

    def __init__(self, url: RedisURL, keys: Keys, loop: asyncio.AbstractEventLoop) -> None:
        from redis.exceptions import NoScriptError, ReadOnlyError, RedisError

        self._errors = (RedisError, OSError, TimeoutError)
        self._no_script, self._read_only = NoScriptError, ReadOnlyError
        self._url = url
        self._keys = keys
        self._loop = loop
        self._client = url.client(is_async=True)
        self._calls: deque[_Call] = deque()
        self._bytes = 0
        self._sending: asyncio.Task[None] | None = None
        self._backoff = Backoff()
        self._next_attempt = 0.0
        self._resumed = asyncio.Event()

    async def call(self, script: Script, *arguments: Any, keys: int) -> Any:
        """Return what a script does, or raise TopicsUnavailable; it may have been done then."""
        return await self._enqueue(
            _Call(script, lambda _: (keys, *arguments), self._loop.create_future())
        )

    async def publish(
        self, arguments: Callable[[str], tuple[Any, ...]], *, size: int, wait_seconds: float
    ) -> Any:
        """Return where a message is, or raise TopicsUnavailable.

        `arguments` are those of PUBLISH, for a nonce.
        """
        end = self._loop.time() + wait_seconds if wait_seconds > 0 else 0.0
        done = self._loop.create_future()
        return await self._enqueue(_Call(PUBLISH, arguments, done, size=size, end=end))

    async def _enqueue(self, call: _Call) -> Any:
        now = self._loop.time()
        if now < self._next_attempt and call.end <= now:
            raise TopicsUnavailable
        if len(self._calls) >= WAITING or self._bytes + call.size > WAITING_BYTES:
            raise TopicsUnavailable("Too much waits to be published.")
        self._calls.append(call)
        self._bytes += call.size
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

    async def resume(self) -> None:
        """Try again at once: Redis is there."""
        await self.disconnect()
        self._next_attempt = 0.0
        self._backoff.reset()
        self._resumed.set()

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
            await asyncio.wait([sending], timeout=1)
        self._put_back([], TopicsUnavailable(), is_over=True)
        with suppress(*self._errors):
            await self._url.close_async(self._client)

    async def _send(self) -> None:
        batch: list[_Call] = []
        try:
            while self._calls:
                await self._pause()
                if not self._calls:
                    break
                batch = [self._calls.popleft() for _ in range(min(BATCH, len(self._calls)))]
                try:
                    await self._send_batch(batch)
                    self._backoff.reset()
                except Exception as exc:  # noqa: BLE001  whoever waits is to hear of it
                    if not isinstance(exc, self._errors):
                        logger.error("topics: Redis cannot be asked", exc_info=exc)
                    self._next_attempt = self._loop.time() + self._backoff.next()
                    await self.disconnect()
                    self._put_back(batch, unavailable(exc))
                batch = []
        finally:
            if batch:  # it was cancelled
                self._put_back(batch, TopicsUnavailable(), is_over=True)
            self._sending = None

    async def _pause(self) -> None:
        """Wait until it may be tried again; who cannot wait for so long is told."""
        while self._calls and (pause := self._next_attempt - self._loop.time()) > 0:
            self._resumed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(pause, EXPIRY_SECONDS)):
                    await self._resumed.wait()
            self._put_back([], TopicsUnavailable())

    async def _send_batch(self, batch: list[_Call]) -> None:
        sent = [call for call in batch if call.is_sent and not call.done.done()]
        if sent:
            await self._settle(sent)
        batch = [call for call in batch if not self._is_done(call)]
        refused = self._finish(batch, await self._execute(batch))
        unknown = [call for call, error in refused if isinstance(error, self._no_script)]
        if unknown:
            # A server that has been started again.
            await self.load()
            refused = [one for one in refused if not isinstance(one[1], self._no_script)]
            refused += self._finish(unknown, await self._execute(unknown))
        if any(isinstance(error, self._read_only) for _, error in refused):
            await self.disconnect()  # the name of the server may stand for another one now
        waiting = [error for call, error in refused if self._refuse(call, error)]
        if waiting:
            raise waiting[0]

    def _refuse(self, call: _Call, error: Exception) -> bool:
        """Tell whether a call that was refused is to be made again; all others are told why."""
        if isinstance(error, (self._no_script, self._read_only)):
            call.is_sent = False  # for certain; a script that fails later may have published
        words = f"{type(error).__name__} {error}".upper()
        is_servers = any(word in words for word in _OF_THE_SERVER)
        if not is_servers:
            logger.error("topics: Redis has refused a call: %s", error)
        if not is_servers or call.end <= self._loop.time():
            self._end(call, unavailable(error))
        return not call.done.done()

    async def _settle(self, calls: list[_Call]) -> None:
        """Find out which of them have been made, and see that the others are not, after all."""
        found = await self._client.eval(
            *(SETTLE.text, 1, self._keys.bus, self._keys.prefix),
            *(call.nonce for call in calls),
        )
        for call, position in zip(calls, found, strict=True):
            call.is_sent = False
            if position:
                self._end(call, position)
            else:
                call.nonce = secrets.token_hex(8)

    async def _execute(self, calls: list[_Call]) -> list[Any]:
        if not calls:
            return []
        pipeline = self._client.pipeline(transaction=False)
        for call in calls:
            call.is_sent = call.script is PUBLISH
            pipeline.execute_command("EVALSHA", call.script.sha, *call.arguments(call.nonce))
        return list(await pipeline.execute(raise_on_error=False))

    def _finish(self, calls: list[_Call], results: list[Any]) -> list[tuple[_Call, Exception]]:
        """Hand over what has come; return what was refused."""
        refused = []
        for call, result in zip(calls, results, strict=True):
            if isinstance(result, Exception):
                refused.append((call, result))
            else:
                self._end(call, result)
        return refused

    def _is_done(self, call: _Call) -> bool:
        """Tell whether nobody waits for it any more."""
        if call.done.done() and call.size:
            self._bytes -= call.size
            call.size = 0
        return call.done.done()

    def _end(self, call: _Call, result: Any) -> None:
        if not call.done.done():
            if isinstance(result, Exception):
                call.done.set_exception(result)
            else:
                call.done.set_result(result)
        self._is_done(call)

    def _put_back(
        self, calls: list[_Call], exc: TopicsUnavailable, *, is_over: bool = False
    ) -> None:
        """Put calls before those that wait; end all of them that cannot wait any more."""
        waiting, self._calls = [*calls, *self._calls], deque()
        now = self._loop.time()
        for call in waiting:
            if call.end <= now or is_over:
                self._end(call, exc)
            if not self._is_done(call):
                self._calls.append(call)


def unavailable(exc: BaseException) -> TopicsUnavailable:
    """Return the error for what a client of Redis has raised."""
    error = TopicsUnavailable()
    error.__cause__ = exc
    return error
