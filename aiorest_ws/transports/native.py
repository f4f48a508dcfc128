"""`native:` in front of an endpoint string of Twisted's, for any program that takes one."""

from typing import Any

from twisted.internet.interfaces import IStreamServerEndpoint, IStreamServerEndpointStringParser
from twisted.plugin import IPlugin
from zope.interface import implementer

from aiorest_ws.transports.endpoints import endpoint_from_arguments

__all__ = ("NativeParser",)


@implementer(IPlugin, IStreamServerEndpointStringParser)
class NativeParser:
    """Serve `native:` and a `tcp:`, `tcp6:`, `ssl:` or `unix:` string by the loop's transports.

    On a reactor without a loop they are Twisted's own endpoints.
    """

    prefix = "native"

    def parseStreamServer(  # type: ignore[override]
        self, reactor: Any, kind: str = "", *positional: str, **named: str
    ) -> IStreamServerEndpoint:
        """Return an endpoint; raise ValueError for arguments that it does not take."""
        endpoint = endpoint_from_arguments(reactor, kind, positional, named)
        if endpoint is None:
            raise ValueError(
                f"native:{kind} does not take these arguments; there are native:tcp and "
                "native:tcp6 (port, interface, backlog), native:ssl (port, privateKey, certKey, "
                "extraCertChain, interface, backlog) and native:unix (address, mode, backlog, "
                "lockfile)."
            )
        return endpoint
