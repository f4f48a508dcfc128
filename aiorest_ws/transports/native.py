"""The endpoint prefix `native:`, for programs that take Twisted's endpoint strings."""

from typing import Any

from twisted.internet.interfaces import IStreamServerEndpoint, IStreamServerEndpointStringParser
from twisted.plugin import IPlugin
from zope.interface import implementer

from aiorest_ws.transports.endpoints import endpoint_from_arguments

__all__ = ("NativeParser",)


@implementer(IPlugin, IStreamServerEndpointStringParser)
class NativeParser:
    """Serve `native:tcp:`, `native:tcp6:`, `native:ssl:` and `native:unix:`.

    They use the loop's transports; on a reactor without a loop they are Twisted's endpoints.
    """

    prefix = "native"

    def parseStreamServer(  # type: ignore[override]
        self, reactor: Any, kind: str = "", *positional: str, **named: str
    ) -> IStreamServerEndpoint:
        """Return an endpoint; raise ValueError for unknown arguments."""
        endpoint = endpoint_from_arguments(reactor, kind, positional, named)
        if endpoint is None:
            raise ValueError(
                f"native:{kind} does not take these arguments; there are native:tcp and "
                "native:tcp6 (port, interface, backlog), native:ssl (port, privateKey, certKey, "
                "extraCertChain, interface, backlog) and native:unix (address, mode, backlog, "
                "lockfile)."
            )
        return endpoint
