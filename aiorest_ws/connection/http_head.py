"""The request of an opening handshake, checked before anything interprets it.

Autobahn splits a request with `str.splitlines`, which knows more line ends than HTTP, so a proxy
in front of it may have seen other headers (CVE-2026-44546). What is not HTTP to the
letter never gets that far.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence

__all__ = (
    "HeadOfRequest",
    "Networks",
    "early_fault",
    "fits_host",
    "fits_origin",
    "forwarded_address",
    "is_in",
    "is_same_origin",
)

Networks = Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]

# RFC 9112, 2 and 5: a request line, and fields whose names are tokens (RFC 9110, 5.6.2). A line of
# a field has no blank before its colon and does not go on in the next one.
_HEAD = re.compile(
    rb"[^\x00-\x1f\x7f\x85]*+\r\n"
    rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[^\x00-\x08\x0a-\x1f\x7f\x85]*+\r\n)*+\r\n"
)
_FORBIDDEN = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x85]|\r(?=[^\n])|(?<!\r)\n")

_HOST = re.compile(rb"(\[[0-9a-f:.]+\]|[^\s:/?#@\[\]\\,]+)(?::(\d{1,5})?)?")
_ORIGIN = re.compile(rb"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[^\s:/?#@\[\]\\,]+)(?::(\d{1,5}))?")
_DEFAULT_PORTS = {b"http": b"80", b"https": b"443"}

_ONCE = (b"host", b"origin", b"sec-websocket-key")


def early_fault(data: bytes, begin: int) -> str | None:
    """Say what is wrong with the part of a request that begins at `begin`, or return None."""
    if not _FORBIDDEN.search(data, begin):
        return None
    return "The request has a control character in it, or a line that does not end with CR LF."


class HeadOfRequest:
    """The head of a request, all of it in lower case. `fault` is what is wrong with it."""

    __slots__ = ("_lower", "fault")

    def __init__(self, head: bytes) -> None:
        self._lower = head.lower()
        self.fault = self._fault()

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of the fields of a name."""
        mark = b"\r\n" + name + b":"
        found = []
        begin = self._lower.find(mark)
        while begin >= 0:
            begin += len(mark)
            found.append(self._lower[begin : self._lower.find(b"\r\n", begin)].strip(b" \t"))
            begin = self._lower.find(mark, begin)
        return found

    def asks_for(self, path: bytes) -> bool:
        """Tell whether this is a plain GET of a path, and no opening handshake."""
        is_get = self._lower.startswith((b"get " + path + b" ", b"get " + path + b"?"))
        return is_get and b"\r\nupgrade:" not in self._lower

    def _fault(self) -> str | None:
        if not _HEAD.fullmatch(self._lower):
            return early_fault(self._lower, 0) or "A header of the request is malformed."
        for name in _ONCE:
            mark = b"\r\n" + name + b":"
            first = self._lower.find(mark)
            if first >= 0 and self._lower.find(mark, first + 1) >= 0:
                return f"The header {name.decode().title()} appears more than once."
        return None


def fits_host(host: bytes, allowed: Iterable[str]) -> bool:
    """Tell whether a `Host` is, but for its port, one of those allowed; `*` and `*.` are for any.

    An IPv6 address is in brackets.
    """
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = match[1].decode("latin-1").rstrip(".")
    return any(_fits(name, pattern.lower().rstrip(".")) for pattern in allowed)


def is_same_origin(origin: bytes, host: bytes) -> bool:
    """Tell whether an `Origin` has the host and the port of a `Host`.

    The schemes are not compared: a proxy may have terminated TLS.
    """
    page, server = _ORIGIN.fullmatch(origin), _HOST.fullmatch(host)
    if page is None or server is None:
        return False
    default = _DEFAULT_PORTS.get(page[1])
    return page[2] == server[1] and (page[3] or default) == (server[2] or default)


def fits_origin(origin: bytes, allowed: Sequence[str]) -> bool:
    """Tell whether an `Origin` is one of those allowed; `https://*.example.com` has many."""
    if "*" in allowed:
        return True
    if not _ORIGIN.fullmatch(origin):
        return False
    scheme, mark, host = origin.decode("latin-1").partition("://")
    for pattern in allowed:
        theirs, pattern_mark, pattern_host = pattern.lower().partition("://")
        if (scheme, mark) == (theirs, pattern_mark) and _fits(host, pattern_host):
            return True
    return False


def forwarded_address(
    peer: str, forwarded: Iterable[bytes], *, is_trusted: bool, trusted: Networks
) -> str:
    """Return the address of the client: the last one in X-Forwarded-For that is not a proxy.

    `peer` is the address of the TCP connection. An untrusted peer's header is ignored.
    """
    address = peer
    hops = b",".join(forwarded).decode("latin-1").split(",")
    while hops and is_trusted:
        hop = _without_port(hops.pop().strip())
        if not _is_address(hop):
            break
        address = hop
        is_trusted = is_in(address, trusted)
    return address


def is_in(address: str, networks: Networks) -> bool:
    """Tell whether an address is in one of some networks."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:  # a Unix socket has none
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return any((mapped or parsed) in network for network in networks)


def _fits(name: str, pattern: str) -> bool:
    if pattern.startswith("*."):
        return name.endswith(pattern[1:])
    return pattern in ("*", name)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _without_port(hop: str) -> str:
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
