"""Limits on how much is sent in which time."""

__all__ = ()
