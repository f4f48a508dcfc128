"""Steps before a WebSocket message is sent and after one has come."""

__all__ = ()
