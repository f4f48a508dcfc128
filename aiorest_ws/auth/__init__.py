"""Tokens, users, permissions, and the middleware that wires them in."""

__all__: tuple[str, ...] = ()
