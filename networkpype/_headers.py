"""Look-up and change of headers, whatever their case."""

from collections.abc import Mapping
from typing import Any

__all__ = ("has_header", "replace_header")


def has_header(headers: Mapping[str, object] | None, name: str) -> bool:
    """Return whether `headers` contains `name` in any case."""
    if not headers:
        return False
    lowered = name.lower()
    return any(key.lower() == lowered for key in headers)


def replace_header(headers: Mapping[str, Any] | None, name: str, value: str) -> dict[str, Any]:
    """Return a copy of `headers` with `name`, without its spellings in other cases."""
    lowered = name.lower()
    kept = {key: old for key, old in (headers or {}).items() if key.lower() != lowered}
    return {**kept, name: value}
