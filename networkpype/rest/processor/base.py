"""Base classes of pre-processors and post-processors."""

from abc import ABC, abstractmethod

from networkpype.rest.request import RESTRequest
from networkpype.rest.response import RESTResponse

__all__ = ("RESTPostProcessor", "RESTPreProcessor")


class RESTPreProcessor(ABC):
    """A step between the admission by a limit and the auth."""

    async def before_admission(self) -> None:  # noqa: B027  (optional by intent)
        """Send requests that the preparation needs, before the limit admits this one.

        A request that waits for another one while it holds capacity may deadlock, because the
        other one may need that capacity.
        """

    @abstractmethod
    async def pre_process(self, request: RESTRequest) -> RESTRequest:
        """Return the request to send: `request`, changed or not, or another one."""


class RESTPostProcessor(ABC):
    """A step after the head of a response has arrived."""

    @abstractmethod
    async def post_process(self, response: RESTResponse) -> RESTResponse:
        """Return the response for the caller: `response` or another one."""
