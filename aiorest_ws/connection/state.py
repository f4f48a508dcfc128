"""The state of a connection, which is also a namespace for the application."""

from typing import TYPE_CHECKING, Any

__all__ = ("ConnectionState",)


class ConnectionState(int):
    """Autobahn's number of a connection's state, and a namespace for what belongs to one client.

    Autobahn owns `protocol.state`, and it is where an application looks for its own: so the
    number carries attributes (`connection.state.user_id = 7`), which outlive its changes.
    """

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...
