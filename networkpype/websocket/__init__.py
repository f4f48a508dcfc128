"""WebSockets: connection, manager, requests and what comes back."""

__all__ = ()
