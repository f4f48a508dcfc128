"""What `SimpleRouter` settles about a view when it is registered."""

from aiorest_ws.registration.options import RouteOptions

__all__ = ("RouteOptions",)
