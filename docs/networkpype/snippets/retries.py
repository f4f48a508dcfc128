import uuid

from networkpype import (
    AsyncThrottler,
    ConnectionManagersFactory,
    RateLimit,
    RESTMethod,
    RetryBudget,
    RetryPolicy,
)

POLICY = RetryPolicy(
    max_attempts=4,
    backoff_seconds=0.1,
    # When the budget is used up, one request in ten may be a retry.
    budget=RetryBudget(capacity=20, ratio=0.1),
)


def make_factory():
    throttler = AsyncThrottler([RateLimit("api", limit=100, time_interval=1)])
    return ConnectionManagersFactory(throttler, retry=POLICY)


async def read(manager, url):
    """Retry within 30 s: GET is idempotent."""
    return await manager.execute_request(url, "api", timeout=30)


async def place(manager, url, order):
    """Retry a POST, because the server recognizes its key."""
    return await manager.execute_request(
        url,
        "api",
        method=RESTMethod.POST,
        data=order,
        headers={"Idempotency-Key": str(uuid.uuid4())},
        timeout=30,
    )
