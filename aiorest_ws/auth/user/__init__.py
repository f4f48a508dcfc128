"""Users: who calls, and where they are stored."""

__all__: tuple[str, ...] = ()
