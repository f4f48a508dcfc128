"""What the parts of a server need of a connection, without knowing its class."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from aiorest_ws.wrappers import Request

__all__ = ("Connection",)


class Connection(Protocol):
    """One client's connection: `RequestHandlerProtocol` is one."""

    STATE_CONNECTING: int
    STATE_OPEN: int
    factory: Any
    maxMessagePayloadSize: int
    transport: Any

    @property
    def peer(self) -> str:
        """The address of the client, for the log."""

    @property
    def state(self) -> int:
        """The state of the WebSocket, in Autobahn's numbers."""

    # The opening handshake

    http_request_data: bytes

    @property
    def http_status_line(self) -> str:
        """The first line of the request."""

    @property
    def http_headers(self) -> dict[str, str]:
        """The headers, their names in lower case."""

    # Flow control

    @property
    def accepts_calls(self) -> bool:
        """Whether calls are answered: it is open, and the server does not stop."""

    @property
    def is_write_paused(self) -> bool:
        """Whether the client has not read what it was sent."""

    @property
    def is_read_paused(self) -> bool:
        """Whether the server does not read from the client, for as long as it takes."""

    @property
    def sent_bytes(self) -> int:
        """The bytes that the system has taken."""

    @property
    def unsent_bytes(self) -> int:
        """The bytes that have been sent, and that the system has not taken."""

    def writable(self) -> Deferred[None]:
        """Return a Deferred that fires when the client has read what it was sent, or is gone."""

    def abort_slow_client(self, limit: str, words: str) -> None:
        """Abort the connection, which is over a limit."""

    def abort_connection(self) -> None:
        """Close the connection at once; what is not sent is lost."""

    def sendPing(self) -> None:
        """Send a ping."""

    @property
    def running(self) -> list[Request | None]:
        """The requests that are still to be answered; None for an `onMessage` that waits."""

    def drain(self) -> None:
        """Answer new calls with 503."""

    def cut_calls(
        self, requests: Sequence[Request | None], detail: str, *, are_streams: bool
    ) -> int:
        """Answer calls that run with 503, and cancel them; return how many they were."""

    def finish(self, code: int, reason: bytes | None) -> None:
        """Answer all that has been read, and send the close frame."""

    def start_queueing(self) -> None:
        """Queue new messages."""

    # Replies

    def answer_call(
        self, request: Request | None, reply: Any, is_binary: bool, seconds_left: float | None
    ) -> None:
        """Send a reply, or start a stream."""

    def send_call_reply(self, request: Request | None, reply: Any, is_binary: bool) -> Any:
        """Send a reply; return what was sent, before it was encoded, or None: it is closed."""

    def log_call_reply(self, request: Request | None, size: int) -> None:
        """Log that a request was answered with `size` bytes."""

    def corked(self) -> AbstractContextManager[None]:
        """Delay what is sent in the block, and write it at once at its end."""

    def write_corked(self) -> None:
        """Write what was delayed so far."""

    def call_ended(self, request: Request) -> None:
        """Note that a call has been answered, or failed."""

    def note_handling(self, pending: Deferred[Any]) -> None:
        """Count what waits as a call that runs, until it ends."""

    def resume_calls(self) -> None:
        """Handle messages that have waited for a call to end."""

    def forget_calls(self) -> None:
        """Free the memory of calls: none is running."""

    # Pushes

    def push_frame(self, frame: bytes, size: int) -> bool:
        """Send a frame made for many connections; return False if it does not fit this one."""

    def forget_subscriptions(self) -> None:
        """Free the memory of subscriptions: there are none."""

    def sendMessage(self, payload: bytes, isBinary: bool) -> None:
        """Send a message."""

    def sendCloseFrame(self, code: int, reasonUtf8: bytes | None, isReply: bool) -> None:
        """Start the closing handshake."""
