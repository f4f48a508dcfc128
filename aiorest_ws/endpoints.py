"""Endpoints: a path or a path template, and its view."""

import re
from typing import Any

from aiorest_ws.abstract import AbstractEndpoint

__all__ = ("DynamicEndpoint", "PlainEndpoint")


class PlainEndpoint(AbstractEndpoint):
    """Match one path."""

    def match(self, path: str) -> tuple[str, ...] | None:
        """Return an empty tuple if `path` is this endpoint's, else None."""
        return () if path == self.path else None


class DynamicEndpoint(AbstractEndpoint):
    """Match the paths of a template; `pattern` has a named group for each parameter."""

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
        """The names of the parameters, in order."""
        return tuple(self._pattern.groupindex)

    def match(self, path: str) -> tuple[str, ...] | None:
        """Return the values of the parameters in `path`, or None if it does not match."""
        found = self._pattern.fullmatch(path)
        return found.groups() if found else None
