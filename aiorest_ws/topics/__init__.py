"""Topics: what a server tells its clients without being asked, kept for those who were away."""

__all__: tuple[str, ...] = ()
