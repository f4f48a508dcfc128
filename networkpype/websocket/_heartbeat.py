"""Heartbeats of the application's own."""

import asyncio
from collections.abc import Awaitable, Callable

from networkpype.exceptions import (
    ClosedError,
    ConfigurationError,
    TransportError,
    WebSocketClosedError,
)
from networkpype.websocket._late_look import LateLook
from networkpype.websocket.request import WebSocketRequest
from networkpype.websocket.response import WebSocketResponse

__all__ = ("Heartbeat", "HeartbeatOptions", "check_heartbeat")

HeartbeatOptions = tuple[
    float,
    WebSocketRequest | Callable[[], Awaitable[None]],
    Callable[[WebSocketResponse], bool],
]
"""Seconds, the request or a coroutine function that sends it, and what tells its answer."""


def check_heartbeat(options: HeartbeatOptions | None) -> None:
    """Raise ConfigurationError for invalid values."""
    if options is None:
        return
    if len(options) != 3 or not options[0] > 0 or not callable(options[2]):
        raise ConfigurationError(
            "A heartbeat is a tuple of seconds above 0, a request, and a function of a response."
        )


class Heartbeat:
    """Call `send` every `seconds`, and `on_dead` if there is no answer by the next time.

    As for pings, silence counts only while a reader waits (`is_waiting`), and only after the loop
    has read what has arrived.
    """

    def __init__(
        self,
        seconds: float,
        send: Callable[[], Awaitable[None]],
        is_answer: Callable[[WebSocketResponse], bool],
        *,
        is_waiting: Callable[[], bool],
        on_dead: Callable[[str], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._seconds = seconds
        self._send = send
        self._is_answer = is_answer
        self._is_waiting = is_waiting
        self._on_dead = on_dead
        self._on_error = on_error
        self._is_unanswered = False

    def takes(self, response: WebSocketResponse) -> bool:
        """Return whether `response` is an answer, which the receiver does not see."""
        is_answer = self._is_answer(response)
        if is_answer:
            self._is_unanswered = False
        return is_answer

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await asyncio.sleep(self._seconds)
            if self._is_overdue():
                await self._read()
            if self._is_overdue():
                self._on_dead(f"No answer to a heartbeat within {self._seconds} s.")
                return
            self._is_unanswered = True
            try:
                await self._send()
            except (ClosedError, TransportError, WebSocketClosedError):
                # The connection is lost, and its reader finds out why.
                self._is_unanswered = False
            except Exception as error:  # noqa: BLE001  (raised by receive())
                self._on_error(error)
                return

    def _is_overdue(self) -> bool:
        return self._is_unanswered and self._is_waiting()

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        look = LateLook(loop, done.set)
        look.start()
        try:
            await done.wait()
        finally:
            look.cancel()
