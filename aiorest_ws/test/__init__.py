"""Tools for the tests of programs that use the library."""

__all__: tuple[str, ...] = ()
