from decimal import Decimal

from networkpype import AsyncThrottler, LinkedLimitWeightPair, RateLimit

LIMITS = [
    # 1,200 units of weight in any minute, for all requests.
    RateLimit("weight", limit=1200, time_interval=60),
    # 50 orders in any 10 seconds, and 5,000 in any day: linked limits may have links.
    RateLimit(
        "orders", 50, 10, linked_limits=[LinkedLimitWeightPair("orders-per-day")]
    ),
    RateLimit("orders-per-day", limit=5000, time_interval=86_400),
    # The endpoints: each has its own limit, and consumes the shared ones.
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
    """Make the throttler of one of two programs that share an account."""
    return AsyncThrottler(LIMITS, limits_share_percentage=Decimal(50))


async def cancel_first(manager, url):
    """Overtake the requests that wait for the same limits."""
    return await manager.execute_request(url, "order", priority=10)


async def read_depth(manager, url, levels):
    """Count as one request per 100 levels, as the server does."""
    return await manager.execute_request(
        url,
        "ticker",
        {"limit": levels},
        weight=lambda request: max(1, request.params["limit"] // 100),
    )


def refresh_if_free(throttler):
    """Send the request only if no waiting is needed."""
    return throttler.try_acquire("ticker")


def is_worth_it(throttler, seconds):
    return throttler.estimate_wait("order") <= seconds


async def do_something_else(throttler, work):
    """Use a limit for something other than a request of a manager."""
    async with throttler.execute_task("order"):
        return await work()


def be_more_careful(throttler):
    """Halve each limit; waiting requests then wait for the new ones."""
    limits = throttler.configured_rate_limits
    for limit in limits:
        limit.limit = max(1, limit.limit // 2)
    throttler.rate_limits = limits
