"""Know the server's time before the first request needs it."""

from collections.abc import Awaitable, Callable

from networkpype._single_flight import SingleFlight
from networkpype.rest.processor.base import RESTPreProcessor
from networkpype.rest.request import RESTRequest
from networkpype.time_synchronizer import TimeSynchronizer

__all__ = ("TimeSynchronizerRESTPreProcessor",)


class TimeSynchronizerRESTPreProcessor(RESTPreProcessor):
    """Take a first sample of the server's time; the requests that come meanwhile wait for it.

    `time_provider` returns an awaitable of milliseconds. It may use the same manager: its own
    requests pass. What it raises is raised by every request that waited; the next one tries anew.
    """

    def __init__(
        self, synchronizer: TimeSynchronizer, time_provider: Callable[[], Awaitable[float]]
    ) -> None:
        self._synchronizer = synchronizer
        self._time_provider = time_provider
        self._flight = SingleFlight(self._take_sample)

    async def before_admission(self) -> None:
        """Take the sample, unless that is done or the caller is doing it."""
        if not self._synchronizer.is_initialized and not self._flight.is_inside():
            await self._flight.join()

    async def pre_process(self, request: RESTRequest) -> RESTRequest:
        """Return the request as it is."""
        await self.before_admission()
        return request

    async def _take_sample(self) -> None:
        await self._synchronizer.update_server_time_if_not_initialized(self._time_provider())
