"""What a WebSocket gives out."""

from dataclasses import dataclass
from typing import Any

__all__ = ("Gap", "WebSocketResponse")


# Not slotted: a post-processor may hang fields of its own on it.
@dataclass
class WebSocketResponse:
    """A data message: decoded JSON, the text itself where it is not JSON, or bytes."""

    data: Any


@dataclass
class Gap(WebSocketResponse):
    """The mark that the connection was lost and made again: messages may be missing here.

    It comes before the first message of the new connection; `data` is None. `code` is the close
    code of RFC 6455, section 7.4 (1006 when there was no close frame), `error` what the loss would
    have raised without a ReconnectPolicy. `attempts` counts the connections that were tried.
    """

    data: None = None
    code: int | None = None
    reason: str = ""
    error: Exception | None = None
    attempts: int = 0
    duration_seconds: float = 0.0
