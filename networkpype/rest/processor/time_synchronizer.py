"""Synchronize with the server's clock before the first request."""

from collections.abc import Awaitable, Callable

from networkpype._single_flight import SingleFlight
from networkpype.rest.processor.base import RESTPreProcessor
from networkpype.rest.request import RESTRequest
from networkpype.time_synchronizer import TimeSynchronizer

__all__ = ("TimeSynchronizerRESTPreProcessor",)


class TimeSynchronizerRESTPreProcessor(RESTPreProcessor):
    """Take a first sample of the server's time; concurrent requests wait for it.

    `time_provider` returns an awaitable of milliseconds. It may use the same manager; its own
    requests do not wait. If it raises, all waiting requests raise the same error, and the next
    request tries again.
    """

    def __init__(
        self, synchronizer: TimeSynchronizer, time_provider: Callable[[], Awaitable[float]]
    ) -> None:
        self._synchronizer = synchronizer
        self._time_provider = time_provider
        self._flight = SingleFlight(self._take_sample)

    async def before_admission(self) -> None:
        """Take the sample if there is none and the caller is not already taking it."""
        if not self._synchronizer.is_initialized and not self._flight.is_inside():
            await self._flight.join()

    async def pre_process(self, request: RESTRequest) -> RESTRequest:
        """Return the request unchanged."""
        await self.before_admission()
        return request

    async def _take_sample(self) -> None:
        await self._synchronizer.update_server_time_if_not_initialized(self._time_provider())
