import hashlib
import hmac

from networkpype import Auth, BearerAuth, HMACHeaderAuth, HMACQueryAuth, RESTRequest

# A constant header.
bearer = BearerAuth("my-token")

# As Binance does: timestamp and signature in the query, the key in a header.
in_query = HMACQueryAuth("my-key", "my-secret", recv_window_ms=5000)


# Three headers; the server defines the text to sign.
def message(parts):
    lines = [str(parts.timestamp_ms), parts.method, parts.path_and_query]
    return "\n".join(lines).encode() + b"\n" + parts.body


in_headers = HMACHeaderAuth(
    "my-key", "my-secret", message=message, signature_header="X-Sign", encoding="base64"
)


class MyAuth(Auth):
    """A custom signature for REST requests and WebSocket messages."""

    def __init__(self, secret):
        super().__init__()
        self._secret = secret

    async def rest_authenticate(self, request: RESTRequest) -> RESTRequest:
        # The exact bytes that are sent; nothing may change them afterwards.
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
