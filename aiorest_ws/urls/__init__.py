"""Names to URLs and back, for programs that keep one urlconf."""

__all__ = ()
