from decimal import Decimal

from networkpype import AsyncThrottler, LinkedLimitWeightPair, RateLimit

LIMITS = [
    # 1,200 units of weight in any minute, whatever is asked for.
    RateLimit("weight", limit=1200, time_interval=60),
    # 50 orders in any 10 seconds, and 5,000 in any day: links may be linked.
    RateLimit(
        "orders", 50, 10, linked_limits=[LinkedLimitWeightPair("orders-per-day")]
    ),
    RateLimit("orders-per-day", limit=5000, time_interval=86_400),
    # The endpoints: each has a limit of its own, and draws from the pools.
    RateLimit("ticker", 600, 60, linked_limits=[LinkedLimitWeightPair("weight", 2)]),
    RateLimit(
        "order",
        limit=600,
        time_interval=60,
        linked_limits=[
            LinkedLimitWeightPair("weight"),
            LinkedLimitWeightPair("orders"),
        ],
    ),
]


def make_throttler():
    return AsyncThrottler(LIMITS)


def make_throttler_for_half():
    """For one of two programs that share an account."""
    return AsyncThrottler(LIMITS, limits_share_percentage=Decimal(50))


async def cancel_first(manager, url):
    """Let this one overtake what waits for the same limits."""
    return await manager.execute_request(url, "order", priority=10)


def refresh_if_free(throttler):
    """Take part only if that costs nobody a wait."""
    return throttler.try_acquire("ticker")


def is_worth_it(throttler, seconds):
    return throttler.estimate_wait("order") <= seconds


async def do_something_else(throttler, work):
    """Use a limit for something that is not a request of a manager."""
    async with throttler.execute_task("order"):
        return await work()


def be_more_careful(throttler):
    """Halve every limit; those that wait go on waiting, for the new ones."""
    limits = throttler.configured_rate_limits
    for limit in limits:
        limit.limit = max(1, limit.limit // 2)
    throttler.rate_limits = limits
