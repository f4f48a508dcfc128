"""The state of a connection, and why it ended."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

__all__ = ("CloseReason", "ConnectionState")


@dataclass(frozen=True, slots=True)
class CloseReason:
    """Why a connection ended: what Autobahn passes to `onClose`.

    `code` is None when the TCP connection was lost without a closing handshake.
    """

    was_clean: bool
    code: int | None
    reason: str | None


class ConnectionState(int):
    """Autobahn's number of a connection's state, and a namespace for what belongs to one client.

    Autobahn owns `protocol.state`, and it is where an application looks for its own: so the
    number carries attributes (`connection.state.user_id = 7`), which outlive its changes.
    """

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...
