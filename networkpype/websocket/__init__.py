"""WebSockets: connections, managers, requests and responses."""

__all__ = ()
