"""What Autobahn's protocol tells of the opening handshake, parsed again from its request.

The request was valid: it has been accepted.
"""

from urllib.parse import parse_qs, urlparse

from autobahn.websocket.protocol import parseHttpHeader

from aiorest_ws.interfaces import Connection

__all__ = (
    "http_headers",
    "http_request_host",
    "http_request_params",
    "http_request_path",
    "http_request_uri",
    "http_status_line",
    "websocket_origin",
    "websocket_protocols",
)


def http_status_line(connection: Connection) -> str:
    """Return the first line of the request."""
    return parseHttpHeader(connection.http_request_data)[0]


def http_headers(connection: Connection) -> dict[str, str]:
    """Return the headers, their names in lower case."""
    return parseHttpHeader(connection.http_request_data)[1]


def http_request_uri(connection: Connection) -> str:
    """Return what the client has connected to: a path, mostly, and a query."""
    uri: str = connection.http_status_line.split()[1]
    return uri


def http_request_path(connection: Connection) -> str:
    """Return the path that the client has connected to."""
    return urlparse(http_request_uri(connection)).path


def http_request_params(connection: Connection) -> dict[str, list[str]]:
    """Return the query of the URL that the client has connected to."""
    return parse_qs(urlparse(http_request_uri(connection)).query)


def http_request_host(connection: Connection) -> str:
    """Return the host that the client has asked for, without its port."""
    host: str = connection.http_headers["host"].strip()
    has_port = ":" in host and not host.endswith("]")
    return host.rpartition(":")[0] if has_port else host


def websocket_protocols(connection: Connection) -> list[str]:
    """Return the subprotocols that the client has offered."""
    offered = connection.http_headers.get("sec-websocket-protocol")
    return [] if offered is None else [protocol.strip() for protocol in offered.split(",")]


def websocket_origin(connection: Connection) -> str:
    """Return the origin of the page that has connected; empty for a client that is no browser."""
    name = "sec-websocket-origin" if connection.websocket_version < 13 else "origin"
    origin: str = connection.http_headers.get(name, "").strip()
    return origin
