"""From a request to its reply."""

__all__ = ()
