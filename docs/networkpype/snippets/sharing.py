import asyncio

import aiohttp

from networkpype import AsyncThrottler, ConnectionManagersFactory, RateLimit


def session_kwargs():
    """Called for each new session, because a connector closes with its session."""
    return {
        "connector": aiohttp.TCPConnector(limit=20, limit_per_host=10),
        "headers": {"User-Agent": "my-program/1.0"},
        "timeout": aiohttp.ClientTimeout(connect=5),
    }


def make_factory():
    throttler = AsyncThrottler([RateLimit("api", limit=50, time_interval=1)])
    return ConnectionManagersFactory(throttler, session_kwargs=session_kwargs)


async def worker(factory, urls):
    """Use a manager of its own in each task; session and limits are shared."""
    manager = await factory.get_rest_manager()
    return [await manager.execute_request(url, "api", timeout=10) for url in urls]


async def crawl(urls, workers=4):
    async with make_factory() as factory:
        shares = [urls[number::workers] for number in range(workers)]
        return await asyncio.gather(*(worker(factory, share) for share in shares))
