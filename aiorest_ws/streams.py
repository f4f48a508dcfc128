"""Re-exports from `aiorest_ws.dispatch.streams`."""

from aiorest_ws.dispatch.streams import Stream, is_stream

__all__ = ("Stream", "is_stream")
