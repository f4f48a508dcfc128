"""Names that programs import from here; the code is in `aiorest_ws.dispatch.streams`."""

from aiorest_ws.dispatch.streams import Stream, is_stream

__all__ = ("Stream", "is_stream")
