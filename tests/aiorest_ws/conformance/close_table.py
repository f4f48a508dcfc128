"""The closing handshake (the suite's section 7)."""

from collections.abc import Iterator

from .cases import INVALID_DATA, PROTOCOL_ERROR, TEXT, Case, fragments, octets, text
from .wire import CLOSE, PING, PONG, close, frame

_CODES = "RFC 6455, 7.4; the register of IANA"

# 1012 to 1014 are in IANA's register of close codes, others below 3000 are not.
VALID_CODES = (
    *(1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014),
    *(3000, 3001, 3999, 4000, 4001, 4999),
)
# 1004 is reserved; 1005, 1006 and 1015 are for programs and never on the wire (7.4.1).
INVALID_CODES = (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999)
# Not defined: the RFC speaks of 0 to 4999 only.
ODD_CODES = (5000, 5001, 65535)


def codes() -> Iterator[Case]:
    for code in VALID_CODES:
        for reason in (b"", "až na věky".encode()):
            yield Case(
                f"code {code} with a reason of {len(reason)} bytes",
                (close(code, reason),),
                _CODES,
                close=frozenset({1000, code}),
                says_goodbye=True,
                fault="Autobahn does not know 1014, Bad Gateway" if code == 1014 else "",
            )
    for code in INVALID_CODES:
        for reason in (b"", b"because"):
            yield Case(
                f"invalid code {code} with a reason of {len(reason)} bytes",
                (close(code, reason),),
                _CODES,
                close=PROTOCOL_ERROR,
                says_goodbye=True,
            )
    for code in ODD_CODES:
        yield Case(
            f"code {code} out of range",
            (close(code),),
            _CODES,
            close=PROTOCOL_ERROR | {code},
            says_goodbye=True,
        )


def payloads() -> Iterator[Case]:
    rule = "RFC 6455, 5.5.1"
    for pieces, how in (((close(),), "at once"), (octets(close()), "in octets")):
        title = f"close without a code, {how}"
        empty = frozenset({None, 1000})
        yield Case(title, pieces, rule, close=empty, says_goodbye=True)
    for octet in (b"\x00", b"\x03", b"a", b"\xff"):
        yield Case(
            f"close with the single byte {octet.hex()}",
            (frame(CLOSE, octet),),
            "RFC 6455, 5.5.1: the first two bytes MUST be a code",
            close=PROTOCOL_ERROR,
            says_goodbye=True,
        )
    for size in (1, 122, 123):
        yield Case(
            f"reason of {size} bytes",
            octets(close(1000, b"r" * size)),
            rule,
            close=frozenset({1000}),
            says_goodbye=True,
        )
    yield Case(
        "reason of 124 bytes",
        (close(1000, b"r" * 124),),
        "RFC 6455, 5.5: control frames MUST have 125 bytes or less",
        close=PROTOCOL_ERROR,
    )
    for wrong in (
        b"\xff",
        b"ok \xc3",
        b"\xed\xa0\x80",
        b"\xce\xba\xe1\xbd\xb9\xf4\x90\x80\x80",
        b"\xc0\xaf",
    ):
        yield Case(
            f"reason {wrong.hex()} that is not UTF-8",
            (close(1000, wrong),),
            "RFC 6455, 8.1, and 5.5.1: the reason is UTF-8",
            close=INVALID_DATA | PROTOCOL_ERROR,
            says_goodbye=True,
        )


def behind() -> Iterator[Case]:
    rule = "RFC 6455, 5.5.1 and 1.4: what comes behind a close frame is discarded"
    normal = frozenset({1000})
    table = {
        "a message": text("late"),
        "a ping": frame(PING, b"late"),
        "a pong": frame(PONG, b"late"),
        "a second close": close(1001),
        "fragments": b"".join(fragments(TEXT, b"la", b"te")),
        "half a frame": text("late")[:5],
        "garbage": b"\xff" * 40,
        "a large message": text("x" * 300_000),
        "an invalid text": text(b"\xff"),
    }
    for name, late in table.items():
        good = text("hello")
        hello = ((TEXT, b"hello"),)
        sends = (good + close(1000) + late,)
        yield Case(f"{name} behind a close", sends, rule, hello, close=normal, says_goodbye=True)
        if len(late) < 1000:
            sends = octets(good + close(1000) + late)
            title = f"{name} behind a close, in octets"
            yield Case(title, sends, rule, hello, close=normal, says_goodbye=True)
    yield Case(
        "close behind half a message",
        (frame(TEXT, b"half", fin=False) + close(1000),),
        "RFC 6455, 5.4: control frames MAY be injected in the middle of a fragmented message",
        close=normal,
        says_goodbye=True,
    )
    yield Case(
        "replies before a close",
        (text("one") + frame(PING, b"two") + text("three") + close(4000),),
        "RFC 6455, 5.5.1",
        ((TEXT, b"one"), (PONG, b"two"), (TEXT, b"three")),
        close=frozenset({1000, 4000}),
        says_goodbye=True,
    )


CASES = [*codes(), *payloads(), *behind()]
