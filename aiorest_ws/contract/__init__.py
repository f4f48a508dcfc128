"""What the annotations of views demand of requests."""

from aiorest_ws.contract.data import DATA, Data

__all__ = ("DATA", "Data")
