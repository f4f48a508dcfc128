"""Tokens: creation and verification, storage, authentication of requests."""

__all__: tuple[str, ...] = ()
