"""REST and WebSocket clients on aiohttp that share limits, auth and one session."""

from networkpype.auth import (
    APIKeyAuth,
    Auth,
    BearerAuth,
    HMACHeaderAuth,
    HMACQueryAuth,
    SignedParts,
    Token,
    TokenAuth,
)
from networkpype.exceptions import (
    AttemptTimeoutError,
    AuthError,
    BodyTooLargeError,
    BufferOverflowError,
    ClosedError,
    ConfigurationError,
    ConnectError,
    DeadlineExceeded,
    DisconnectedError,
    HTTPStatusError,
    NetworkpypeError,
    ReceiveTimeoutError,
    ReconnectingError,
    TransportError,
    UnknownLimitError,
    WebSocketClosedError,
)
from networkpype.factory import ConnectionManagersFactory, ConnectionsFactory
from networkpype.rest.manager import RESTManager
from networkpype.rest.method import RESTMethod
from networkpype.rest.request import RESTRequest
from networkpype.rest.response import RESTResponse
from networkpype.retry import RetryBudget, RetryPolicy
from networkpype.throttler import AsyncThrottler, LinkedLimitWeightPair, RateLimit, ServerLimits
from networkpype.time_synchronizer import TimeSynchronizer
from networkpype.websocket.buffer import OverflowPolicy, ReceiveBuffer
from networkpype.websocket.manager import WebSocketManager
from networkpype.websocket.reconnect import ReconnectPolicy
from networkpype.websocket.request import (
    WebSocketBinaryRequest,
    WebSocketJSONRequest,
    WebSocketPlainTextRequest,
    WebSocketRequest,
)
from networkpype.websocket.response import Gap, WebSocketResponse

__all__ = (
    "APIKeyAuth",
    "AsyncThrottler",
    "AttemptTimeoutError",
    "Auth",
    "AuthError",
    "BearerAuth",
    "BodyTooLargeError",
    "BufferOverflowError",
    "ClosedError",
    "ConfigurationError",
    "ConnectError",
    "ConnectionManagersFactory",
    "ConnectionsFactory",
    "DeadlineExceeded",
    "DisconnectedError",
    "Gap",
    "HMACHeaderAuth",
    "HMACQueryAuth",
    "HTTPStatusError",
    "LinkedLimitWeightPair",
    "NetworkpypeError",
    "OverflowPolicy",
    "RESTManager",
    "RESTMethod",
    "RESTRequest",
    "RESTResponse",
    "RateLimit",
    "ReceiveBuffer",
    "ReceiveTimeoutError",
    "ReconnectPolicy",
    "ReconnectingError",
    "RetryBudget",
    "RetryPolicy",
    "ServerLimits",
    "SignedParts",
    "TimeSynchronizer",
    "Token",
    "TokenAuth",
    "TransportError",
    "UnknownLimitError",
    "WebSocketBinaryRequest",
    "WebSocketClosedError",
    "WebSocketJSONRequest",
    "WebSocketManager",
    "WebSocketPlainTextRequest",
    "WebSocketRequest",
    "WebSocketResponse",
)
