"""What is published anywhere, as one process hears of it: by one blocking read of the bus."""

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

# What is read at once, and how long a read waits for something; then the bus is looked at.
ENTRIES = 100
BLOCK_MILLISECONDS = 1000


class Reader:
    """Reads the bus, and goes on where it was after a cut.

    Each entry has a nonce, so that one is not taken for another after a Redis has come back
    without its last data. Whoever finds that out lets all epochs begin anew.
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
        self._is_lost = False
        self._is_over = False

    async def join(self) -> None:
        """Find the end of the bus, or the place where this process was. Raises redis-py's errors.

        What cannot be gone on from is told to the receiver.
        """
        if self._is_lost or self._bus_id is None:
            for script in ALL:
                await self._client.script_load(script.text)
        bus_id, tail, nonce = await self._look()
        is_first, is_same = self._bus_id is None, bus_id == self._bus_id
        if is_first or not is_same:
            self._bus_id, self._number, self._nonce = bus_id, tail, nonce
        if not (is_first or is_same):
            self._receiver.resync()

    async def read(self) -> None:
        """Read until it is told to end, over all failures."""
        backoff = Backoff()
        while not self._is_over:
            try:
                if self._is_lost:
                    await self.join()
                    await self._when_back()
                    logger.info("topics: Redis is back, %r", self._url)
                    self._is_lost = False
                    backoff.reset()
                while not self._is_over:
                    await self._read_some()
            except Exception as exc:  # noqa: BLE001  it is to hear again whatever has happened
                if not isinstance(exc, self._errors):
                    logger.error("topics: the bus cannot be read", exc_info=exc)
                if not self._is_lost:
                    logger.warning("topics: Redis is lost, %r: %s", self._url, exc)
                self._is_lost = True
                with suppress(*self._errors):
                    await self._client.connection_pool.disconnect()
                await asyncio.sleep(backoff.next())

    def end(self) -> None:
        """End the reading, with what is read now at the latest."""
        # A cancellation may be lost inside of redis-py.
        self._is_over = True

    async def close(self) -> None:
        """Let the connection go."""
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
            *("XREAD", "COUNT", ENTRIES, "BLOCK", BLOCK_MILLISECONDS),
            *("STREAMS", self._keys.bus, f"{self._number}-0"),
        )
        if not found:
            await self.join()  # there may be nothing only where this process looks for it
            return
        for entry_id, fields in found[0][1]:
            number = int(entry_id.partition(b"-")[0])
            if number != self._number + 1:
                self._receiver.resync()  # it was away for longer than the bus goes back
            self._number, self._nonce = number, fields.get(b"nonce", b"")
            try:
                self._take(fields)
            except Exception as exc:  # noqa: BLE001  the others are to be heard all the same
                logger.error("topics: a message could not be handed on", exc_info=exc)

    def _take(self, fields: dict[bytes, bytes]) -> None:
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
    """Return the key that was given, which stands behind a sign; None for none."""
    return field[1:].decode() if field else None
