"""The urlconf of the process: the default of `resolve` and `reverse`.

An Application sets it when it makes its factory; the last one of a process wins.
"""

from typing import Any

__all__ = ("get_urlconf", "set_urlconf")

_urlconf: dict[str, Any] = {}


def set_urlconf(data: dict[str, Any]) -> None:
    """Set the urlconf: `{"path": "ws://host:port", "urls": [...], "routes": {name: endpoint}}`."""
    _urlconf["data"] = data


def get_urlconf(default: Any = None) -> Any:
    """Return the urlconf, or `default` if none was set."""
    return _urlconf.get("data", default)
