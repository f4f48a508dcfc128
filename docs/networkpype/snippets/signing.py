import hashlib
import hmac

from networkpype import Auth, BearerAuth, HMACHeaderAuth, HMACQueryAuth, RESTRequest

# A header that stays the same.
bearer = BearerAuth("my-token")

# Binance's way: timestamp and signature in the query, the key in a header.
in_query = HMACQueryAuth("my-key", "my-secret", recv_window_ms=5000)


# Three headers, over a text that the server prescribes.
def message(parts):
    lines = [str(parts.timestamp_ms), parts.method, parts.path_and_query]
    return "\n".join(lines).encode() + b"\n" + parts.body


in_headers = HMACHeaderAuth(
    "my-key", "my-secret", message=message, signature_header="X-Sign", encoding="base64"
)


class MyAuth(Auth):
    """A way of its own, for REST and for WebSocket messages."""

    def __init__(self, secret):
        super().__init__()
        self._secret = secret

    async def rest_authenticate(self, request: RESTRequest) -> RESTRequest:
        # What will be sent, byte by byte; nothing may change it afterwards.
        url, body = await request.freeze()
        signature = self._sign(url.raw_path_qs.encode() + body)
        request.headers = {**(request.headers or {}), "X-Sign": signature}
        return request

    async def ws_authenticate(self, request):
        stamp = str(int(self.time_provider.time()))
        request.payload = {
            **request.payload,
            "t": stamp,
            "sign": self._sign(stamp.encode()),
        }
        return request

    def _sign(self, content):
        return hmac.new(self._secret, content, hashlib.sha256).hexdigest()
