from networkpype import AsyncThrottler, LinkedLimitWeightPair, RateLimit, ServerLimits
from networkpype.throttler.server_limits import DEFAULT_PARSERS, UsageReport

LIMITS = [
    RateLimit("weight", limit=100, time_interval=60),
    RateLimit("ticker", 100, 60, linked_limits=[LinkedLimitWeightPair("weight")]),
]

# X-MBX-USED-WEIGHT-1M reports the usage of "weight".
mapped = AsyncThrottler(
    LIMITS, server_limits=ServerLimits(limit_ids={"x-mbx-used-weight-1m": "weight"})
)


def parse_points(headers, wall_time):
    """Parse `X-Points-Left: 17`, a header that only this server has."""
    if "x-points-left" in headers:
        yield UsageReport(name="points", remaining=int(headers["x-points-left"]))


own_header = AsyncThrottler(
    LIMITS,
    server_limits=ServerLimits(
        parsers=(*DEFAULT_PARSERS, parse_points), limit_ids={"points": "weight"}
    ),
)

# This server bans with 403, and does not say for how long.
banned_by_403 = AsyncThrottler(
    LIMITS,
    server_limits=ServerLimits(
        freeze_statuses=frozenset({403, 429}), fallback_freeze_seconds=120
    ),
)

# Ignore all headers.
deaf = AsyncThrottler(LIMITS, server_limits=None)
