import asyncio
import sys

from networkpype import AsyncThrottler, ConnectionManagersFactory, RateLimit

URL = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080/"


async def main():
    throttler = AsyncThrottler([RateLimit("weather", limit=5, time_interval=1.0)])
    async with ConnectionManagersFactory(throttler) as factory:
        manager = await factory.get_rest_manager()
        loop = asyncio.get_running_loop()
        started = loop.time()
        cities = ["Oslo", "Quito", "Hanoi"] * 4
        calls = (
            manager.execute_request(f"{URL}weather/{city}", "weather")
            for city in cities
        )
        answers = await asyncio.gather(*calls)
        print(len(answers), "answers, the last one from", answers[-1]["city"])
        print("more than two seconds:", loop.time() - started > 2)


asyncio.run(main())
