"""The request of an opening handshake, checked before anything interprets it.

Autobahn splits a request with `str.splitlines`, which knows more line ends than HTTP, so a proxy
in front of it may have seen other headers (CVE-2026-44546). What is not HTTP to the
letter never gets that far. The values that an application sees are those parsed here.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from urllib.parse import unquote

__all__ = (
    "HeadOfRequest",
    "Networks",
    "canonical_address",
    "early_fault",
    "fits_host",
    "fits_origin",
    "for_autobahn",
    "forwarded_address",
    "is_in",
    "is_same_origin",
    "name_in_host",
)

Networks = Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]

# RFC 9112, 2 and 5: a request line, and fields whose names are tokens (RFC 9110, 5.6.2). A line of
# a field has no blank before its colon and does not go on in the next one. A value may have bytes
# of 80 to FF, in UTF-8 for example.
_HEAD = re.compile(
    r"[^\x00-\x1f\x7f\x85]*+\r\n"
    r"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[^\x00-\x08\x0a-\x1f\x7f]*+\r\n)*+\r\n"
)
# The path may follow a scheme and a host (RFC 9112, 3.2.2).
_PLAIN = re.compile(r"(?:GET|HEAD) (?:https?://[^/? ]*)?([^? ]*)[? ]")
_FIELD = re.compile(r"\r\n([^:]++):[ \t]*+([^\r]*+)")
_FORBIDDEN = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?=[^\n])|(?<!\r)\n")

# Autobahn splits lines at 85, and strips A0. The substitute has no meaning in a URL, a number or
# base64, and is part of a token.
_FOR_AUTOBAHN = bytes.maketrans(b"\x85\xa0", b"~~")

# With a zone, an address is one of a link, such as [fe80::1%eth0].
_HOST = re.compile(r"(\[[0-9a-f:.]+(?:%[^\s\]]+)?\]|[^\s:/?#@\[\]\\,]+)(?::(\d{1,5})?)?", re.ASCII)
_ORIGIN = re.compile(
    r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[^\s:/?#@\[\]\\,]+)(?::(\d{1,5}))?", re.ASCII
)
_DEFAULT_PORTS = {"http": "80", "https": "443"}

_ONCE = ("host", "origin", "sec-websocket-key", "sec-websocket-version")

# RFC 9113, 8.2.3: cookies are no list. All other fields that may be repeated are.
_SEPARATORS = {"cookie": "; "}


def early_fault(data: bytes, begin: int) -> str | None:
    """Say what is wrong with the part of a request that begins at `begin`, or return None."""
    end_of_line = data.find(b"\n")
    has_next_line = data.find(b"\x85", begin, len(data) if end_of_line < 0 else end_of_line) >= 0
    if has_next_line or _FORBIDDEN.search(data, begin):
        return "The request has a control character in it, or a line that does not end with CR LF."
    return None


def for_autobahn(head: bytes) -> bytes:
    """Return a head without the bytes that Autobahn takes for ends of lines or blanks."""
    if b"\x85" in head or b"\xa0" in head:
        return head.translate(_FOR_AUTOBAHN)
    return head


class HeadOfRequest:
    """The head of a request. `fault` is what is wrong with it.

    Values have no blanks and tabs around them; bytes of 80 to FF are read as Latin-1.
    """

    __slots__ = ("_fields", "data", "fault")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._fields: dict[str, str] = {}
        self.fault: str | None = None
        text = data.decode("latin-1")
        if not _HEAD.fullmatch(text):
            self.fault = early_fault(data, 0) or "A header of the request is malformed."
            return
        found = _FIELD.findall(text)
        if " \r" in text or "\t\r" in text:
            found = [(name, value.rstrip(" \t")) for name, value in found]
        self._fields = {name.lower(): value for name, value in found}
        if len(self._fields) < len(found):
            self._join_repeated(found)

    def get(self, name: str) -> str | None:
        """Return the value of a field, joined if there are several; `name` is in lower case."""
        return self._fields.get(name)

    def headers(self) -> dict[str, str]:
        """Return the values by names in lower case."""
        return self._fields.copy()

    def asks_for(self, path: str, folder: str) -> bool:
        """Tell whether this is a plain GET or HEAD of a path, and no opening handshake.

        `folder` may be in front of the path, and a slash behind it.
        """
        if "upgrade" in self._fields:
            return False
        match = _PLAIN.match(self.data.decode("latin-1"))
        asked = None if match is None else unquote(match[1]).rstrip("/")
        return asked in (path, unquote(folder).rstrip("/") + path)

    def _join_repeated(self, found: list[tuple[str, str]]) -> None:
        values: dict[str, list[str]] = {}
        for name, value in found:
            values.setdefault(name.lower(), []).append(value)
        for name, several in values.items():
            if len(several) > 1:
                self._fields[name] = _SEPARATORS.get(name, ", ").join(several)
                if name in _ONCE:
                    self.fault = f"The header {name.title()} appears more than once."


def name_in_host(host: str) -> str | None:
    """Return a `Host` without its port; None if it is no name or address (RFC 9112, 3.2).

    An IPv6 address is in brackets.
    """
    match = _HOST.fullmatch(host)
    return None if match is None else match[1].rstrip(".")


def fits_host(name: str, allowed: Iterable[str]) -> bool:
    """Tell whether the name in a `Host` is one of those allowed; `*` and `*.` are for any."""
    return any(_fits(name, pattern.lower().rstrip(".")) for pattern in allowed)


def is_same_origin(origin: str, host: str) -> bool:
    """Tell whether an `Origin` has the host and the port of a `Host`.

    The schemes are not compared, since a proxy may have terminated TLS, but other ones than these
    two belong to applications and extensions, whose hosts have nothing to do with the server's.
    """
    page, server = _ORIGIN.fullmatch(origin), _HOST.fullmatch(host)
    if page is None or server is None or page[1] not in _DEFAULT_PORTS:
        return False
    default = _DEFAULT_PORTS[page[1]]
    return page[2] == server[1] and (page[3] or default) == (server[2] or default)


def fits_origin(origin: str, allowed: Sequence[str]) -> bool:
    """Tell whether an `Origin` is one of those allowed; `https://*.example.com` has many."""
    if "*" in allowed:
        return True
    if not _ORIGIN.fullmatch(origin):
        return False
    scheme, mark, host = origin.partition("://")
    for pattern in allowed:
        theirs, pattern_mark, pattern_host = pattern.lower().partition("://")
        if (scheme, mark) == (theirs, pattern_mark) and _fits(host, pattern_host):
            return True
    return False


def forwarded_address(peer: str, forwarded: str, *, is_trusted: bool, trusted: Networks) -> str:
    """Return the address of the client: the last one in X-Forwarded-For that is not a proxy.

    `peer` is the address of the TCP connection. An untrusted peer's header is ignored.
    """
    address = peer
    hops = [hop.strip(" \t") for hop in forwarded.split(",")]
    for hop in filter(None, reversed(hops)):  # a list may have empty members (RFC 9110, 5.6.1)
        parsed = _parsed(_without_port(hop)) if is_trusted else None
        if parsed is None:
            break
        address = str(parsed)
        is_trusted = is_in(address, trusted)
    return address


def canonical_address(address: str) -> str:
    """Return the one spelling of an IP address; an IPv4 client of an IPv6 socket has its IPv4."""
    parsed = _parsed(address)
    return address if parsed is None else str(parsed)


def is_in(address: str, networks: Networks) -> bool:
    """Tell whether an address is in one of some networks."""
    parsed = _parsed(address.partition("%")[0])  # None for a Unix socket
    return parsed is not None and any(parsed in network for network in networks)


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed


def _fits(name: str, pattern: str) -> bool:
    if pattern.startswith("*."):
        return name.endswith(pattern[1:])
    return pattern in ("*", name)


def _without_port(hop: str) -> str:
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
