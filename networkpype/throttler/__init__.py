"""Rate limits, as the server measures them."""

from networkpype.throttler.rate_limit import LinkedLimitWeightPair, RateLimit
from networkpype.throttler.server_limits import ServerLimits
from networkpype.throttler.throttler import AsyncThrottler

__all__ = ("AsyncThrottler", "LinkedLimitWeightPair", "RateLimit", "ServerLimits")
