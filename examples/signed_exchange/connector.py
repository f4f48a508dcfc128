"""A connector for the exchange of exchange.py: what a program needs, and nothing of HTTP."""

import hashlib
import hmac
import json

from networkpype import (
    AsyncThrottler,
    ConnectionManagersFactory,
    Gap,
    HMACQueryAuth,
    HTTPStatusError,
    LinkedLimitWeightPair,
    RateLimit,
    ReconnectPolicy,
    RESTMethod,
    RetryPolicy,
    ServerLimits,
    TimeSynchronizer,
    WebSocketJSONRequest,
)
from networkpype.rest.processor.time_synchronizer import TimeSynchronizerRESTPreProcessor


def _endpoint(limit_id, weight, *also):
    """Return the limit of an endpoint: it consumes weight, and one of each further pool."""
    links = [LinkedLimitWeightPair("weight", weight)]
    links += [LinkedLimitWeightPair(pool) for pool in also]
    return RateLimit(limit_id, limit=60, time_interval=1.0, linked_limits=links)


LIMITS = [
    RateLimit("weight", limit=60, time_interval=1.0),
    RateLimit("orders", limit=10, time_interval=0.5),
    _endpoint("time", 1),
    _endpoint("ticker", 2),
    _endpoint("account", 10),
    _endpoint("order", 1, "orders"),
    RateLimit("stream", limit=5, time_interval=1.0),
]

# Other programs may use the same key: the exchange knows better than we do what is used.
SERVER_LIMITS = ServerLimits(limit_ids={"x-mbx-used-weight-1s": "weight"})


def make_throttler():
    """Return what everything that uses the same key should share."""
    return AsyncThrottler(LIMITS, server_limits=SERVER_LIMITS)


class ExchangeError(Exception):
    """The exchange refused a request; `code` is its own number for the reason."""

    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code = code


class ExchangeAuth(HMACQueryAuth):
    """REST requests as HMACQueryAuth has it; on the stream, one message that logs in."""

    def __init__(self, api_key, api_secret, *, time_provider):
        super().__init__(api_key, api_secret, recv_window_ms=60_000, time_provider=time_provider)
        self._key, self._secret = api_key, api_secret.encode()

    async def ws_authenticate(self, request):
        stamp = int(self.time_provider.time() * 1000)
        signed = f"apiKey={self._key}&timestamp={stamp}".encode()
        signature = hmac.new(self._secret, signed, hashlib.sha256).hexdigest()
        request.payload = {"apiKey": self._key, "timestamp": stamp, "signature": signature}
        return request


class ExchangeConnector:
    """Safe to share between tasks; `async with` opens and closes it."""

    def __init__(self, url, api_key, api_secret, *, throttler=None, knows_clock=True):
        self._url = url.rstrip("/")
        clock = TimeSynchronizer()
        processors = []
        if knows_clock:
            processors.append(TimeSynchronizerRESTPreProcessor(clock, self.server_time_ms))
        self._factory = ConnectionManagersFactory(
            make_throttler() if throttler is None else throttler,
            auth=ExchangeAuth(api_key, api_secret, time_provider=clock),
            rest_pre_processors=processors,
            time_synchronizer=clock,
            retry=RetryPolicy(),
            reconnect=ReconnectPolicy(),
        )

    async def __aenter__(self):
        self._rest = await self._factory.get_rest_manager()
        return self

    async def __aexit__(self, *error):
        await self._factory.close()

    async def server_time_ms(self):
        return (await self._call("time"))["serverTime"]

    async def price(self, symbol):
        return (await self._call("ticker", params={"symbol": symbol}))["price"]

    async def balance(self):
        return (await self._call("account", is_auth_required=True))["balance"]

    async def buy(self, symbol, quantity):
        wanted = {"symbol": symbol, "side": "BUY", "quantity": quantity}
        # No idempotency key, hence no second attempt: it might buy twice.
        return await self._call(
            "order", method=RESTMethod.POST, data=wanted, is_auth_required=True
        )

    async def order_updates(self):
        """Give what happens to our orders, from the login on; None stands for a gap."""
        stream = await self._factory.get_ws_manager()
        await stream.connect(f"{self._url.replace('http', 'ws', 1)}/stream")
        try:
            # Remembered, and signed anew after each reconnection.
            await stream.subscribe(WebSocketJSONRequest({}, "stream", is_auth_required=True))
            async for message in stream.iter_messages():
                yield None if isinstance(message, Gap) else message.data
        finally:
            await stream.disconnect()

    async def _call(self, limit_id, **options):
        try:
            return await self._rest.execute_request(
                f"{self._url}/{limit_id}", throttler_limit_id=limit_id, timeout=60, **options
            )
        except HTTPStatusError as error:
            try:
                refusal = json.loads(error.body)
                raise ExchangeError(refusal["code"], refusal["msg"]) from error
            except (ValueError, KeyError, TypeError):
                raise error from None
