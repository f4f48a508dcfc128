"""One client's socket: what a connection is made of.

`RequestHandlerProtocol` puts it together.
"""

from aiorest_ws.connection.access_log import AccessLog
from aiorest_ws.connection.callbacks import DONE
from aiorest_ws.connection.calls import close_dependencies, is_urgent
from aiorest_ws.connection.closing import Closing, check_accepted
from aiorest_ws.connection.connect_hooks import (
    ConnectionHook,
    run_connect_hooks,
    run_disconnect_hooks,
)
from aiorest_ws.connection.factory_options import OPTIONS, unknown_option
from aiorest_ws.connection.flow import FlowProtocol
from aiorest_ws.connection.flow_state import DRAINING, FlowState
from aiorest_ws.connection.replies import encode_reply, too_large_reply
from aiorest_ws.connection.routing import RoutingFactory
from aiorest_ws.connection.state import CloseReason, ConnectionState

__all__ = (
    "DONE",
    "DRAINING",
    "OPTIONS",
    "AccessLog",
    "CloseReason",
    "Closing",
    "ConnectionHook",
    "ConnectionState",
    "FlowProtocol",
    "FlowState",
    "RoutingFactory",
    "check_accepted",
    "close_dependencies",
    "encode_reply",
    "is_urgent",
    "run_connect_hooks",
    "run_disconnect_hooks",
    "too_large_reply",
    "unknown_option",
)
