"""Remove secrets from URLs and errors, for logs and error texts."""

from typing import cast

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

__all__ = ("redact_url", "strip_secrets")


def redact_url(url: URL | str) -> str:
    """Return `url` without user, password, query and fragment."""
    try:
        parsed = URL(url).with_query(None).with_fragment(None)
        return str(parsed.with_user(None) if parsed.absolute else parsed)
    except ValueError:
        return "(not a URL)"


def strip_secrets(error: aiohttp.ClientResponseError) -> None:
    """Remove the headers and query of the request, and the redirects, from an error."""
    info = error.request_info
    if info is not None:
        # aiohttp has a proxy here, but a proxy cannot be pickled.
        headers = cast("CIMultiDictProxy[str]", CIMultiDict[str]())
        error.request_info = aiohttp.RequestInfo(
            URL(redact_url(info.url)), info.method, headers, URL(redact_url(info.real_url))
        )
    error.history = ()
    error.args = (error.request_info, ())
