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
    # After a bad stretch, one request in ten may be a retry.
    budget=RetryBudget(capacity=20, ratio=0.1),
)


def make_factory():
    throttler = AsyncThrottler([RateLimit("api", limit=100, time_interval=1)])
    return ConnectionManagersFactory(throttler, retry=POLICY)


async def read(manager, url):
    """GET is idempotent: repeated, for at most 30 s in all."""
    return await manager.execute_request(url, "api", timeout=30)


async def place(manager, url, order):
    """POST is not, unless the server knows a key by which it tells a repetition."""
    return await manager.execute_request(
        url,
        "api",
        method=RESTMethod.POST,
        data=order,
        headers={"Idempotency-Key": str(uuid.uuid4())},
        timeout=30,
    )
