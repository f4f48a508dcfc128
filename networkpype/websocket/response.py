"""Messages received over a WebSocket."""

from dataclasses import dataclass
from typing import Any

__all__ = ("Gap", "WebSocketResponse")


# No slots, so that a post-processor can add attributes.
@dataclass
class WebSocketResponse:
    """A data message: decoded JSON, text that is not JSON, or bytes."""

    data: Any


@dataclass
class Gap(WebSocketResponse):
    """Marks a reconnection, where messages may be missing.

    Received before the first message of the new connection; `data` is None. `code` is the close
    code of RFC 6455, section 7.4 (1006 without a close frame), `error` the exception that would be
    raised without a ReconnectPolicy. `attempts` counts the attempts to connect.
    """

    data: None = None
    code: int | None = None
    reason: str = ""
    error: Exception | None = None
    attempts: int = 0
    duration_seconds: float = 0.0
