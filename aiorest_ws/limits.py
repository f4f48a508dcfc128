"""`Limits`: what a client may cost a server. Every default is set here.

The reasons for the numbers are in docs/explanation/security.md.
"""

import dataclasses
import ipaddress
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from aiorest_ws.exceptions import ImproperlyConfigured

__all__ = ("UNIX_SOCKET", "Limits")

# The name in `trusted_proxies` of a client that connects by a Unix socket.
UNIX_SOCKET = "unix"

# A `*.` at the start stands for any labels before the rest.
_HOST = re.compile(r"(\*\.)?[^\s:/?#@\[\]\\,*]+|\[[0-9A-Fa-f:.]+\]")
_ORIGIN = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]*://(?:{_HOST.pattern})(:\d{{1,5}})?")

KiB = 1024
MiB = 1024 * KiB

# File descriptors that a server needs besides those of its connections.
_SPARE_DESCRIPTORS = 100
_CONNECTIONS_WITHOUT_RLIMIT = 1000


class _Converter(Protocol):
    """Reads and checks the values of one kind; raises ValueError with what is wrong."""

    def from_text(self, text: str) -> Any:
        """Return the value of a text of the command line."""

    def checked(self, value: Any) -> Any:
        """Return a value that a program has given, as it is stored."""


@dataclass(frozen=True)
class _Number:
    type: type[int] | type[float]
    may_be_zero: bool = False

    @property
    def _requirement(self) -> str:
        return "must be an integer" if self.type is int else "must be a number"

    def from_text(self, text: str) -> float:
        try:
            return self.type(text)
        except ValueError:
            raise ValueError(self._requirement) from None

    def checked(self, value: Any) -> Any:
        types = (int,) if self.type is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, types) or not math.isfinite(value):
            raise ValueError(self._requirement)
        if value < 0 or (value == 0 and not self.may_be_zero):
            raise ValueError("must not be negative" if self.may_be_zero else "must be above 0")
        return value


@dataclass(frozen=True)
class _Names:
    check: Callable[[str], None]

    def from_text(self, text: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in text.split(",") if part.strip())

    def checked(self, value: Any) -> tuple[str, ...]:
        # A string is an iterable of strings too.
        is_sequence = isinstance(value, Iterable) and not isinstance(value, str)
        names = tuple(value) if is_sequence else ()
        if not is_sequence or not all(isinstance(one, str) and one for one in names):
            raise ValueError("must be a sequence of strings")
        for name in names:
            self.check(name)
        return names


@dataclass(frozen=True)
class _Range:
    """Two integers, such as `250-5000`."""

    def from_text(self, text: str) -> tuple[int, ...]:
        try:
            return tuple(map(int, text.split("-")))
        except ValueError:
            raise ValueError("must be like 250-5000") from None

    def checked(self, value: Any) -> tuple[int, int]:
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise ValueError("must be two integers")
        first, last = map(_INTEGER_OR_ZERO.checked, value)
        if not first <= last < 10**9:
            raise ValueError("must be in order, and below 1,000,000,000")
        return first, last


def _check_origin(origin: str) -> None:
    if origin not in ("*", "null") and not _ORIGIN.fullmatch(origin):
        raise ValueError("must be like https://app.example.com")


def _check_host(host: str) -> None:
    if host != "*" and not _HOST.fullmatch(host):
        raise ValueError("must be names without a port")


def _check_network(network: str) -> None:
    if network == UNIX_SOCKET:
        return
    try:
        ipaddress.ip_network(network)
    except ValueError:
        raise ValueError("must be addresses or networks") from None


_INTEGER = _Number(int)
_INTEGER_OR_ZERO = _Number(int, may_be_zero=True)
_NUMBER = _Number(float)
_NUMBER_OR_ZERO = _Number(float, may_be_zero=True)
_ORIGINS = _Names(_check_origin)
_HOSTS = _Names(_check_host)
_NETWORKS = _Names(_check_network)


def _limit(converter: _Converter, default: Any, meaning: str) -> Any:
    metadata = {"converter": converter, "help": meaning}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a server. None means no limit, where it is allowed.

    Raises ImproperlyConfigured for an invalid value.
    """

    message_bytes: int = _limit(
        _INTEGER, MiB, "largest message, inflated; received: closed with 1009, sent: 413"
    )
    messages_per_second: float | None = _limit(
        _NUMBER, None, "messages of one connection: 429, then closed with 1008"
    )

    handshake_bytes: int = _limit(_INTEGER, 16 * KiB, "HTTP request of a handshake (431)")
    handshake_seconds: float = _limit(_NUMBER, 5, "time for a handshake")
    early_bytes: int = _limit(_INTEGER, 64 * KiB, "bytes received while onConnect decides")
    connections: int | None = _limit(
        _INTEGER, None, "connections in all (503); by default the soft RLIMIT_NOFILE less 100"
    )
    connections_per_address: int | None = _limit(
        _INTEGER, None, "connections of one address (503)"
    )
    allowed_origins: tuple[str, ...] = _limit(
        _ORIGINS,
        (),
        "origins besides the host's own: https://app.example.com, https://*.example.com, *, null",
    )
    allowed_hosts: tuple[str, ...] | None = _limit(
        _HOSTS,
        None,
        "allowed values of Host, without the port; by default any, and on a server bound to "
        "loopback only the names of this machine",
    )
    trusted_proxies: tuple[str, ...] = _limit(
        _NETWORKS, (), "networks whose X-Forwarded-For is trusted; `unix` for a Unix socket"
    )

    ping_seconds: float = _limit(_NUMBER_OR_ZERO, 20, "time between pings, 0 for none")
    pong_seconds: float = _limit(_NUMBER_OR_ZERO, 20, "time for the pong, 0 for no limit")
    closing_seconds: float = _limit(_NUMBER, 5, "time for a closing handshake")
    calls_in_flight: int = _limit(_INTEGER, 64, "running calls of one connection")
    waiting_bytes: int = _limit(
        _INTEGER_OR_ZERO, 256 * KiB, "messages queued for such a call to end; then reading pauses"
    )
    blocking_per_connection: int | None = _limit(
        _INTEGER, None, "threads for the blocking calls of one connection; by default half of them"
    )
    call_seconds: float | None = _limit(_NUMBER, None, "time for a call (408)")
    streams: int = _limit(_INTEGER, 32, "open streams of one connection (429)")
    subscriptions: int = _limit(_INTEGER, 128, "subscriptions of one connection (429)")
    unsent_pause_bytes: int = _limit(
        _INTEGER, 64 * KiB, "unread replies of one client; above it reading from it pauses"
    )
    unsent_bytes: int = _limit(
        _INTEGER, 16 * MiB, "unread replies of one client; above it the connection is aborted"
    )
    unsent_seconds: float = _limit(_NUMBER, 30, "time in which such a client must read something")
    unsent_bytes_in_all: int = _limit(
        _INTEGER, 256 * MiB, "unread replies of all clients; the one with most is aborted"
    )
    push_bytes: int = _limit(
        _INTEGER, MiB, "queued pushes of one client; then the policy of the topic applies"
    )
    presence_bytes: int = _limit(
        _INTEGER, KiB, "presence_info of one subscription, as JSON; above it SUBSCRIBE: 413"
    )
    history_bytes: int = _limit(_INTEGER, MiB, "data in the history of a topic")
    history_seconds: float = _limit(_NUMBER, 300, "age of messages in the history of a topic")
    messages_per_second_per_user: float | None = _limit(
        _NUMBER,
        None,
        "messages of one user (of one address without a user), in all processes: 429",
    )

    drain_seconds: float = _limit(
        _NUMBER_OR_ZERO, 30, "time for running calls when the server stops"
    )
    reconnect_milliseconds: tuple[int, int] = _limit(
        _Range(),
        (250, 5000),
        "when clients connect again, at random, after the server has stopped",
    )
    blocked_seconds: float | None = _limit(
        _NUMBER, None, "time that the loop of a worker may be blocked; then it is replaced"
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None:
                if field.default is not None:
                    raise _invalid(field.name, "must be given", value)
                continue
            try:
                checked = field.metadata["converter"].checked(value)
            except ValueError as exc:
                raise _invalid(field.name, str(exc), value) from None
            object.__setattr__(self, field.name, checked)

    @classmethod
    def options(cls) -> list[tuple[str, str, str]]:
        """Return the name, the default and the meaning of each limit, for a command line."""
        return [
            (field.name, _as_text(field.default), field.metadata["help"])
            for field in dataclasses.fields(cls)
        ]

    @classmethod
    def from_texts(cls, given: Mapping[str, str]) -> "Limits":
        """Return limits from texts of a command line; sequences are separated by commas."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        return cls(**{name: _from_text(fields[name], text) for name, text in given.items()})

    @property
    def stop_seconds(self) -> float:
        """The time in which a server stops; after that its process is ended."""
        return self.drain_seconds + 2 * self.closing_seconds

    @property
    def restart_reason(self) -> bytes:
        """What a connection is closed with when the server stops."""
        return b"retry %d-%d" % self.reconnect_milliseconds

    def connections_at_most(self) -> int:
        """Return the largest number of connections: `connections`, or what the process allows."""
        return _connections_of_this_process() if self.connections is None else self.connections


def _invalid(name: str, requirement: str, value: Any) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{name} {requirement}, not {value!r}.")


def _as_text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return (
            "-".join(map(str, value)) if value and isinstance(value[0], int) else ",".join(value)
        )
    return str(value)


def _from_text(field: "dataclasses.Field[Any]", text: str) -> Any:
    if text == "none" and field.default is None:
        return None
    try:
        return field.metadata["converter"].from_text(text)
    except ValueError as exc:
        raise _invalid(field.name, str(exc), text) from None


def _connections_of_this_process() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return _CONNECTIONS_WITHOUT_RLIMIT
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 2**31
    return max(soft - _SPARE_DESCRIPTORS, 1)
