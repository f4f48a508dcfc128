"""REST over HTTP: requests, responses, connections, managers."""

__all__ = ()
