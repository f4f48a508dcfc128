"""Endpoints: a path or a path template, and its view."""

import re
from collections.abc import Sequence
from typing import Any

from aiorest_ws.abstract import AbstractEndpoint

__all__ = ("DYNAMIC_PARAMETER", "DynamicEndpoint", "PlainEndpoint", "match_segment")

DYNAMIC_PARAMETER = re.compile(r"\{([^\W\d]\w*)\}")


class PlainEndpoint(AbstractEndpoint):
    """Match one path."""

    def match(self, path: str) -> tuple[str, ...] | None:
        """Return an empty tuple if `path` is this endpoint's, else None."""
        return () if path == self.path else None


class DynamicEndpoint(AbstractEndpoint):
    """Match the paths of a template, or of a `pattern` with a named group for each parameter.

    The time to match a template is linear in the length of the path.
    """

    def __init__(
        self,
        path: str,
        handler: Any,
        methods: str | list[str],
        name: str | None,
        pattern: re.Pattern[str] | str | None = None,
    ) -> None:
        super().__init__(path, handler, methods, name)
        self._pattern = None if pattern is None else re.compile(pattern)
        self._segments = [DYNAMIC_PARAMETER.split(segment)[::2] for segment in path.split("/")]
        self._parameters = tuple(
            DYNAMIC_PARAMETER.findall(path) if self._pattern is None else self._pattern.groupindex
        )

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters, in order."""
        return self._parameters

    @property
    def has_own_pattern(self) -> bool:
        """Whether the endpoint was made with a `pattern`."""
        return self._pattern is not None

    def match(self, path: str) -> tuple[str, ...] | None:
        """Return the values of the parameters in `path`, or None if it does not match."""
        if self._pattern is not None:
            found = self._pattern.fullmatch(path)
            return found.groups() if found else None
        segments = path.split("/")
        if len(segments) != len(self._segments):
            return None
        values: list[str] = []
        for literals, segment in zip(self._segments, segments, strict=True):
            matched = match_segment(literals, segment)
            if matched is None:
                return None
            values += matched
        return tuple(values)


def match_segment(literals: Sequence[str], segment: str) -> list[str] | None:
    """Return the values between the `literals` of a segment, or None if it does not match.

    Each value has one or more characters, but no braces; the first one is the longest possible,
    then the second. The time is linear in the length of the segment.
    """
    first, last = literals[0], literals[-1]
    if len(literals) == 1:
        return [] if segment == first else None
    start, end = len(first), len(segment) - len(last)
    if start >= end or not (segment.startswith(first) and segment.endswith(last)):
        return None
    if "{" in segment or "}" in segment:
        return None
    # Each literal as far to the right as it can be: no later choice asks to move one.
    values = []
    for literal in reversed(literals[1:-1]):
        found = segment.rfind(literal, start + 1, end - 1)
        if found < 0:
            return None
        values.append(segment[found + len(literal) : end])
        end = found
    values.append(segment[start:end])
    return values[::-1]
