"""Processes that serve: start, drain, workers."""

__all__ = ()
