"""Re-exports from `aiorest_ws.dispatch.blocking`."""

from aiorest_ws.dispatch.blocking import MAX_WAITING_CALLS, BlockingPool, run_blocking

__all__ = ("MAX_WAITING_CALLS", "BlockingPool", "run_blocking")
