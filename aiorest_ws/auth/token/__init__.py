"""Tokens: made and verified, stored, read from requests."""

__all__: tuple[str, ...] = ()
