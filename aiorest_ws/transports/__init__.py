"""Reactors, endpoints and transports.

On the asyncio reactor a server uses the loop's transports, which are several times faster than
Twisted's; on other reactors Twisted's, with the same behaviour.
"""

from aiorest_ws.transports.endpoints import (
    LISTEN_BACKLOG,
    endpoint_from_arguments,
    endpoint_from_string,
    is_inside_tls,
    tcp_endpoint,
    unix_endpoint,
)
from aiorest_ws.transports.loop_port import LoopServerEndpoint
from aiorest_ws.transports.reactor import describe_reactor, install_reactor
from aiorest_ws.transports.renewal import TLS, OwnContext
from aiorest_ws.transports.tls import TLSFiles
from aiorest_ws.transports.unsent import set_high_water, unsent_bytes

__all__ = (
    "LISTEN_BACKLOG",
    "TLS",
    "LoopServerEndpoint",
    "OwnContext",
    "TLSFiles",
    "describe_reactor",
    "endpoint_from_arguments",
    "endpoint_from_string",
    "install_reactor",
    "is_inside_tls",
    "set_high_water",
    "tcp_endpoint",
    "unix_endpoint",
    "unsent_bytes",
)
