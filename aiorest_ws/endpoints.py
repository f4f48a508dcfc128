"""Endpoints: a path, or a template of paths, and the view behind it."""

import re
from typing import Any

from aiorest_ws.abstract import AbstractEndpoint

__all__ = ("DynamicEndpoint", "PlainEndpoint")


class PlainEndpoint(AbstractEndpoint):
    """Match one path."""

    def match(self, path: str) -> tuple[str, ...] | None:
        """Return an empty tuple for this endpoint's own path, else None."""
        return () if path == self.path else None


class DynamicEndpoint(AbstractEndpoint):
    """Match the paths of a template; `pattern` has a named group for each of its parameters."""

    def __init__(
        self,
        path: str,
        handler: Any,
        methods: str | list[str],
        name: str | None,
        pattern: re.Pattern[str] | str,
    ) -> None:
        super().__init__(path, handler, methods, name)
        self._pattern = re.compile(pattern)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names in the template, in order."""
        return tuple(self._pattern.groupindex)

    def match(self, path: str) -> tuple[str, ...] | None:
        """Return the values that `path` has for the parameters, or None."""
        found = self._pattern.fullmatch(path)
        return found.groups() if found else None
