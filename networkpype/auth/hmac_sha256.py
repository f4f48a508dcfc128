"""Sign the exact bytes that are sent with HMAC-SHA256 (RFC 2104)."""

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote_plus, urlencode

from networkpype.auth.base import RESTOnlyAuth, require, set_header
from networkpype.exceptions import AuthError
from networkpype.rest.request import RESTRequest
from networkpype.time_synchronizer import TimeSynchronizer

__all__ = ("HMACHeaderAuth", "HMACQueryAuth", "SignedParts")


@dataclass(frozen=True, slots=True)
class SignedParts:
    """What a signature can cover; `path_and_query` and `body` are exactly as sent."""

    timestamp_ms: int
    method: str
    path_and_query: str = field(repr=False)
    body: bytes = field(repr=False)


def concatenate(parts: SignedParts) -> bytes:
    """Return timestamp, method, path with query, and body, without separators."""
    head = f"{parts.timestamp_ms}{parts.method}{parts.path_and_query}"
    return head.encode() + parts.body


class _Credentials:
    """A key, which is sent in a header, and the secret that signs."""

    def __init__(self, api_key: str, api_secret: str | bytes, key_header: str) -> None:
        require("api_key", api_key)
        require("api_secret", api_secret)
        self._api_key = api_key
        self._api_secret = api_secret.encode() if isinstance(api_secret, str) else api_secret
        self._key_header = key_header

    def sign(self, message: bytes) -> bytes:
        return hmac.digest(self._api_secret, message, hashlib.sha256)

    def set_key_header(self, request: RESTRequest) -> None:
        set_header(request, self._key_header, self._api_key)


class _Timestamps:
    """Times in milliseconds; if `unique`, each is later than the one before."""

    def __init__(self, *, unique: bool) -> None:
        self._unique = unique
        self._last_ms = 0

    def at(self, seconds: float) -> int:
        now_ms = int(seconds * 1000)
        if self._unique:
            now_ms = self._last_ms = max(now_ms, self._last_ms + 1)
        return now_ms


class HMACHeaderAuth(RESTOnlyAuth):
    """Send key, time in milliseconds and signature in headers.

    `message` returns the bytes to sign. Neither URL nor body may change afterwards; the query is
    signed in its encoded form, as it is sent. With `unique`, times rise strictly, by at least a
    millisecond.
    """

    def __init__(
        self,
        api_key: str,
        api_secret: str | bytes,
        *,
        key_header: str = "X-API-Key",
        timestamp_header: str = "X-Timestamp",
        signature_header: str = "X-Signature",
        message: Callable[[SignedParts], bytes] = concatenate,
        encoding: Literal["hex", "base64"] = "hex",
        unique: bool = False,
        time_provider: TimeSynchronizer | None = None,
    ) -> None:
        super().__init__(time_provider)
        self._timestamps = _Timestamps(unique=unique)
        if unique:
            # The connections decide the order, so each is taken with the connection in hand.
            self.resign_after_s = 0.0
        self._credentials = _Credentials(api_key, api_secret, key_header)
        self._timestamp_header = timestamp_header
        self._signature_header = signature_header
        self._message = message
        self._encoding = encoding

    async def rest_authenticate(self, request: RESTRequest) -> RESTRequest:
        """Set the three headers."""
        url, body = await request.freeze()
        timestamp_ms = self._timestamps.at(self.time_provider.time())
        parts = SignedParts(timestamp_ms, str(request.method), url.raw_path_qs, body)
        digest = self._credentials.sign(self._message(parts))
        signature = digest.hex() if self._encoding == "hex" else base64.b64encode(digest).decode()
        self._credentials.set_key_header(request)
        set_header(request, self._timestamp_header, str(timestamp_ms))
        set_header(request, self._signature_header, signature)
        return request


class HMACQueryAuth(RESTOnlyAuth):
    """Send time and signature in the query and the key in a header, as Binance requires.

    Signs the query followed by the body. The signature, in hex, is the last parameter. With
    `unique`, times rise strictly, by at least a millisecond.
    """

    def __init__(
        self,
        api_key: str,
        api_secret: str | bytes,
        *,
        key_header: str = "X-MBX-APIKEY",
        timestamp_param: str = "timestamp",
        signature_param: str = "signature",
        recv_window_ms: int | None = None,
        unique: bool = False,
        time_provider: TimeSynchronizer | None = None,
    ) -> None:
        super().__init__(time_provider)
        self._timestamps = _Timestamps(unique=unique)
        if unique:
            # The connections decide the order, so each is taken with the connection in hand.
            self.resign_after_s = 0.0
        self._credentials = _Credentials(api_key, api_secret, key_header)
        self._timestamp_param = timestamp_param
        self._signature_param = signature_param
        self._recv_window_ms = recv_window_ms

    async def rest_authenticate(self, request: RESTRequest) -> RESTRequest:
        """Add the parameters and set the header."""
        url = request.wire_url()
        if self._signature_param in url.query:
            raise AuthError(f"The request already has a parameter {self._signature_param!r}.")
        added = {self._timestamp_param: str(self._timestamps.at(self.time_provider.time()))}
        if self._recv_window_ms is not None and "recvWindow" not in url.query:
            added["recvWindow"] = str(self._recv_window_ms)
        # yarl would write the rest of the query anew, which may be encoded in another way.
        kept = [part for part in url.raw_query_string.split("&") if part]
        kept = [part for part in kept if unquote_plus(part.partition("=")[0]) not in added]
        query = "&".join([*kept, urlencode(added)])
        bare = str(url.with_query(None).with_fragment(None))
        request.url, request.params, request.url_is_encoded = f"{bare}?{query}", None, True
        url, body = await request.freeze()
        signature = self._credentials.sign(url.raw_query_string.encode() + body).hex()
        request.url = f"{url}&{self._signature_param}={signature}"
        self._credentials.set_key_header(request)
        return request
