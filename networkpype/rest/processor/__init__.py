"""Steps before a request is sent and after its response has come."""

__all__ = ()
