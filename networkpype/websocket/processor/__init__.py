"""Steps before a WebSocket message is sent and after one has arrived."""

__all__ = ()
