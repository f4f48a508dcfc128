"""The client for programs without a loop."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, Unpack

from aiorest_ws.client.api import Client, ConnectOptions, State, connect
from aiorest_ws.client.exchanges import Gap, Message
from aiorest_ws.client.verbs import CallOptions, Verbs

__all__ = ("BlockingClient", "connect_blocking")


class BlockingClient(Verbs[Any]):
    """A `Client` on a loop of its own in a thread; used with `with`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._wait(self._client.__aenter__())
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._wait(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def state(self) -> State:
        """The state of the connection."""
        return self._client.state

    def call(self, method: str, path: str, **options: Unpack[CallOptions]) -> Any:
        """Call and wait; see `Client.call()`."""
        return self._wait(self._client.call(method, path, **options))

    def stream(self, path: str, *, args: Mapping[str, Any] | None = None) -> Iterator[Any]:
        """Yield the items of a stream."""
        return self._iterate(self._client.stream(path, args=args))

    def subscribe(
        self, topic: str, *, since: Mapping[str, Any] | None = None
    ) -> Iterator[Message | Gap]:
        """Yield what is published on `topic`."""
        return self._iterate(self._client.subscribe(topic, since=since))

    def _iterate(self, items: AsyncGenerator[Any, None]) -> Iterator[Any]:
        async def take() -> Any:
            return await anext(items, self)

        try:
            while (item := self._wait(take())) is not self:
                yield item
        finally:
            self._wait(items.aclose())

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result()


def connect_blocking(url: str, **options: Unpack[ConnectOptions]) -> BlockingClient:
    """Return a client to enter with `with`; see `connect()`."""
    return BlockingClient(connect(url, **options))
