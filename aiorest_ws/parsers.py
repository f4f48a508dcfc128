"""Parse path templates such as `/users/{id}/`."""

from typing import Any

from aiorest_ws.abstract import AbstractEndpoint
from aiorest_ws.endpoints import DYNAMIC_PARAMETER, DynamicEndpoint, PlainEndpoint
from aiorest_ws.exceptions import EndpointValueError

__all__ = ("ANY_VALUE", "DYNAMIC_PARAMETER", "URLParser")

# Matches one or more characters except `/`, `{`, `}`: a segment of the path or a part of one.
ANY_VALUE = r"[^{}/]+"


class URLParser:
    """Create the endpoint of a path or a path template."""

    def define_route(
        self, path: str, handler: Any, methods: str | list[str], name: str | None = None
    ) -> AbstractEndpoint:
        """Return a PlainEndpoint or a DynamicEndpoint; raise EndpointValueError if malformed."""
        if "{" not in path and "}" not in path:
            return PlainEndpoint(path, handler, methods, name)
        parameters: set[str] = set()
        # split() alternates literals and parameter names.
        literals_and_names = DYNAMIC_PARAMETER.split(path)
        for literal, parameter in zip(
            literals_and_names[::2], [*literals_and_names[1::2], ""], strict=True
        ):
            is_name = parameter.isidentifier() or not parameter
            if "{" in literal or "}" in literal or not is_name:
                where = literal or parameter
                raise EndpointValueError(f"The template {path!r} is malformed at {where!r}.")
            if parameter in parameters:
                raise EndpointValueError(f"The template {path!r} names {parameter!r} twice.")
            if parameter:
                parameters.add(parameter)
        return DynamicEndpoint(path, handler, methods, name)
