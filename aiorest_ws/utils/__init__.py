"""Helpers under their path of 1.1."""

__all__ = ()
