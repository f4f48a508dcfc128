"""What the annotations of views demand of requests."""

from aiorest_ws.contract.data import DATA, Data
from aiorest_ws.contract.depends import Depends

__all__ = ("DATA", "Data", "Depends")
