"""A broker on Redis, for topics that several processes share.

Redis is one server, or the master of sentinels. Each process reads all published messages by one
connection, and keeps those of topics with subscribers. The keys are described in `scripts.py`.
"""

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from math import ceil
from typing import Any

from aiorest_ws.codecs import encode_json
from aiorest_ws.exceptions import ImproperlyConfigured, TopicsUnavailable
from aiorest_ws.internals.twisted_private import loop_of
from aiorest_ws.log import logger
from aiorest_ws.topics.broker import Broker, Message, Position, Receiver, Replay, Retention
from aiorest_ws.topics.redis.members import ENTER, ENTERED, LEAVE, MEMBERS, RENEW, Lease
from aiorest_ws.topics.redis.reader import Reader, key_of
from aiorest_ws.topics.redis.scripts import ADMIT, LOOK, REPLAY, Keys
from aiorest_ws.topics.redis.sender import Sender, unavailable
from aiorest_ws.topics.redis.server import NO_CLUSTER, is_refused_by_cluster
from aiorest_ws.topics.redis.url import RedisURL

__all__ = ("RedisBroker", "publish_arguments")

# How long a topic keeps its epoch after its history has expired, and how often that is extended
# for topics with subscribers.
META_MILLISECONDS = 3600 * 1000
EXTEND_SECONDS = 600

# A process that does not renew its lease for so long is dead.
LEASE_SECONDS = 15.0

START_SECONDS = 10


class RedisBroker(Broker):
    """Stores topics in Redis.

    The subscribers of a process that was killed are removed after `lease_seconds`. Raises
    ImproperlyConfigured on another reactor than asyncio's.
    """

    is_shared = True

    def __init__(self, url: str, reactor: Any, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self._url = RedisURL(url)
        loop = loop_of(reactor)
        if loop is None:
            raise ImproperlyConfigured(
                f"Topics on Redis need the asyncio reactor, this is {type(reactor).__name__}."
            )
        self._loop = loop
        self._keys = Keys(self._url.prefix)
        self._lease_seconds = lease_seconds
        self._process = secrets.token_hex(8)
        self._sender: Sender | None = None
        self._reader: Reader | None = None
        self._tasks: list[asyncio.Task[None]] = []
        # What is sent again to a Redis that has lost its data.
        self._followed: set[str] = set()
        self._patterns: dict[str, str] = {}
        self._is_back = asyncio.Event()
        self._members: dict[tuple[str, str], tuple[bytes, bool]] = {}
        # Since when the lease is valid, and whether others were told that this process is dead.
        self._valid_since: float | None = None
        self._is_removed = False

    def __repr__(self) -> str:
        return f"<RedisBroker {self._url!r}>"

    async def start(self, receiver: Receiver) -> None:
        """Deliver messages to `receiver`.

        Raises TopicsUnavailable if Redis cannot be reached, ImproperlyConfigured for a Redis
        Cluster and for a version that is too old.
        """
        sender = Sender(self._url, self._keys, self._loop)
        reader = Reader(self._url, self._keys, receiver, self._when_back)
        try:
            async with asyncio.timeout(START_SECONDS):
                await sender.check_server()
                await sender.load()
                await reader.join()
        except BaseException as exc:
            await sender.close()
            await reader.close()
            if is_refused_by_cluster(exc):
                raise ImproperlyConfigured(NO_CLUSTER) from None
            if not isinstance(exc, Exception) or isinstance(exc, ImproperlyConfigured):
                raise
            error = unavailable(exc)
            error.detail = f"Redis cannot be reached, {self._url!r}: {exc or type(exc).__name__}"
            error.args = (error.detail,)
            raise error from None
        self._sender, self._reader = sender, reader
        self._tasks = [
            self._loop.create_task(reader.read()),
            self._loop.create_task(self._stay_alive()),
        ]

    async def stop(self) -> None:
        """Stop delivering; close connections, and remove the members of this process."""
        if self._reader is not None:
            self._reader.end()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        sender, self._sender = self._sender, None
        reader, self._reader = self._reader, None
        if sender is not None:
            try:
                await self._renew(sender, 0)
            except TopicsUnavailable:
                logger.info(
                    "topics: Redis cannot be reached: the lease of this process will expire"
                )
            await sender.close()
        if reader is not None:
            await reader.close()

    # Messages

    async def publish(
        self,
        topic: str,
        data: bytes,
        *,
        key: str | None,
        retention: Retention,
        wait_seconds: float,
    ) -> Position:
        """Give a message its offset, store and deliver it; never twice."""
        if self._sender is None:
            raise TopicsUnavailable
        arguments = partial(
            publish_arguments, self._keys, topic, data, key=key, retention=retention
        )
        epoch, offset = await self._sender.publish(
            lambda nonce: (5, *arguments(nonce=nonce)), size=len(data), wait_seconds=wait_seconds
        )
        return Position(epoch.decode(), offset)

    async def head(self, topic: str) -> Position:
        """Return the position of the last message."""
        epoch, offset = await self._call(
            *(LOOK, self._keys.meta(topic), self._keys.bus, self._keys.bus_meta),
            *(secrets.token_hex(8), META_MILLISECONDS),
            keys=3,
        )
        return Position(epoch.decode(), offset)

    async def replay(self, topic: str, after: Position, *, messages: int, size: int) -> Replay:
        """Return messages after `after`."""
        found_epoch, offset, found = await self._call(
            *(REPLAY, self._keys.stream(topic), self._keys.meta(topic)),
            *(self._keys.bus, self._keys.bus_meta),
            *(secrets.token_hex(8), META_MILLISECONDS, after.epoch, after.offset, messages, size),
            keys=4,
        )
        epoch = found_epoch.decode()
        return Replay(
            Position(epoch, offset),
            [
                Message(topic, epoch, int(entry.partition(b"-")[0]), data, key_of(key))
                for entry, data, key in found
            ],
        )

    def follow(self, topic: str, retention: Retention) -> None:  # noqa: ARG002  publishers have it
        """Keep the epoch of a topic until `unfollow`."""
        self._followed.add(topic)

    def unfollow(self, topic: str) -> None:
        """Release a topic without subscribers in this process."""
        self._followed.discard(topic)

    async def declare(self, patterns: Mapping[str, Retention]) -> None:
        """Tell publishers in other processes which topics are registered here."""
        self._patterns = {
            pattern: encode_json([order, one.messages, one.bytes, one.seconds]).decode()
            for order, (pattern, one) in enumerate(patterns.items())
        }
        await self._declare()

    # Members

    async def enter(self, topic: str, member: str, info: bytes, *, is_announced: bool) -> None:
        """Add a subscriber of this process."""
        self._members[topic, member] = (info, is_announced)
        try:
            await self._enter(topic, member)
        except TopicsUnavailable:
            self._members.pop((topic, member), None)
            raise

    async def leave(self, topic: str, member: str) -> None:
        """Remove a subscriber of this process."""
        if self._members.pop((topic, member), None) is not None:
            with suppress(TopicsUnavailable):  # it is removed when the lease is renewed
                await self._leave(topic, member)

    async def members(self, topic: str) -> dict[str, bytes]:
        """Return the subscribers of a topic in all living processes, with their `info`."""
        found = await self._call(MEMBERS, self._keys.members(topic), self._keys.processes, keys=2)
        return dict(zip([one.decode() for one in found[::2]], found[1::2], strict=True))

    async def admit(self, key: str, per_second: float) -> bool:
        """Take one from the allowance of `key`, which all processes share."""
        most = max(1, ceil(per_second))
        return bool(await self._call(ADMIT, self._keys.rate(key), per_second, most, keys=1))

    # Redis

    async def _call(self, *arguments: Any, keys: int) -> Any:
        if self._sender is None:
            raise TopicsUnavailable
        return await self._sender.call(*arguments, keys=keys)

    async def _enter(self, topic: str, member: str, *, is_new: bool = True) -> None:
        info, is_announced = self._members[topic, member]
        await self._call(
            *(ENTER, self._keys.members(topic), self._keys.process(self._process)),
            *(self._keys.bus, self._keys.bus_meta),
            *(self._keys.stream(topic), self._keys.meta(topic)),
            *(self._process, member, info, int(is_announced), topic),
            *(secrets.token_hex(8), secrets.token_hex(8), int(is_new), META_MILLISECONDS),
            keys=6,
        )

    async def _leave(self, topic: str, member: str) -> None:
        await self._call(
            *(LEAVE, self._keys.members(topic), self._keys.process(self._process)),
            *(self._keys.bus, self._keys.bus_meta, self._keys.meta(topic)),
            *(self._process, member, topic, secrets.token_hex(8), secrets.token_hex(8)),
            keys=5,
        )

    async def _when_back(self) -> None:
        if self._sender is not None:
            await self._sender.resume()
        self._is_back.set()
        with suppress(TopicsUnavailable):
            await self._declare()

    async def _declare(self) -> None:
        if self._patterns and self._sender is not None:
            await self._sender.set_fields(self._keys.patterns, self._patterns)

    async def _stay_alive(self) -> None:
        """Renew the lease, and the epochs of followed topics, until it is cancelled."""
        extended = self._loop.time()
        while True:
            try:
                await self._renew_lease()
                if self._loop.time() - extended > EXTEND_SECONDS:
                    extended = self._loop.time()
                    for topic in list(self._followed):
                        await self.head(topic)
            except TopicsUnavailable:
                pass  # the reader logs it and retries
            self._is_back.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._lease_seconds / 3):
                    await self._is_back.wait()

    async def _renew_lease(self) -> None:
        if self._sender is None:
            return
        now = self._loop.time()
        # After an outage all leases have expired: living processes need time to renew theirs.
        may_remove = (
            self._valid_since is not None and now - self._valid_since > self._lease_seconds
        )
        try:
            expected = len(self._members)
            state, entered = await self._renew(
                self._sender, self._lease_seconds, may_remove=may_remove
            )
            if state != Lease.VALID or self._valid_since is None:
                self._valid_since = now
            self._is_removed = self._is_removed or state == Lease.REMOVED
            if entered != expected or state in (Lease.REMOVED, Lease.UNKNOWN):
                await self._reconcile()
            self._is_removed = False
        except TopicsUnavailable:
            self._valid_since = None  # it is retried

    async def _reconcile(self) -> None:
        """Correct the members of this process in Redis: it has lost data, or a call was lost."""
        # Calls are made in order: what comes after this one is not in its result.
        expected = set(self._members)
        found = await self._call(ENTERED, self._keys.process(self._process), keys=1)
        entered = {tuple(one.decode().split(" ", 1)) for one in found}
        for topic, member in entered - expected:
            await self._leave(topic, member)
        for topic, member in expected - entered:
            if (topic, member) in self._members:
                await self._enter(topic, member, is_new=self._is_removed)

    async def _renew(
        self, sender: Sender, seconds: float, *, may_remove: bool = False
    ) -> tuple[int, int]:
        state, entered = await sender.call(
            *(RENEW, self._keys.processes, self._keys.bus, self._keys.bus_meta),
            *(self._keys.prefix, self._process, ceil(seconds * 1000)),
            *(secrets.token_hex(8), secrets.token_hex(8), int(may_remove)),
            keys=3,
        )
        return state, entered


def publish_arguments(
    keys: Keys, topic: str, data: bytes, *, key: str | None, retention: Retention, nonce: str
) -> tuple[Any, ...]:
    """Return the 5 keys and the arguments of PUBLISH."""
    lifetime = max(1, ceil(retention.seconds * 1000))
    return (
        *(keys.stream(topic), keys.meta(topic), keys.bus, keys.bus_meta, keys.void(nonce)),
        *(topic, data, "" if key is None else f"={key}", nonce),
        *(retention.messages, retention.bytes, lifetime, lifetime + META_MILLISECONDS),
        secrets.token_hex(8),
    )
