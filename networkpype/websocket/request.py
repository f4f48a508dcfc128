"""Messages to send over a WebSocket."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = (
    "MessageSender",
    "WebSocketBinaryRequest",
    "WebSocketJSONRequest",
    "WebSocketPlainTextRequest",
    "WebSocketRequest",
)


class MessageSender(Protocol):
    """The methods of a connection that a request uses."""

    async def send_json(self, payload: Any) -> None:
        """Send `payload` as text, encoded by the connection's JSON codec."""

    async def send_text(self, text: str) -> None:
        """Send a text message."""

    async def send_bytes(self, data: bytes) -> None:
        """Send a binary message."""


@dataclass
class WebSocketRequest(ABC):
    """A message to send; a subclass defines its form.

    `throttler_limit_id` names the limit that it waits for, if the manager has a throttler.
    """

    payload: Any
    throttler_limit_id: str | None = None
    is_auth_required: bool = False

    @abstractmethod
    async def send_with_connection(self, connection: MessageSender) -> None:
        """Send this request over `connection`."""


@dataclass
class WebSocketJSONRequest(WebSocketRequest):
    """A JSON message."""

    payload: Mapping[str, Any]

    async def send_with_connection(self, connection: MessageSender) -> None:
        """Send the payload as JSON text."""
        await connection.send_json(self.payload)


@dataclass
class WebSocketPlainTextRequest(WebSocketRequest):
    """A text message, sent unchanged."""

    payload: str

    async def send_with_connection(self, connection: MessageSender) -> None:
        """Send the payload as text."""
        await connection.send_text(self.payload)


@dataclass
class WebSocketBinaryRequest(WebSocketRequest):
    """A binary message, sent unchanged."""

    payload: bytes

    async def send_with_connection(self, connection: MessageSender) -> None:
        """Send the payload as bytes."""
        await connection.send_bytes(self.payload)
