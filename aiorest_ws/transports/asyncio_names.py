"""asyncio's names of what a transport does, for programs written for 1.1."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

__all__ = ("AsyncioNames",)


class AsyncioNames:
    """The methods of `asyncio.Transport`, for a transport of Twisted's interfaces."""

    __slots__ = ()

    if TYPE_CHECKING:
        TLS: bool
        disconnecting: bool
        _loop_transport: Any
        _is_paused: bool

        @property
        def connected(self) -> bool: ...
        @property
        def unsent_bytes(self) -> int: ...
        def abortConnection(self) -> None: ...
        def loseConnection(self) -> None: ...
        def loseWriteConnection(self) -> None: ...
        def pauseProducing(self) -> None: ...
        def resumeProducing(self) -> None: ...
        def writeSequence(self, data: Iterable[bytes]) -> None: ...

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the loop tells of the connection, such as `peername` or `peercert`."""
        return self._loop_transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Tell whether the connection is closed, or is being closed."""
        return self.disconnecting or not self.connected or bool(self._loop_transport.is_closing())

    def is_reading(self) -> bool:
        """Tell whether the server reads from the client."""
        return not (self._is_paused or self.is_closing())

    def close(self) -> None:
        """Close the connection when everything is written."""
        self.loseConnection()

    def abort(self) -> None:
        """Reset the connection."""
        self.abortConnection()

    def pause_reading(self) -> None:
        """Stop reading."""
        self.pauseProducing()

    def resume_reading(self) -> None:
        """Go on reading."""
        self.resumeProducing()

    def writelines(self, list_of_data: Iterable[bytes]) -> None:
        """Write several pieces."""
        self.writeSequence(list_of_data)

    def can_write_eof(self) -> bool:
        """Tell whether one direction can be closed alone: not inside TLS."""
        return not self.TLS

    def write_eof(self) -> None:
        """Close the direction to the client."""
        self.loseWriteConnection()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait to be passed on to the system."""
        return self.unsent_bytes
