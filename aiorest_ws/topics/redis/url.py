"""The URL of a Redis server, or of its sentinels."""

from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from aiorest_ws.exceptions import ImproperlyConfigured

__all__ = ("RedisURL",)

DEFAULT_PREFIX = "aiorest-ws"
SENTINEL_SCHEME = "redis+sentinel"
SENTINEL_PORT = 26379

CONNECT_SECONDS = 5
REPLY_SECONDS = 5

_UNUSABLE = (
    "The URL of Redis is invalid. It is like redis://user:password@host:6379/0 or "
    "redis+sentinel://user:password@host:26379,host:26379/service/0, with %2F for a slash in a "
    "password, %5B for a bracket."
)


class RedisURL:
    """The URL of a Redis server; that of sentinels has the scheme `redis+sentinel`.

    All keys start with `prefix`, an option in the query; the other options are redis-py's.
    Raises ImproperlyConfigured for an invalid URL, or if redis-py is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            import redis
        except ImportError:
            raise ImproperlyConfigured(
                'Topics on Redis need its client; in a clone of aiorest-ws: pip install ".[redis]"'
            ) from None
        self._module = redis
        try:
            parts = urlsplit(url)
        except ValueError:
            raise ImproperlyConfigured(_UNUSABLE) from None
        query = dict(parse_qsl(parts.query))
        self.prefix = query.pop("prefix", DEFAULT_PREFIX)
        self._is_sentinel = parts.scheme == SENTINEL_SCHEME
        # Not by urlunsplit, which drops two slashes of unix:///path.
        self._url = f"{url.partition('?')[0]}?{urlencode(query)}"
        self._netloc, self._path, self._query = parts.netloc, parts.path, query
        try:
            self.client(is_async=False)
        except (ValueError, TypeError):
            # Without the error, which may contain a part of the password.
            raise ImproperlyConfigured(_UNUSABLE) from None

    def __repr__(self) -> str:
        return f"<RedisURL {self._netloc.rpartition('@')[2]}{self._path}>"  # no password

    def client(self, *, is_async: bool) -> Any:
        """Return a client that connects when it is used, and does not retry."""
        options: dict[str, Any] = {
            "socket_connect_timeout": CONNECT_SECONDS,
            "socket_timeout": REPLY_SECONDS,
            "socket_keepalive": True,
            "protocol": 2,
            "client_name": "aiorest-ws",
        }
        if is_async:
            from redis.asyncio import Redis, sentinel
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff

            options["retry"] = Retry(NoBackoff(), 0)
            kind: Any = Redis
            sentinels: Any = sentinel.Sentinel
        else:
            from redis import Redis as BlockingRedis
            from redis.backoff import NoBackoff
            from redis.retry import Retry as BlockingRetry
            from redis.sentinel import Sentinel

            options["retry"] = BlockingRetry(NoBackoff(), 0)
            kind, sentinels = BlockingRedis, Sentinel
        if not self._is_sentinel:
            return kind.from_url(self._url, **options)
        hosts, service, more = self._sentinels()
        known = sentinels(hosts, sentinel_kwargs=dict(options), **options)
        return known.master_for(service, **more)

    @staticmethod
    def _all(client: Any) -> list[Any]:
        """Return a client and the clients of its sentinels, which redis-py does not close."""
        manager = getattr(client.connection_pool, "sentinel_manager", None)
        return [client, *(manager.sentinels if manager is not None else ())]

    async def close_async(self, client: Any) -> None:
        """Close the connections of a client. Raises redis-py's errors."""
        for one in self._all(client):
            await one.aclose()

    def close(self, client: Any) -> None:
        """Close the connections of a blocking client."""
        for one in self._all(client):
            one.close()

    def _sentinels(self) -> tuple[list[tuple[str, int]], str, dict[str, Any]]:
        user_and_password, _, addresses = self._netloc.rpartition("@")
        user, _, password = user_and_password.partition(":")
        hosts = []
        for address in addresses.split(","):
            host, _, port = address.rpartition(":") if ":" in address else (address, "", "")
            hosts.append((host.strip("[]"), int(port or SENTINEL_PORT)))
        service, _, db = self._path.strip("/").partition("/")
        if not service or not all(host for host, _ in hosts):
            raise ValueError("sentinels are redis+sentinel://host:port,host:port/service/db")
        from redis import connection

        parse: Any = connection.parse_url  # converts the options to their types
        more: dict[str, Any] = parse(f"redis://?{urlencode(self._query)}")
        more["db"] = int(db or 0)
        if user:
            more["username"] = unquote(user)
        if password:
            more["password"] = unquote(password)
        return hosts, service, more
