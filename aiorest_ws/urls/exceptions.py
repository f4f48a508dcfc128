"""Errors of `resolve` and `reverse`."""

__all__ = ("NoMatch", "NoReverseMatch")


class NoMatch(Exception):
    """No endpoint has this URL."""


class NoReverseMatch(Exception):
    """No endpoint has this name."""
