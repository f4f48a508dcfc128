"""TLS that follows its files: what new handshakes use, and a context of a program's own."""

import os
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.log import logger

__all__ = ("TLS", "OwnContext", "Renewed")

Value = TypeVar("Value")

FilePath = str | os.PathLike[str]


class TLS(Protocol):
    """What an endpoint inside TLS is made with."""

    def for_loop(self) -> Callable[[], ssl.SSLContext]:
        """Return a function for the context of the next handshake, for asyncio's TLS."""

    def for_twisted(self) -> Any:
        """Return what Twisted's TLS takes: an object with `getContext`."""


class Renewed(Generic[Value]):
    """What `make` has made of files; it is made anew when one of them has changed.

    Files that cannot be used are logged, and what was made before stays.
    """

    def __init__(
        self, paths: Sequence[FilePath], make: Callable[[], Value], first: Value | None = None
    ) -> None:
        self._paths = paths
        self._make = make
        self._seen = self._state()
        self._value = make() if first is None else first

    def __call__(self) -> Value:
        """Return the value for the files as they are now."""
        seen = self._state()
        if seen != self._seen:
            # Looked at before they are read: a file that changes meanwhile is read again.
            self._seen = seen
            names = ", ".join(str(path) for path in self._paths)
            try:
                self._value = self._make()
            except Exception as exc:  # noqa: BLE001  the server goes on
                shown = None if isinstance(exc, ImproperlyConfigured) else exc
                logger.error("the files of before stay in use: %s", exc, exc_info=shown)
            else:
                logger.info("new TLS handshakes use the files that have changed: %s", names)
        return self._value

    def _state(self) -> list[tuple[int, int, int] | None]:
        return [_state_of(path) for path in self._paths]


def _state_of(path: FilePath) -> tuple[int, int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class OwnContext:
    """A context that a program makes, anew when one of `paths` has changed."""

    def __init__(
        self,
        make: Callable[[], ssl.SSLContext],
        paths: Sequence[FilePath],
        first: ssl.SSLContext,
    ) -> None:
        self._make = make
        self._paths = paths
        self._first = first

    def for_loop(self) -> Callable[[], ssl.SSLContext]:
        """Return a function for the context of the next handshake."""
        return Renewed(self._paths, self._make, self._first)

    def for_twisted(self) -> Any:
        """Raise ImproperlyConfigured: Twisted's TLS takes no SSLContext."""
        raise ImproperlyConfigured(
            "`_get_ssl_context` is overridden, which needs the asyncio reactor: give "
            "ssl_ca_certs and ssl_keyfile_password, or an endpoint of Twisted's."
        )
