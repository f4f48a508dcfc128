"""What pre-processors and post-processors must offer."""

from abc import ABC, abstractmethod

from networkpype.rest.request import RESTRequest
from networkpype.rest.response import RESTResponse

__all__ = ("RESTPostProcessor", "RESTPreProcessor")


class RESTPreProcessor(ABC):
    """A step between a limit's admission and the auth."""

    async def before_admission(self) -> None:  # noqa: B027  (optional by intent)
        """Do what takes requests of its own, before the limit admits this one.

        A request that waits for another one while it holds capacity may hold the capacity that
        the other one needs.
        """

    @abstractmethod
    async def pre_process(self, request: RESTRequest) -> RESTRequest:
        """Return the request to send: `request`, which may be changed, or another one."""


class RESTPostProcessor(ABC):
    """A step after the head of a response has arrived."""

    @abstractmethod
    async def post_process(self, response: RESTResponse) -> RESTResponse:
        """Return the response to hand out: `response` or another one."""
