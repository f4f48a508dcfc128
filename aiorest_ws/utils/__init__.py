"""Modules that keep their path of 1.1."""

__all__ = ()
