"""`Limits`: what a client may cost a server, every default in one place.

Where the numbers come from is told in docs/explanation/security.md.
"""

import dataclasses
import ipaddress
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiorest_ws.exceptions import ImproperlyConfigured

__all__ = ("UNIX_SOCKET", "Limits")

# A name among `trusted_proxies` for who connects by a Unix socket.
UNIX_SOCKET = "unix"

# A `*.` in front stands for any name before the rest.
_HOST = re.compile(r"(\*\.)?[^\s:/?#@\[\]\\,*]+|\[[0-9A-Fa-f:.]+\]")
_ORIGIN = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]*://(?:{_HOST.pattern})(:\d{{1,5}})?")

KiB = 1024
MiB = 1024 * KiB

# Descriptors that a server needs for other things than its clients.
_SPARE_DESCRIPTORS = 100
_WITHOUT_RLIMIT = 1000


def _limit(default: Any, words: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": words})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a server; None is none. Raises ImproperlyConfigured for one that cannot be."""

    message_bytes: int = _limit(
        MiB, "largest message after inflation, in (1009) and out (that call: 413)"
    )
    messages_per_second: float | None = _limit(
        None, "messages of one connection: 429, then closed with 1008"
    )

    handshake_bytes: int = _limit(16 * KiB, "HTTP request of a handshake (431)")
    handshake_seconds: float = _limit(5, "time for a handshake")
    early_bytes: int = _limit(64 * KiB, "what may come while onConnect decides")
    connections: int | None = _limit(
        None, "connections in all (503); by default the soft RLIMIT_NOFILE less 100"
    )
    connections_per_address: int | None = _limit(None, "connections of one address (503)")
    allowed_origins: tuple[str, ...] = _limit(
        (),
        "origins besides the host's own: https://app.example.com, https://*.example.com, *, null",
    )
    allowed_hosts: tuple[str, ...] | None = _limit(
        None,
        "what Host may be, but for its port: any by default, and this machine's own names on a "
        "server that is bound to loopback",
    )
    trusted_proxies: tuple[str, ...] = _limit(
        (), "networks whose X-Forwarded-For is believed, `unix` for a Unix socket"
    )

    ping_seconds: float = _limit(20, "time between pings, 0 for none")
    pong_seconds: float = _limit(20, "time for the answer to a ping, 0 for any")
    closing_seconds: float = _limit(5, "time for a closing handshake")
    calls_in_flight: int = _limit(64, "calls of one connection that run")
    waiting_bytes: int = _limit(256 * KiB, "messages that wait for one to end; more are not read")
    call_seconds: float | None = _limit(None, "time for a call (408)")
    streams: int = _limit(32, "streams of one connection that are open (429)")
    subscriptions: int = _limit(128, "subscriptions of one connection (429)")
    unsent_pause_bytes: int = _limit(
        64 * KiB, "replies that a client has not read, above which it is not read from"
    )
    unsent_bytes: int = _limit(16 * MiB, "the same, above which it is aborted")
    unsent_seconds: float = _limit(30, "time in which such a client has to read something")
    unsent_bytes_in_all: int = _limit(
        256 * MiB, "the same of all clients; the one with most is aborted"
    )
    push_bytes: int = _limit(
        MiB, "pushes that wait for a client that does not read; then the topic's policy"
    )
    history_bytes: int = _limit(MiB, "data that is kept of a topic")
    history_seconds: float = _limit(300, "how long it is kept")
    messages_per_second_per_user: float | None = _limit(
        None, "messages of one user (of one address without a user), in all processes: 429"
    )

    drain_seconds: float = _limit(30, "time for running calls when the server stops")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None:
                if field.default is not None:
                    raise self._wrong(field.name, "must be given")
            elif "tuple" in str(field.type):
                object.__setattr__(self, field.name, self._checked_names(field.name, value))
            else:
                self._check_number(field.name, value, is_whole="float" not in str(field.type))
        for origin in self.allowed_origins:
            if origin not in ("*", "null") and not _ORIGIN.fullmatch(origin):
                raise self._wrong("allowed_origins", "must be like https://app.example.com")
        for host in self.allowed_hosts or ():
            if host != "*" and not _HOST.fullmatch(host):
                raise self._wrong("allowed_hosts", "must be names without a port")
        for network in self.trusted_proxies:
            if network == UNIX_SOCKET:
                continue
            try:
                ipaddress.ip_network(network)
            except ValueError:
                raise self._wrong("trusted_proxies", "must be addresses or networks") from None

    @classmethod
    def options(cls) -> list[tuple[str, str, str]]:
        """Return the name, the default and the meaning of each, for a command line."""
        return [
            (field.name, _as_text(field.default), field.metadata["help"])
            for field in dataclasses.fields(cls)
        ]

    @classmethod
    def from_texts(cls, given: Mapping[str, str]) -> "Limits":
        """Return limits from the texts of a command line, sequences with commas."""
        kinds = {field.name: str(field.type) for field in dataclasses.fields(cls)}
        return cls(**{name: _from_text(name, kinds[name], text) for name, text in given.items()})

    @property
    def stop_seconds(self) -> float:
        """The time in which a server stops, before its process is ended."""
        return self.drain_seconds + 2 * self.closing_seconds

    def connections_at_most(self) -> int:
        """Return how many connections there may be in all."""
        return _connections_of_this_process() if self.connections is None else self.connections

    def _check_number(self, name: str, value: Any, *, is_whole: bool) -> None:
        kinds = (int,) if is_whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
            raise self._wrong(name, f"must be {'an integer' if is_whole else 'a number'}")
        may_be_zero = name in ("ping_seconds", "pong_seconds", "drain_seconds", "waiting_bytes")
        if value < 0 or (value == 0 and not may_be_zero):
            raise self._wrong(name, "must not be negative" if may_be_zero else "must be above 0")

    def _checked_names(self, name: str, value: Any) -> tuple[str, ...]:
        # A string is made of strings, too.
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise self._wrong(name, "must be a sequence of strings")
        names = tuple(value)
        if not all(isinstance(one, str) and one for one in names):
            raise self._wrong(name, "must be a sequence of strings")
        return names

    def _wrong(self, name: str, what: str) -> ImproperlyConfigured:
        return ImproperlyConfigured(f"{name} {what}, not {getattr(self, name)!r}.")


def _as_text(value: Any) -> str:
    if value is None:
        return "none"
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _from_text(name: str, kind: str, text: str) -> Any:
    if text == "none" and "None" in kind:
        return None
    if "tuple" in kind:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        return float(text) if "float" in kind else int(text)
    except ValueError:
        wanted = "a number" if "float" in kind else "an integer"
        raise ImproperlyConfigured(f"{name} must be {wanted}, not {text!r}.") from None


def _connections_of_this_process() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return _WITHOUT_RLIMIT
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 2**31
    return max(soft - _SPARE_DESCRIPTORS, 1)
