"""A stream without holes: reconnect, subscribe again, and fetch over HTTP what was missed."""

import asyncio
import sys

from networkpype import (
    AsyncThrottler,
    ConnectionManagersFactory,
    Gap,
    RateLimit,
    ReconnectPolicy,
    WebSocketJSONRequest,
)

LIMITS = [
    RateLimit("messages", limit=5, time_interval=0.1),
    RateLimit("history", limit=5, time_interval=0.1),
]
LAST = 14


class Trades:
    """The trades of one channel, each of them once and in order."""

    def __init__(self, factory, url, channel):
        self._factory = factory
        self._url = url.rstrip("/")
        self._channel = channel

    async def since_now(self):
        """Give (trade, whether it had to be fetched) for ever, and each Gap on the way."""
        stream = await self._factory.get_ws_manager()
        await stream.connect(f"{self._url.replace('http', 'ws', 1)}/stream")
        subscription = WebSocketJSONRequest({"subscribe": self._channel}, "messages")
        last = None
        try:
            # Sent again, by itself, after each reconnection.
            await stream.subscribe(subscription)
            async for message in stream.iter_messages():
                if isinstance(message, Gap):
                    yield message, False
                    continue
                number = message.data["number"]
                if last is not None and number > last + 1:
                    for missed in await self._between(last, number):
                        yield missed, True
                last = number
                yield message.data, False
        finally:
            await stream.disconnect()

    async def _between(self, after, before):
        manager = await self._factory.get_rest_manager()
        return await manager.execute_request(
            f"{self._url}/trades",
            throttler_limit_id="history",
            params={"channel": self._channel, "after": after, "before": before},
            timeout=60,
        )


async def main(url="http://127.0.0.1:8080/"):
    # A stream on which nothing comes for a minute is dead, whatever its pings say.
    policy = ReconnectPolicy(initial_delay_seconds=0.05, data_timeout_seconds=60)
    async with ConnectionManagersFactory(AsyncThrottler(LIMITS), reconnect=policy) as factory:
        trades = Trades(factory, url, "tea").since_now()
        async for trade, was_fetched in trades:
            if isinstance(trade, Gap):
                print(f"  gap: the connection ended with {trade.code} {trade.reason}".rstrip())
                continue
            remark = " (fetched)" if was_fetched else ""
            print(f"{trade['number']}: tea at {trade['price']}{remark}")
            if trade["number"] == LAST:
                break
        await trades.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
