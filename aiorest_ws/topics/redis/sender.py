"""Sending scripts to Redis, in order and in batches."""

import asyncio
import random
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from aiorest_ws.exceptions import TopicsUnavailable
from aiorest_ws.log import logger
from aiorest_ws.topics.redis.members import ALL
from aiorest_ws.topics.redis.scripts import PUBLISH, SETTLE, Keys, Script
from aiorest_ws.topics.redis.server import check_server
from aiorest_ws.topics.redis.url import RedisURL

__all__ = ("Backoff", "Sender", "unavailable")

# How many calls are sent at once, and how many calls and bytes may wait.
BATCH_SIZE = 256
MAX_WAITING = 10_000
MAX_WAITING_BYTES = 16 * 1024 * 1024

MIN_DELAY_SECONDS = 0.1
MAX_DELAY_SECONDS = 5.0

# Errors of the server, not of a call: they may end, or another server may take over.
_SERVER_ERRORS = (
    *("NOSCRIPT", "READONLY", "LOADING", "MASTERDOWN", "NOREPLICAS", "MISCONF"),
    *("OOM", "OUTOFMEMORY", "BUSY"),
)

# How often the calls that wait for a connection are checked for their timeouts.
EXPIRY_SECONDS = 0.1


class Backoff:
    """Pauses between attempts: they double up to a maximum, with jitter."""

    def __init__(self) -> None:
        self._delay = MIN_DELAY_SECONDS

    def next(self) -> float:
        """Return the next pause in seconds."""
        delay = self._delay
        self._delay = min(2 * delay, MAX_DELAY_SECONDS)
        return delay * random.uniform(0.5, 1)  # noqa: S311  not a secret

    def reset(self) -> None:
        """Start again with the shortest pause, after a success."""
        self._delay = MIN_DELAY_SECONDS


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
        # A publication is retried until `end`, after it was looked for by its nonce.
        self.end = end
        self.nonce = secrets.token_hex(8) if script is PUBLISH else ""
        self.is_sent = False


class Sender:
    """Sends scripts by one connection, in the order of the calls.

    While Redis cannot be reached, calls fail at once, except publications that may wait: those
    keep their order, and none is made twice.
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
        """Return the result of a script; raise TopicsUnavailable, even if it may have run."""
        return await self._enqueue(
            _Call(script, lambda _: (keys, *arguments), self._loop.create_future())
        )

    async def publish(
        self, arguments: Callable[[str], tuple[Any, ...]], *, size: int, wait_seconds: float
    ) -> Any:
        """Return the position of a message; raise TopicsUnavailable.

        `arguments(nonce)` returns the arguments of PUBLISH.
        """
        end = self._loop.time() + wait_seconds if wait_seconds > 0 else 0.0
        done = self._loop.create_future()
        return await self._enqueue(_Call(PUBLISH, arguments, done, size=size, end=end))

    async def _enqueue(self, call: _Call) -> Any:
        now = self._loop.time()
        if now < self._next_attempt and call.end <= now:
            raise TopicsUnavailable
        if len(self._calls) >= MAX_WAITING or self._bytes + call.size > MAX_WAITING_BYTES:
            raise TopicsUnavailable("Too much waits to be published.")
        self._calls.append(call)
        self._bytes += call.size
        if self._sending is None:
            self._sending = self._loop.create_task(self._send())
        return await call.done

    async def check_server(self) -> None:
        """Raise ImproperlyConfigured for a server that topics cannot be on.

        Raises redis-py's errors and OSError.
        """
        from redis.exceptions import NoPermissionError

        try:
            sections = [await self._client.info(section) for section in ("server", "memory")]
        except NoPermissionError:
            logger.info("topics: Redis is not checked, because its user has no right to INFO")
            return
        check_server({**sections[0], **sections[1]})

    async def load(self) -> None:
        """Connect and load the scripts. Raises redis-py's errors and OSError."""
        for script in ALL:
            await self._client.script_load(script.text)

    async def disconnect(self) -> None:
        """Drop the connection; the next call opens another one."""
        with suppress(*self._errors):
            await self._client.connection_pool.disconnect()

    async def resume(self) -> None:
        """Retry at once: Redis can be reached again."""
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
        """Fail all waiting calls, and close the connection."""
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.cancel()
            await asyncio.wait([sending], timeout=1)
        self._put_back([], TopicsUnavailable(), is_final=True)
        with suppress(*self._errors):
            await self._url.close_async(self._client)

    async def _send(self) -> None:
        batch: list[_Call] = []
        try:
            while self._calls:
                await self._pause()
                if not self._calls:
                    break
                batch = [self._calls.popleft() for _ in range(min(BATCH_SIZE, len(self._calls)))]
                try:
                    await self._send_batch(batch)
                    self._backoff.reset()
                except Exception as exc:  # noqa: BLE001  the calls that wait get it
                    if not isinstance(exc, self._errors):
                        logger.error("topics: Redis cannot be asked", exc_info=exc)
                    self._next_attempt = self._loop.time() + self._backoff.next()
                    await self.disconnect()
                    self._put_back(batch, unavailable(exc))
                batch = []
        finally:
            if batch:  # it was cancelled
                self._put_back(batch, TopicsUnavailable(), is_final=True)
            self._sending = None

    async def _pause(self) -> None:
        """Wait for the next attempt; fail the calls that cannot wait for so long."""
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
            # The server has been restarted.
            await self.load()
            refused = [one for one in refused if not isinstance(one[1], self._no_script)]
            refused += self._finish(unknown, await self._execute(unknown))
        if any(isinstance(error, self._read_only) for _, error in refused):
            await self.disconnect()  # the name may resolve to another server now
        waiting = [error for call, error in refused if self._refuse(call, error)]
        if waiting:
            raise waiting[0]

    def _refuse(self, call: _Call, error: Exception) -> bool:
        """Tell whether a refused call is to be repeated; fail it if not."""
        if isinstance(error, (self._no_script, self._read_only)):
            call.is_sent = False  # of other errors one cannot know: a script may fail late
        words = f"{type(error).__name__} {error}".upper()
        is_server_error = any(word in words for word in _SERVER_ERRORS)
        if not is_server_error:
            logger.error("topics: Redis has refused a call: %s", error)
        if not is_server_error or call.end <= self._loop.time():
            self._end(call, unavailable(error))
        return not call.done.done()

    async def _settle(self, calls: list[_Call]) -> None:
        """Find out which publications were made, and prevent the others from being made later."""
        with _lost_while_connecting():
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
        with _lost_while_connecting():
            return list(await pipeline.execute(raise_on_error=False))

    def _finish(self, calls: list[_Call], results: list[Any]) -> list[tuple[_Call, Exception]]:
        """Pass on the results; return the calls that were refused."""
        refused = []
        for call, result in zip(calls, results, strict=True):
            if isinstance(result, Exception):
                refused.append((call, result))
            else:
                self._end(call, result)
        return refused

    def _is_done(self, call: _Call) -> bool:
        """Tell whether a call has ended, and stop counting its bytes."""
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
        self, calls: list[_Call], exc: TopicsUnavailable, *, is_final: bool = False
    ) -> None:
        """Put calls before those that wait; fail all calls that cannot wait any longer."""
        waiting, self._calls = [*calls, *self._calls], deque()
        now = self._loop.time()
        for call in waiting:
            if call.end <= now or is_final:
                self._end(call, exc)
            if not self._is_done(call):
                self._calls.append(call)


def unavailable(exc: BaseException) -> TopicsUnavailable:
    """Return a TopicsUnavailable for an exception of redis-py."""
    error = TopicsUnavailable()
    error.__cause__ = exc
    return error


@contextmanager
def _lost_while_connecting() -> Iterator[None]:
    """Raise ConnectionResetError where redis-py 8.1 raises AttributeError.

    It does so when the server closes a connection that is being made.
    """
    try:
        yield
    except AttributeError as exc:
        raise ConnectionResetError("Redis closed the connection while it was made.") from exc
