"""Names that programs import from here; the code is in `aiorest_ws.transports.native`."""

from aiorest_ws.transports.native import NativeParser

__all__ = ("NativeParser",)
