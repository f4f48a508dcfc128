"""Steps before a request is sent and after its response has arrived."""

__all__ = ()
