from networkpype import (
    AsyncThrottler,
    ConnectionManagersFactory,
    RateLimit,
    RESTMethod,
    RESTRequest,
)
from networkpype.rest.processor.base import RESTPostProcessor, RESTPreProcessor
from networkpype.websocket.processor.base import (
    WebSocketPostProcessor,
    WebSocketPreProcessor,
)


class BaseURL(RESTPreProcessor):
    """Build `url` from `endpoint_url`, so that only this class knows the host."""

    def __init__(self, base_url):
        self._base_url = base_url

    async def pre_process(self, request):
        if request.url is None:
            request.url = f"{self._base_url}{request.endpoint_url}"
        return request


class CountStatuses(RESTPostProcessor):
    def __init__(self):
        self.counts = {}

    async def post_process(self, response):
        self.counts[response.status] = self.counts.get(response.status, 0) + 1
        return response


class Number(WebSocketPreProcessor):
    """Add an id to each message."""

    def __init__(self):
        self._last = 0

    async def pre_process(self, request):
        self._last += 1
        request.payload = {**request.payload, "id": self._last}
        return request


class Unwrap(WebSocketPostProcessor):
    """Return the content of the envelope."""

    async def post_process(self, response):
        response.data = response.data["payload"]
        return response


def make_factory(url, statuses):
    return ConnectionManagersFactory(
        AsyncThrottler([RateLimit("api", limit=100, time_interval=1)]),
        rest_pre_processors=[BaseURL(url)],
        rest_post_processors=[statuses],
        ws_pre_processors=[Number()],
        ws_post_processors=[Unwrap()],
    )


async def get(factory, path):
    manager = await factory.get_rest_manager()
    request = RESTRequest(RESTMethod.GET, endpoint_url=path, throttler_limit_id="api")
    async with await manager.call(request, timeout=10) as response:
        return await response.json()
