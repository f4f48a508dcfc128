"""What Autobahn's protocol tells of the opening handshake, parsed again from its request.

The request was valid: it has been accepted.
"""

from typing import Any
from urllib.parse import parse_qs, urlparse

from autobahn.websocket.types import ConnectionRequest

from aiorest_ws.connection.http_head import HeadOfRequest
from aiorest_ws.interfaces import Connection

__all__ = (
    "READ_FROM_HEAD",
    "http_headers",
    "http_request_host",
    "http_request_params",
    "http_request_path",
    "http_request_uri",
    "http_status_line",
    "show_request",
    "websocket_origin",
    "websocket_protocols",
)

# What Autobahn sets from the head, and a connection can make again.
READ_FROM_HEAD = (
    *("http_status_line", "http_request_uri", "http_request_path", "http_request_params"),
    *("http_request_host", "websocket_origin", "websocket_protocols"),
)


def show_request(connection: Any, request: ConnectionRequest) -> None:
    """Put what was sent in the place of what Autobahn has read in it."""
    head = connection.take_head()
    if head is None:
        return
    connection.http_headers = request.headers = head.headers()
    request.host = connection.http_request_host
    request.path = connection.http_request_path
    request.params = connection.http_request_params
    request.origin = connection.websocket_origin
    request.protocols = connection.websocket_protocols


def http_status_line(connection: Connection) -> str:
    """Return the first line of the request."""
    return connection.http_request_data.partition(b"\r\n")[0].decode("latin-1").strip(" ")


def http_headers(connection: Connection) -> dict[str, str]:
    """Return the headers, their names in lower case."""
    return HeadOfRequest(connection.http_request_data).headers()


def http_request_uri(connection: Connection) -> str:
    """Return what the client has connected to: a path, mostly, and a query."""
    words = [word for word in connection.http_status_line.split(" ") if word]
    return words[1]


def http_request_path(connection: Connection) -> str:
    """Return the path that the client has connected to."""
    return urlparse(http_request_uri(connection)).path


def http_request_params(connection: Connection) -> dict[str, list[str]]:
    """Return the query of the URL that the client has connected to."""
    return parse_qs(urlparse(http_request_uri(connection)).query)


def http_request_host(connection: Connection) -> str:
    """Return the host that the client has asked for, without its port."""
    host = connection.http_headers["host"]
    has_port = ":" in host and not host.endswith("]")
    return host.rpartition(":")[0] if has_port else host


def websocket_protocols(connection: Connection) -> list[str]:
    """Return the subprotocols that the client has offered."""
    offered = connection.http_headers.get("sec-websocket-protocol")
    return [] if offered is None else [one.strip(" \t") for one in offered.split(",")]


def websocket_origin(connection: Connection) -> str:
    """Return the origin of the page that has connected; empty for a client that is no browser."""
    return connection.http_headers.get("origin", "")
