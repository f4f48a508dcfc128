"""The URL of a Redis server, or of its sentinels."""

import re
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
    "The URL of Redis is invalid: it is like redis://user:password@host:6379/0 or "
    "redis+sentinel://user:password@host:26379,host:26379/service/0, and in a name or a password "
    "all but letters, digits and -._~ is percent-encoded, as %40 for @, %23 for #, %3F for ?, "
    "%2F for /, %25 for %, %5B for [."
)

_LOOSE_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")

# Options in the query that may have any text.
_TEXT_OPTIONS = ("client_name", "password", "prefix", "username")


def _is_unambiguous(url: str) -> bool:
    """Tell whether what is special in a URL is only where a URL has it, and not in a password."""
    if "#" in url or _LOOSE_PERCENT.search(url) or " " in url or not url.isprintable():
        return False
    scheme, _, rest = url.partition("://")
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    credentials, at, hosts = authority.rpartition("@")
    if any(special in credentials for special in "@[]"):
        return False
    if scheme == "unix":
        if hosts or (at and "@" in path):
            return False
    elif "@" in path:
        return False
    for option in filter(None, query.split("&")):
        name, equals, value = option.partition("=")
        if not equals or not name.isidentifier():
            return False
        if name not in _TEXT_OPTIONS and ("@" in value or "?" in value):
            return False
    return True


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
        if not (_is_unambiguous(url) and self._is_usable(url)):
            raise ImproperlyConfigured(_UNUSABLE)

    def _is_usable(self, url: str) -> bool:
        """Set what is in the URL; tell whether redis-py takes it, without the words of its errors.

        They may contain a part of the password.
        """
        from redis.exceptions import RedisError

        try:
            parts = urlsplit(url)
        except ValueError:
            return False
        query = dict(parse_qsl(parts.query))
        self.prefix = query.pop("prefix", DEFAULT_PREFIX)
        self._is_sentinel = parts.scheme == SENTINEL_SCHEME
        # Not by urlunsplit, which drops two slashes of unix:///path.
        self._url = f"{url.partition('?')[0]}?{urlencode(query)}"
        self._netloc, self._path, self._query = parts.netloc, parts.path, query
        try:
            # Without a connection to a server, but with a look at all options.
            self.client(is_async=False).connection_pool.make_connection()
        except (ValueError, TypeError, RedisError):
            return False
        return True

    def __repr__(self) -> str:
        return f"<RedisURL {self._netloc.rpartition('@')[2]}{self._path}>"  # no password

    def client(self, *, is_async: bool) -> Any:
        """Return a client that connects when it is used, and does not retry."""
        options: dict[str, Any] = {
            "socket_timeout": REPLY_SECONDS,
            "protocol": 2,
            "client_name": "aiorest-ws",
        }
        if not self._url.startswith("unix:"):  # redis-py raises TypeError for these
            options |= {"socket_connect_timeout": CONNECT_SECONDS, "socket_keepalive": True}
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
