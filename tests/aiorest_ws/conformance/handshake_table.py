"""The opening handshake: RFC 6455, 4.2, and offers of permessage-deflate: RFC 7692, 7.1."""

from collections.abc import Iterator
from dataclasses import dataclass, field

OPEN = frozenset({101})
BAD = frozenset({400})

_KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
_DEFAULT = {
    "host": b"Host: localhost",
    "upgrade": b"Upgrade: websocket",
    "connection": b"Connection: Upgrade",
    "key": _KEY,
    "version": b"Sec-WebSocket-Version: 13",
}


@dataclass(frozen=True, slots=True)
class Handshake:
    """A request, and the status of its answer; 101 with the sample's accept (RFC 6455, 1.3)."""

    name: str
    rule: str
    status: frozenset[int]
    line: bytes = b"GET / HTTP/1.1"
    # What replaces a line of the usual request; an empty one leaves it out.
    instead: dict[str, bytes] = field(default_factory=dict)
    more: tuple[bytes, ...] = ()
    # Headers of the answer, of which these are the comma-separated members.
    answers: dict[str, set[str]] = field(default_factory=dict)
    # What is known to be wrong with the server.
    fault: str = ""

    def request(self) -> bytes:
        lines = [line for line in (_DEFAULT | self.instead).values() if line]
        return b"\r\n".join((self.line, *lines, *self.more, b"", b""))


def _plain() -> list[Handshake]:
    good = "RFC 6455, 4.2.1"
    any_error = frozenset({400, 405, 426, 505})  # "such as 400"
    bad = "RFC 6455, 4.2.1 and 4.4"
    return [
        Handshake("usual request", good, OPEN),
        Handshake("path and query", good, OPEN, b"GET /a/b?c=d HTTP/1.1"),
        Handshake("absolute URI", good, OPEN, b"GET http://localhost/a HTTP/1.1"),
        Handshake("Upgrade in capitals", good, OPEN, instead={"upgrade": b"Upgrade: WEBSOCKET"}),
        Handshake(
            "Connection in small letters",
            good,
            OPEN,
            instead={"connection": b"Connection: upgrade"},
        ),
        Handshake(
            "Upgrade among other tokens",
            good,
            OPEN,
            instead={"connection": b"Connection: keep-alive, Upgrade"},
        ),
        Handshake(
            "websocket among other protocols",
            good,
            OPEN,
            instead={"upgrade": b"Upgrade: h2c, websocket"},
        ),
        Handshake(
            "names of headers in small letters",
            good,
            OPEN,
            instead={
                name: line.split(b":")[0].lower() + b":" + line.split(b":")[1]
                for name, line in _DEFAULT.items()
            },
        ),
        Handshake(
            "no blank behind a colon", good, OPEN, instead={"key": _KEY.replace(b": ", b":")}
        ),
        Handshake(
            "blanks and tabs around a value",
            good,
            OPEN,
            instead={"key": _KEY.replace(b": ", b": \t") + b" \t "},
        ),
        Handshake("unknown header", good, OPEN, more=(b"X-Unknown: \xe9 and more",)),
        Handshake("empty header", good, OPEN, more=(b"X-Empty:",)),
        Handshake(
            "extension nobody knows",
            "RFC 6455, 9.1",
            OPEN,
            more=(b"Sec-WebSocket-Extensions: x-a; b",),
        ),
        Handshake(
            "subprotocol nobody speaks",
            "RFC 6455, 4.2.2",
            OPEN,
            more=(b"Sec-WebSocket-Protocol: soap",),
        ),
        Handshake("HTTP/1.0", bad, any_error, b"GET / HTTP/1.0"),
        Handshake("HTTP/0.9", bad, BAD, b"GET /"),
        Handshake("POST", bad, any_error, b"POST / HTTP/1.1"),
        Handshake("HEAD", bad, any_error, b"HEAD / HTTP/1.1"),
        Handshake("fragment in the path", "RFC 6455, 3", BAD, b"GET /#a HTTP/1.1"),
        Handshake("no Host", bad, BAD, instead={"host": b""}),
        Handshake("no Connection", bad, BAD, instead={"connection": b""}),
        Handshake(
            "Connection without Upgrade", bad, BAD, instead={"connection": b"Connection: close"}
        ),
        Handshake("no Upgrade", "RFC 9110, 15.5.22", frozenset({426}), instead={"upgrade": b""}),
        Handshake("Upgrade to something else", bad, BAD, instead={"upgrade": b"Upgrade: h2c"}),
        Handshake("no key", bad, BAD, instead={"key": b""}),
        Handshake("empty key", bad, BAD, instead={"key": b"Sec-WebSocket-Key:"}),
        Handshake("short key", bad, BAD, instead={"key": b"Sec-WebSocket-Key: c2hvcnQ="}),
        Handshake("long key", bad, BAD, instead={"key": _KEY + b"AAAA"}),
        Handshake(
            "key that is no base64",
            bad,
            BAD,
            instead={"key": b"Sec-WebSocket-Key: " + b"!" * 22 + b"=="},
        ),
        Handshake("two keys", bad, BAD, more=(_KEY,)),
        Handshake("two Hosts", "RFC 9112, 3.2", BAD, more=(b"Host: localhost",)),
        Handshake("no version", bad, BAD, instead={"version": b""}),
        Handshake(
            "version 12",
            "RFC 6455, 4.4",
            any_error,
            instead={"version": b"Sec-WebSocket-Version: 12"},
            answers={"sec-websocket-version": {"13"}},
        ),
        *(
            Handshake(
                f"version {version}",
                "RFC 6455, 4.4",
                frozenset({426}),
                instead={"version": f"Sec-WebSocket-Version: {version}".encode()},
                answers={"sec-websocket-version": {"13"}, "upgrade": {"websocket"}},
            )
            for version in (
                "013",
                "x",
                "8",
                "7",
                "0",
                "14",
                "-13",
                "+13",
                "1_3",
                "13.0",
                "13, 8",
                "",
            )
        ),
        Handshake("two versions", bad, BAD, more=(b"Sec-WebSocket-Version: 8",)),
        Handshake("header without a colon", "RFC 9112, 5", BAD, more=(b"nothing",)),
        Handshake("blank before a colon", "RFC 9112, 5.1", BAD, more=(b"X-Blank : a",)),
        Handshake("header on two lines", "RFC 9112, 5.2", BAD, more=(b"X-Folded: a\r\n b",)),
        Handshake("bare LF", "RFC 9112, 2.2", BAD, more=(b"X-A: a\nX-B: b",)),
        Handshake("bare CR", "RFC 9112, 2.2", BAD, more=(b"X-A: a\rX-B: b",)),
        Handshake("NUL in a header", "RFC 9110, 5.5", BAD, more=(b"X-A: a\0b",)),
    ]


_NAME = "permessage-deflate"


def _offer(name: str, rule: str, agreed: str, *offers: str, fault: str = "") -> Handshake:
    return Handshake(
        name,
        rule,
        OPEN,
        more=tuple(f"Sec-WebSocket-Extensions: {offer}".encode() for offer in offers),
        answers={"sec-websocket-extensions": {agreed} if agreed else set()},
        fault=fault,
    )


# Each in an offer by itself. What `int` takes and RFC 7692 does not comes to the end of the list.
_WRONG_PARAMETERS = (
    *("bogus", "bogus=1", "max_window_bits=10"),
    *("server_no_context_takeover=1", "client_no_context_takeover=true"),
    *("server_max_window_bits", "server_max_window_bits=7", "server_max_window_bits=16"),
    *("server_max_window_bits=0", "server_max_window_bits=-9", "server_max_window_bits=ten"),
    *("client_max_window_bits=7", "client_max_window_bits=16", "client_max_window_bits=x"),
    "client_max_window_bits=",
    "server_max_window_bits=10; server_max_window_bits=10",
    "client_no_context_takeover; client_no_context_takeover",
    "client_max_window_bits; client_max_window_bits=12",
    *("server_max_window_bits=010", "server_max_window_bits=+10", "server_max_window_bits=1_0"),
    "client_max_window_bits=09",
)


def _offers() -> Iterator[Handshake]:
    name, smaller = _NAME, f"{_NAME}; server_max_window_bits=12"
    first = "RFC 7692, 5.1 and 7.1: the first offer that can be taken"
    yield _offer("no offer", "RFC 6455, 9.1", "")
    yield _offer("plain offer", "RFC 7692, 7.1", name, name)
    yield _offer("offer with blanks", "RFC 6455, 9.1", name, f" {name} ; client_max_window_bits ")
    quoted = smaller.replace("12", '"12"')
    yield _offer("quoted value", "RFC 6455, 9.1", smaller, quoted)
    yield _offer("two offers", first, smaller, f"{smaller}, {name}")
    yield _offer("another extension before it", first, name, f"x-unknown; a=b, {name}")
    yield _offer(
        "two header lines",
        "RFC 6455, 9.1: MAY be split",
        name,
        "x-unknown",
        name,
        fault="Autobahn wants one line only",
    )
    yield _offer(
        "unknown parameter and a plain offer",
        first,
        name,
        f"{name}; bogus, {name}",
    )
    decline = "RFC 7692, 7.1: such an offer MUST be declined"
    for parameter in _WRONG_PARAMETERS:
        offer = f"{name}; {parameter}"
        yield _offer(f"offer with {parameter}", decline, "", offer)
    yield _offer(
        "offer with server_max_window_bits=8",
        "RFC 7692, 7.1.2: 8 is valid; zlib has no such window, so it is declined",
        "",
        f"{name}; server_max_window_bits=8",
    )
    yield _offer(
        "offer with client_max_window_bits=8",
        "RFC 7692, 7.1.2.2: a hint that the server may ignore",
        name,
        f"{name}; client_max_window_bits=8",
        fault="Autobahn has no window of 8 bits, not even as a hint",
    )


PLAIN = _plain()
OFFERS = [*_offers()]
