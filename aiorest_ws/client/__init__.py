"""The Python client of aiorest-ws servers."""

from aiorest_ws.client.api import Client, State, connect
from aiorest_ws.client.errors import (
    CallError,
    ClientError,
    ConnectionLost,
    Forbidden,
    Invalid,
    InvalidReply,
    NotFound,
    Overflow,
    TooMany,
    Unauthorized,
)
from aiorest_ws.client.exchanges import Gap, Message
from aiorest_ws.client.portal import BlockingClient, connect_blocking
from networkpype.websocket.reconnect import ReconnectPolicy

__all__ = (
    "BlockingClient",
    "CallError",
    "Client",
    "ClientError",
    "ConnectionLost",
    "Forbidden",
    "Gap",
    "Invalid",
    "InvalidReply",
    "Message",
    "NotFound",
    "Overflow",
    "ReconnectPolicy",
    "State",
    "TooMany",
    "Unauthorized",
    "connect",
    "connect_blocking",
)
