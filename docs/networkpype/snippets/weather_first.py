import asyncio
import sys

from networkpype import AsyncThrottler, ConnectionManagersFactory, RateLimit

URL = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080/"


async def main():
    throttler = AsyncThrottler([RateLimit("weather", limit=5, time_interval=1.0)])
    async with ConnectionManagersFactory(throttler) as factory:
        manager = await factory.get_rest_manager()
        print(await manager.execute_request(f"{URL}weather/Oslo", "weather"))


asyncio.run(main())
