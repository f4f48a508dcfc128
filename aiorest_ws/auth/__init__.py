"""Tokens, users, permissions, and the middleware that applies them."""

__all__: tuple[str, ...] = ()
