"""Headers that look like credentials, and must not follow a redirect to another origin."""

import functools
import re
from collections.abc import Collection, Iterable

import aiohttp
from yarl import URL

__all__ = ("credential_names", "keep_from_other_origins")

_CREDENTIAL = re.compile(
    r"auth|cookie|token|secret|session|signature|passphrase|password|credential"
    r"|(api|access|private)[-_]?(key|sign)|(^|[-_])sign$",
    re.IGNORECASE,
)

# aiohttp drops these, and adds those that it has for the other origin.
_LEFT_TO_AIOHTTP = frozenset({"authorization", "cookie", "proxy-authorization"})


def credential_names(names: Iterable[str], listed: Collection[str]) -> list[str]:
    """Return those of `names` that look like credentials or are `listed`.

    Without those that aiohttp drops by itself.
    """
    if not listed:
        return [name for name in names if _looks_secret(name)]
    return [name for name in names if _looks_secret(name) or name.lower() in listed]


@functools.lru_cache(maxsize=1024)
def _looks_secret(name: str) -> bool:
    return name.lower() not in _LEFT_TO_AIOHTTP and _CREDENTIAL.search(name) is not None


def keep_from_other_origins(names: Iterable[str]) -> aiohttp.ClientMiddlewareType:
    """Return a middleware for one request, which drops headers once its origin has changed."""
    first: URL | None = None
    has_left = False

    async def middleware(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        nonlocal first, has_left
        origin = request.url.origin()
        first = origin if first is None else first
        has_left = has_left or origin != first
        if has_left:
            for name in names:
                request.headers.popall(name, None)
        return await handler(request)

    return middleware
