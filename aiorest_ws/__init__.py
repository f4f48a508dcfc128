"""REST-style calls over WebSockets, on Autobahn and Twisted."""

__all__ = ("__version__",)

__version__ = "2.0.0"
