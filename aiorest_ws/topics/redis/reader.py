"""Reading the bus: all published messages, joins and leaves, by one blocking read."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiorest_ws.log import logger
from aiorest_ws.topics.broker import Message, Receiver
from aiorest_ws.topics.redis.members import ALL
from aiorest_ws.topics.redis.scripts import JOIN, Keys
from aiorest_ws.topics.redis.sender import Backoff
from aiorest_ws.topics.redis.url import RedisURL

__all__ = ("Reader", "key_of")

# How many entries are read at once, and how long a read blocks before the bus is checked.
MAX_ENTRIES = 100
BLOCK_MILLISECONDS = 1000


class Reader:
    """Reads the bus, and resumes after the connection was lost.

    Each entry has a nonce, by which a reader finds out that Redis has restarted without its last
    data. It then starts new epochs of all topics.
    """

    def __init__(
        self,
        url: RedisURL,
        keys: Keys,
        receiver: Receiver,
        when_back: Callable[[], Awaitable[None]],
    ) -> None:
        from redis.exceptions import RedisError

        self._errors = (RedisError, OSError, TimeoutError)
        self._client = url.client(is_async=True)
        self._url = url
        self._keys = keys
        self._receiver = receiver
        self._when_back = when_back
        self._bus_id: bytes | None = None
        self._number = 0
        self._nonce = b""
        self._is_disconnected = False
        self._is_ended = False

    async def join(self) -> None:
        """Find the end of the bus, or the last place of this reader.

        Resyncs the receiver if it cannot resume. Raises redis-py's errors.
        """
        if self._is_disconnected or self._bus_id is None:
            for script in ALL:
                await self._client.script_load(script.text)
        bus_id, tail, nonce = await self._look()
        is_first, is_same = self._bus_id is None, bus_id == self._bus_id
        if is_first or not is_same:
            self._bus_id, self._number, self._nonce = bus_id, tail, nonce
        if not (is_first or is_same):
            self._receiver.resync()

    async def read(self) -> None:
        """Read until `end` is called, through all failures."""
        backoff = Backoff()
        while not self._is_ended:
            try:
                if self._is_disconnected:
                    await self.join()
                    await self._when_back()
                    logger.info("topics: Redis is back, %r", self._url)
                    self._is_disconnected = False
                    backoff.reset()
                while not self._is_ended:
                    await self._read_some()
            except Exception as exc:  # noqa: BLE001  it retries after any error
                if not isinstance(exc, self._errors):
                    logger.error("topics: the bus cannot be read", exc_info=exc)
                if not self._is_disconnected:
                    logger.warning("topics: Redis is lost, %r: %s", self._url, exc)
                self._is_disconnected = True
                with suppress(*self._errors):
                    await self._client.connection_pool.disconnect()
                await asyncio.sleep(backoff.next())

    def end(self) -> None:
        """End after the current read at the latest."""
        # redis-py may swallow a cancellation.
        self._is_ended = True

    async def close(self) -> None:
        """Close the connection."""
        with suppress(*self._errors):
            await self._url.close_async(self._client)

    async def _look(self) -> tuple[bytes, int, bytes]:
        found = await self._client.evalsha(
            *(JOIN.sha, 2, self._keys.bus, self._keys.bus_meta, secrets.token_hex(8)),
            *(self._bus_id or b"", self._number, self._nonce),
        )
        return tuple(found)

    async def _read_some(self) -> None:
        found = await self._client.execute_command(
            *("XREAD", "COUNT", MAX_ENTRIES, "BLOCK", BLOCK_MILLISECONDS),
            *("STREAMS", self._keys.bus, f"{self._number}-0"),
        )
        if not found:
            await self.join()  # the bus may have started anew
            return
        for entry_id, fields in found[0][1]:
            number = int(entry_id.partition(b"-")[0])
            if number != self._number + 1:
                self._receiver.resync()  # entries have been dropped from the bus meanwhile
            self._number, self._nonce = number, fields.get(b"nonce", b"")
            try:
                self._deliver(fields)
            except Exception as exc:  # noqa: BLE001  the other messages are still delivered
                logger.error("topics: a message could not be delivered", exc_info=exc)

    def _deliver(self, fields: dict[bytes, bytes]) -> None:
        kind, topic = fields[b"kind"], fields[b"topic"].decode()
        if kind == b"message":
            epoch, offset = fields[b"epoch"].decode(), int(fields[b"offset"])
            key = key_of(fields[b"key"])
            self._receiver.deliver(Message(topic, epoch, offset, fields[b"data"], key))
        elif kind == b"join":
            self._receiver.joined(topic, fields[b"key"].decode(), fields[b"data"])
        elif kind == b"leave":
            self._receiver.left(topic, fields[b"key"].decode())


def key_of(field: bytes) -> str | None:
    """Return the key of a message, which has a sign before it; None for an empty field."""
    return field[1:].decode() if field else None
