import asyncio
import contextlib

from networkpype import (
    AsyncThrottler,
    ConnectionManagersFactory,
    HMACQueryAuth,
    RateLimit,
    TimeSynchronizer,
)
from networkpype.rest.processor.time_synchronizer import (
    TimeSynchronizerRESTPreProcessor,
)


class Client:
    def __init__(self, url):
        self._url = url
        self.clock = TimeSynchronizer()
        self._factory = ConnectionManagersFactory(
            AsyncThrottler([RateLimit("api", limit=100, time_interval=1)]),
            # The auth takes its timestamps from the clock,
            auth=HMACQueryAuth("my-key", "my-secret", time_provider=self.clock),
            # the first request waits for the first sample,
            rest_pre_processors=[
                TimeSynchronizerRESTPreProcessor(self.clock, self._server_time_ms)
            ],
            time_synchronizer=self.clock,
        )

    async def _server_time_ms(self):
        manager = await self._factory.get_rest_manager()
        return (await manager.execute_request(f"{self._url}/time", "api"))["ms"]

    async def keep_time(self, interval_seconds, *, sleep=asyncio.sleep):
        """... and this, in a task, keeps the clock accurate."""
        while True:
            await sleep(interval_seconds)
            # A failed call is logged, and the next one may succeed.
            with contextlib.suppress(Exception):
                await self.clock.update_server_time_offset_with_time_provider(
                    self._server_time_ms()
                )

    async def balance(self):
        manager = await self._factory.get_rest_manager()
        return await manager.execute_request(
            f"{self._url}/balance", "api", is_auth_required=True
        )

    async def close(self):
        await self._factory.close()


# Use the two fastest of ten samples, and never let the clock jump.
careful_clock = TimeSynchronizer(
    max_samples=10, best_rtt_samples=2, max_slew_ms_per_second=10
)
