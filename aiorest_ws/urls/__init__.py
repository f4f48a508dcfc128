"""URLs by name and names by URL, for programs with one urlconf."""

__all__ = ()
