"""One client's socket."""

__all__ = ()
