"""Limits on how much is sent in which time."""
