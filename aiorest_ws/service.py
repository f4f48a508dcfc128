"""Names that programs import from here; the code is in `aiorest_ws.serving.service`."""

from aiorest_ws.serving.service import ApplicationService, FactoryHook

__all__ = ("ApplicationService", "FactoryHook")
