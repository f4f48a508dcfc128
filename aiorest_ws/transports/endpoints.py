"""The endpoints that a server listens on.

On the asyncio reactor they use the loop's transports, which are several times faster than
Twisted's; on other reactors Twisted's, with the same behaviour.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    UNIXServerEndpoint,
    serverFromString,
)
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.internals.twisted_private import loop_of
from aiorest_ws.transports.loop_port import LoopServerEndpoint
from aiorest_ws.transports.other_reactors import LocalhostEndpoint, StaleFileEndpoint
from aiorest_ws.transports.renewal import TLS
from aiorest_ws.transports.sockets import TCPSocket, UNIXSocket
from aiorest_ws.transports.tls import TLSFiles

__all__ = (
    "LISTEN_BACKLOG",
    "endpoint_from_arguments",
    "endpoint_from_string",
    "is_inside_tls",
    "tcp_endpoint",
    "unix_endpoint",
)

LISTEN_BACKLOG = 1024


@implementer(IStreamServerEndpoint)
class _TLSEndpoint:
    """Twisted's TLS around one of Twisted's endpoints."""

    def __init__(self, endpoint: Any, tls: Any) -> None:
        self._endpoint = endpoint
        self._tls = tls

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Return a Deferred with the listening port."""
        wrapped = TLSMemoryBIOFactory(self._tls, isClient=False, wrappedFactory=protocolFactory)
        listening: Deferred[IListeningPort] = self._endpoint.listen(wrapped)
        return listening


def tcp_endpoint(
    reactor: Any,
    host: str,
    port: int,
    *,
    backlog: int = LISTEN_BACKLOG,
    tls: TLS | None = None,
) -> IStreamServerEndpoint:
    """Return the fastest endpoint that the reactor has; an empty `host` is every IPv4 address.

    `localhost` is 127.0.0.1 and ::1.

    Raises ImproperlyConfigured for TLS files that cannot be used.
    """
    host = host.strip("[]")
    if loop_of(reactor) is not None:
        context = None if tls is None else tls.for_loop()
        return LoopServerEndpoint(reactor, TCPSocket(host, port, backlog), context)
    endpoint: Any
    if host.lower() == "localhost":
        endpoint = LocalhostEndpoint(reactor, port, backlog)
    else:
        kind = TCP6ServerEndpoint if ":" in host else TCP4ServerEndpoint
        endpoint = kind(reactor, port, backlog, host)
    return endpoint if tls is None else _TLSEndpoint(endpoint, tls.for_twisted())


def unix_endpoint(
    reactor: Any,
    path: str,
    *,
    mode: int = 0o666,
    backlog: int = LISTEN_BACKLOG,
    lockfile: bool = False,
    tls: TLS | None = None,
) -> IStreamServerEndpoint:
    """Return the fastest endpoint on a Unix socket that the reactor has.

    Raises ImproperlyConfigured for TLS files that cannot be used.
    """
    where = UNIXSocket(path, mode, backlog, lockfile=lockfile)
    if loop_of(reactor) is not None:
        context = None if tls is None else tls.for_loop()
        return LoopServerEndpoint(reactor, where, context)
    endpoint = StaleFileEndpoint(UNIXServerEndpoint(reactor, path, backlog, mode, lockfile), where)
    return endpoint if tls is None else _TLSEndpoint(endpoint, tls.for_twisted())


# Endpoint strings

# The positional arguments of each kind, in Twisted's order.
_ARGUMENTS = {
    "tcp": ("port", "interface", "backlog"),
    "tcp6": ("port", "backlog", "interface"),
    "ssl": (
        *("port", "privateKey", "certKey", "sslmethod", "interface"),
        *("backlog", "extraCertChain", "dhParameters"),
    ),
    "unix": ("address", "mode", "backlog", "lockfile"),
}
_TWISTED_ONLY = {"sslmethod", "dhParameters"}


def endpoint_from_string(
    reactor: Any, description: str, *, tls: TLS | None = None
) -> IStreamServerEndpoint:
    """Return an endpoint for a string such as `tcp:8080:interface=127.0.0.1`.

    `tcp:`, `tcp6:`, `ssl:` and `unix:` take Twisted's keywords; all other kinds are Twisted's.
    With `tls` connections use TLS. Raises ImproperlyConfigured if `description` asks for TLS too,
    and for TLS files that cannot be used.
    """
    if tls is not None and is_inside_tls(description):
        raise ImproperlyConfigured(f"TLS is configured twice: by files and by {description!r}.")
    kind, positional, named = _parts(description)
    if loop_of(reactor) is not None or kind in ("tcp", "unix"):
        endpoint = endpoint_from_arguments(reactor, kind, positional, named, tls=tls)
        if endpoint is not None:
            return endpoint
    endpoint = serverFromString(reactor, description.removeprefix("native:"))
    return endpoint if tls is None else _TLSEndpoint(endpoint, tls.for_twisted())


def endpoint_from_arguments(
    reactor: Any,
    kind: str,
    positional: Sequence[str],
    named: Mapping[str, str],
    *,
    tls: TLS | None = None,
) -> IStreamServerEndpoint | None:
    """Return our endpoint for the parts of an endpoint string.

    Return None for a kind or a keyword that only Twisted supports.
    """
    names = _ARGUMENTS.get(kind, ())
    given = dict(zip(names, positional, strict=False)) | dict(named)
    is_complete = len(given) == len(positional) + len(named) and names and names[0] in given
    if not is_complete or not set(given) <= set(names) - _TWISTED_ONLY:
        return None
    backlog = int(given.get("backlog", LISTEN_BACKLOG))
    if kind == "unix":
        return unix_endpoint(
            reactor,
            given["address"],
            mode=int(given.get("mode", "666"), 8),
            backlog=backlog,
            lockfile=bool(int(given.get("lockfile", "1"))),
            tls=tls,
        )
    if kind == "ssl":
        key = given.get("privateKey", "server.pem")
        tls = TLSFiles(given.get("certKey", key), key, given.get("extraCertChain"))
    host = given.get("interface", "::" if kind == "tcp6" else "")
    return tcp_endpoint(reactor, host, int(given["port"]), backlog=backlog, tls=tls)


def is_inside_tls(description: str) -> bool:
    """Tell whether the kind of an endpoint string includes TLS."""
    kinds = description.split(":")
    while kinds and kinds[0] in ("native", "haproxy"):
        del kinds[0]
    return kinds[:1] == ["ssl"]


def _parts(description: str) -> tuple[str, list[str], dict[str, str]]:
    r"""Split an endpoint string; `\` escapes a colon, an equals sign or a backslash."""
    positional: list[str] = []
    named: dict[str, str] = {}
    # With a colon at the end every part ends in one, and no match is empty by mistake.
    for part in re.findall(r"((?:\\.|[^\\:])*):", description.removeprefix("native:") + ":"):
        [(name, equals, value)] = re.findall(r"^((?:\\.|[^\\=])*)(=?)(.*)$", part)
        if equals:
            named[_unescaped(name)] = _unescaped(value)
        else:
            positional.append(_unescaped(name))
    return positional[0], positional[1:], named


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
