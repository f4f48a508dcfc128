"""Publishing from other Python processes, such as task workers and scripts."""

import secrets
import threading
import time
from types import TracebackType
from typing import Any, Self

from aiorest_ws.codecs import load_json
from aiorest_ws.exceptions import (
    ImproperlyConfigured,
    TopicsUnavailable,
    UnknownTopic,
)
from aiorest_ws.limits import Limits
from aiorest_ws.topics.broker import Position, Retention
from aiorest_ws.topics.encoding import encode_publication
from aiorest_ws.topics.names import Pattern, check_name
from aiorest_ws.topics.redis.broker import publish_arguments
from aiorest_ws.topics.redis.scripts import PUBLISH, SETTLE, Keys, Script
from aiorest_ws.topics.redis.sender import Backoff, unavailable
from aiorest_ws.topics.redis.server import NO_CLUSTER, is_refused_by_cluster
from aiorest_ws.topics.redis.url import RedisURL
from aiorest_ws.topics.urls import REDIS_SCHEMES, is_memory
from aiorest_ws.validators import check_encoder
from aiorest_ws.values import Converter

__all__ = ("Publisher", "connect")

# The default of `history` in SimpleRouter.register_topic.
DEFAULT_HISTORY = 256

# How long the registered topics of the servers are cached.
PATTERNS_SECONDS = 30


def connect(url: str, *, encoder: Converter | None = None) -> "Publisher":
    """Return a publisher for the Redis URL that servers have as their `topics`.

    `encoder` converts values, as that of an Application does. Connects when it publishes. Raises
    ImproperlyConfigured for an invalid URL.
    """
    if is_memory(url):
        raise ImproperlyConfigured(
            "Topics on memory belong to one process: publish in that process, or use Redis."
        )
    if url.partition("://")[0] not in REDIS_SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in REDIS_SCHEMES)
        raise ImproperlyConfigured(f"The URL must begin with one of {known}.")
    return Publisher(RedisURL(url), encoder=encoder)


class Publisher:
    """Publishes, and blocks until that is done. Threads may share one; `with` closes it."""

    def __init__(self, url: RedisURL, *, encoder: Converter | None = None) -> None:
        from redis.exceptions import RedisError

        self._errors = (RedisError, OSError)
        self._encoder = check_encoder(encoder)
        self._url = url
        self._keys = Keys(url.prefix)
        self._client = url.client(is_async=False)
        self._lock = threading.Lock()
        self._patterns: list[tuple[Pattern, Retention]] = []
        self._patterns_read: float | None = None

    def __repr__(self) -> str:
        return f"<Publisher {self._url!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._url.close(self._client)

    def publish(
        self, topic: str, data: Any, *, key: str | None = None, wait_seconds: float = 0.0
    ) -> Position:
        """Send `data` to all subscribers of a topic, of all servers; return its position.

        Retries for `wait_seconds` while Redis cannot be reached, without publishing twice. Raises
        UnknownTopic if no server has registered it, and some have registered others; ValueError
        for an invalid name, SerializerError, ReplyTooLarge, TopicsUnavailable;
        ImproperlyConfigured for a Redis Cluster.
        """
        check_name(topic)
        encoded = encode_publication(topic, data, Limits(), self._encoder)
        end = time.monotonic() + wait_seconds
        backoff = Backoff()
        sent = ""
        while True:
            try:
                if sent:
                    (made,) = self._run(SETTLE, 1, self._keys.bus, self._keys.prefix, sent)
                    if made:
                        return Position(made[0].decode(), made[1])
                retention = self._retention(topic)
                sent = secrets.token_hex(8)
                epoch, offset = self._run(
                    PUBLISH,
                    5,
                    *publish_arguments(
                        self._keys, topic, encoded, key=key, retention=retention, nonce=sent
                    ),
                )
                return Position(epoch.decode(), offset)
            except TopicsUnavailable:
                pause = backoff.next()
                if time.monotonic() + pause > end:
                    raise
            time.sleep(pause)

    def _run(self, script: Script, keys: int, *arguments: Any) -> Any:
        from redis.exceptions import NoScriptError

        try:
            try:
                return self._client.evalsha(script.sha, keys, *arguments)
            except NoScriptError:
                return self._client.eval(script.text, keys, *arguments)
        except self._errors as exc:
            raise _told(exc) from exc

    def _retention(self, topic: str) -> Retention:
        found = self._find(topic)
        if found is None:
            self._read_patterns()
            found = self._find(topic)
        if found is not None:
            return found
        if self._patterns:
            raise UnknownTopic(f"no registered topic matches {topic!r}")
        limits = Limits()
        return Retention(DEFAULT_HISTORY, limits.history_bytes, limits.history_seconds)

    def _find(self, topic: str) -> Retention | None:
        now = time.monotonic()
        if self._patterns_read is None or now - self._patterns_read > PATTERNS_SECONDS:
            self._read_patterns()
        for pattern, retention in self._patterns:
            if pattern.match(topic) is not None:
                return retention
        return None

    def _read_patterns(self) -> None:
        with self._lock:
            try:
                known = self._client.hgetall(self._keys.patterns)
            except self._errors as exc:
                raise _told(exc) from exc
            # In the order of registration, as in a router.
            found = sorted((load_json(kept), text.decode()) for text, kept in known.items())
            self._patterns = [
                (Pattern(text), Retention(*retention)) for (_, *retention), text in found
            ]
            self._patterns_read = time.monotonic()


def _told(exc: BaseException) -> Exception:
    return ImproperlyConfigured(NO_CLUSTER) if is_refused_by_cluster(exc) else unavailable(exc)
