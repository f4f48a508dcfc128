"""`resolve` a URL to its endpoint, `reverse` a name to its URL."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from aiorest_ws.endpoints import DynamicEndpoint, PlainEndpoint
from aiorest_ws.parsers import ANY_VALUE, DYNAMIC_PARAMETER
from aiorest_ws.urls.base import get_urlconf
from aiorest_ws.urls.exceptions import NoMatch, NoReverseMatch

__all__ = ("RouteMatch", "resolve", "reverse")


class RouteMatch:
    """The match of a URL: the name of the endpoint and the values in the path."""

    def __init__(
        self,
        view_name: str | None,
        args: Sequence[str] = (),
        kwargs: Mapping[str, str] | None = None,
    ) -> None:
        self.view_name = view_name
        self.args = args
        self.kwargs = dict(kwargs or {})


def resolve(path: str, urlconf: Mapping[str, Any] | None = None) -> RouteMatch:
    """Return the match of an absolute or relative URL, without its query; raise NoMatch."""
    urlconf = _urlconf_or_default(urlconf)
    path = path.removeprefix(urlconf.get("path", "").rstrip("/")).partition("?")[0].strip()
    if not path.endswith("/"):
        path += "/"
    endpoints = urlconf.get("urls", ())
    # As in the router: a plain path wins over a template, a template over other classes.
    order: dict[type, int] = {PlainEndpoint: 0, DynamicEndpoint: 1}
    for endpoint in sorted(endpoints, key=lambda endpoint: order.get(type(endpoint), 2)):
        values = endpoint.match(path)
        if values is not None:
            names = endpoint.parameters if isinstance(endpoint, DynamicEndpoint) else ()
            return RouteMatch(endpoint.name, values, dict(zip(names, values, strict=False)))
    raise NoMatch(f"No endpoint has the URL {path!r}.")


def reverse(
    view_name: str,
    urlconf: Mapping[str, Any] | None = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    relative: bool = False,
) -> str:
    """Return the URL of a named endpoint: `wss://host:port/user/1/?token=123456`.

    `args` replace the parameters of the template, `kwargs` become the query; `relative` omits
    scheme and host. Raises NoReverseMatch for an unknown name, ValueError for a wrong number of
    `args` and for values that do not match: empty ones, or with a slash, a brace or a `?`.
    """
    urlconf = _urlconf_or_default(urlconf)
    endpoint = urlconf.get("routes", {}).get(view_name)
    if endpoint is None:
        raise NoReverseMatch(f"No endpoint is named {view_name!r}.")
    parameters = DYNAMIC_PARAMETER.findall(endpoint.path)
    if len(parameters) != len(args):
        raise ValueError(
            f"{endpoint.path!r} takes {len(parameters)} parameters, {len(args)} were given."
        )
    for value in args:
        if "?" in str(value) or not re.fullmatch(ANY_VALUE, str(value)):
            raise ValueError(f"{value!r} cannot be a segment of a path.")
    remaining = iter(args)
    path = DYNAMIC_PARAMETER.sub(lambda _: str(next(remaining)), endpoint.path)
    if not relative and "path" not in urlconf:
        raise NoReverseMatch("The urlconf has no `path`, so only relative URLs can be made.")
    root = "" if relative else urlconf["path"].rstrip("/")
    query = f"?{urlencode(kwargs, doseq=True)}" if kwargs else ""
    return f"{root}{path}{query}"


def _urlconf_or_default(urlconf: Mapping[str, Any] | None) -> Mapping[str, Any]:
    chosen = get_urlconf() if urlconf is None else urlconf
    if chosen is None:
        raise LookupError("There is no urlconf: no Application has made its factory yet.")
    return chosen
