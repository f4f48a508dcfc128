"""What pre-processors and post-processors must offer."""

from abc import ABC, abstractmethod

from networkpype.websocket.request import WebSocketRequest
from networkpype.websocket.response import WebSocketResponse

__all__ = ("WebSocketPostProcessor", "WebSocketPreProcessor")


class WebSocketPreProcessor(ABC):
    """A step between a limit's admission and the auth."""

    async def before_admission(self) -> None:  # noqa: B027  (optional by intent)
        """Do what takes requests of its own, before the limit admits this one.

        A request that waits for another one while it holds capacity may hold the capacity that
        the other one needs.
        """

    @abstractmethod
    async def pre_process(self, request: WebSocketRequest) -> WebSocketRequest:
        """Return the request to send: `request`, which may be changed, or another one."""


class WebSocketPostProcessor(ABC):
    """A step between the arrival of a message and the one who receives it."""

    @abstractmethod
    async def post_process(self, response: WebSocketResponse) -> WebSocketResponse:
        """Return the response to hand out: `response` or another one."""
