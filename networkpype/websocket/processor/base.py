"""Base classes of pre-processors and post-processors."""

from abc import ABC, abstractmethod

from networkpype.websocket.request import WebSocketRequest
from networkpype.websocket.response import WebSocketResponse

__all__ = ("WebSocketPostProcessor", "WebSocketPreProcessor")


class WebSocketPreProcessor(ABC):
    """A step between the admission by a limit and the auth."""

    async def before_admission(self) -> None:  # noqa: B027  (optional by intent)
        """Send requests that the preparation needs, before the limit admits this one.

        A request that waits for another one while it holds capacity may deadlock, because the
        other one may need that capacity.
        """

    @abstractmethod
    async def pre_process(self, request: WebSocketRequest) -> WebSocketRequest:
        """Return the request to send: `request`, changed or not, or another one."""


class WebSocketPostProcessor(ABC):
    """A step between the arrival of a message and its receiver."""

    @abstractmethod
    async def post_process(self, response: WebSocketResponse) -> WebSocketResponse:
        """Return the response for the receiver: `response` or another one."""
