"""UTF-8 in text messages (the suite's section 6)."""

from collections.abc import Iterator

from .cases import INVALID_DATA, PONG, TEXT, Case, fragments, octets, text
from .wire import BINARY, CONTINUATION, PING, frame

_RULE = "RFC 6455, 8.1; RFC 3629, 4"

# The ends of each row of RFC 3629, 4, and what stands beside them.
VALID = {
    "U+0000": b"\x00",
    "U+007F": b"\x7f",
    "U+0080": b"\xc2\x80",
    "U+07FF": b"\xdf\xbf",
    "U+0800": b"\xe0\xa0\x80",
    "U+0FFF": b"\xe0\xbf\xbf",
    "U+1000": b"\xe1\x80\x80",
    "U+CFFF": b"\xec\xbf\xbf",
    "U+D000": b"\xed\x80\x80",
    "U+D7FF, before the surrogates": b"\xed\x9f\xbf",
    "U+E000, behind the surrogates": b"\xee\x80\x80",
    "U+FDD0, no character": b"\xef\xb7\x90",
    "U+FEFF, byte order mark": b"\xef\xbb\xbf",
    "U+FFFD": b"\xef\xbf\xbd",
    "U+FFFE, no character": b"\xef\xbf\xbe",
    "U+FFFF, no character": b"\xef\xbf\xbf",
    "U+10000": b"\xf0\x90\x80\x80",
    "U+1FFFF, no character": b"\xf0\x9f\xbf\xbf",
    "U+3FFFF": b"\xf0\xbf\xbf\xbf",
    "U+40000": b"\xf1\x80\x80\x80",
    "U+FFFFF": b"\xf3\xbf\xbf\xbf",
    "U+100000": b"\xf4\x80\x80\x80",
    "U+10FFFF, the last": b"\xf4\x8f\xbf\xbf",
}

# With the position of the byte that makes it invalid; None: it is its end that is missing.
INVALID: dict[str, tuple[bytes, int | None]] = {
    "a first continuation byte alone": (b"\x80", 0),
    "a last continuation byte alone": (b"\xbf", 0),
    "many continuation bytes": (b"\x80\xbf\x80\xbf", 0),
    "C0": (b"\xc0\x80", 0),
    "C1": (b"\xc1\xbf", 0),
    "F5": (b"\xf5\x80\x80\x80", 0),
    "F7": (b"\xf7\xbf\xbf\xbf", 0),
    "F8, of five bytes": (b"\xf8\x88\x80\x80\x80", 0),
    "FC, of six bytes": (b"\xfc\x84\x80\x80\x80\x80", 0),
    "FE": (b"\xfe", 0),
    "FF": (b"\xff", 0),
    "U+002F in three bytes": (b"\xe0\x80\xaf", 1),
    "U+07FF in three bytes": (b"\xe0\x9f\xbf", 1),
    "U+0000 in four bytes": (b"\xf0\x80\x80\x80", 1),
    "U+FFFF in four bytes": (b"\xf0\x8f\xbf\xbf", 1),
    "U+110000": (b"\xf4\x90\x80\x80", 1),
    "U+13FFFF": (b"\xf4\xbf\xbf\xbf", 1),
    "the first surrogate": (b"\xed\xa0\x80", 1),
    "the last high surrogate": (b"\xed\xaf\xbf", 1),
    "the first low surrogate": (b"\xed\xb0\x80", 1),
    "the last surrogate": (b"\xed\xbf\xbf", 1),
    "a pair of surrogates": (b"\xed\xa0\xbd\xed\xb8\x80", 1),
    "two bytes without their second": (b"\xc2a", 1),
    "three bytes without their second": (b"\xe1a", 1),
    "three bytes without their third": (b"\xe1\x80a", 2),
    "four bytes without their second": (b"\xf1a", 1),
    "four bytes without their third": (b"\xf1\x80a", 2),
    "four bytes without their fourth": (b"\xf1\x80\x80a", 3),
    "a sequence in a sequence": (b"\xe1\xe1\x80\x80", 1),
    "an end after one of two bytes": (b"\xdf", None),
    "an end after one of three bytes": (b"\xef", None),
    "an end after two of three bytes": (b"\xef\xbf", None),
    "an end after one of four bytes": (b"\xf0", None),
    "an end after two of four bytes": (b"\xf0\x90", None),
    "an end after three of four bytes": (b"\xf0\x90\x80", None),
}

# Words in many scripts, so that whatever cuts them cuts within a code point.
BEFORE = "κόσμε, żółw, 馬, ".encode()
BEHIND = "; конец".encode()


def valid() -> Iterator[Case]:
    for name, sequence in VALID.items():
        for around, payload in (("alone", sequence), ("in words", BEFORE + sequence + BEHIND)):
            replies = ((TEXT, payload),)
            title = f"{name} {around}"
            yield Case(f"{title}, at once", (text(payload),), _RULE, replies)
            yield Case(f"{title}, in octets", octets(text(payload)), _RULE, replies)
            singles = fragments(TEXT, *(payload[at : at + 1] for at in range(len(payload))))
            yield Case(
                f"{title}, in a fragment for each octet", (b"".join(singles),), _RULE, replies
            )


def invalid() -> Iterator[Case]:
    for name, (sequence, _) in INVALID.items():
        for around, payload in (("alone", sequence), ("behind words", BEFORE + sequence)):
            title = f"{name} {around}"
            yield Case(f"{title}, at once", (text(payload),), _RULE, close=INVALID_DATA)
            singles = fragments(TEXT, *(payload[at : at + 1] for at in range(len(payload))))
            yield Case(
                f"{title}, in a fragment for each octet",
                (b"".join(singles),),
                _RULE,
                close=INVALID_DATA,
            )
        yield Case(
            f"{name} in a binary message",
            (frame(BINARY, sequence),),
            "RFC 6455, 5.6: arbitrary binary data",
            ((BINARY, sequence),),
        )
        good = text("good")
        yield Case(
            f"{name} between two good messages",
            (good + text(BEFORE + sequence) + good,),
            _RULE,
            ((TEXT, b"good"),),
            close=INVALID_DATA,
        )


def at_once() -> Iterator[Case]:
    """Say where a message fails: at the octet that cannot be, whatever would follow."""
    for name, (sequence, position) in INVALID.items():
        if position is None:
            continue
        payload = BEFORE + sequence + b"never sent"
        wrong_at = len(BEFORE) + position
        # A ping behind each octet: a pong came for all of those before, and for none behind.
        stream = b""
        for at in range(wrong_at + 1):
            opcode = CONTINUATION if at else TEXT
            stream += frame(opcode, payload[at : at + 1], fin=False) + frame(PING, b"%d" % at)
        yield Case(
            f"{name}, noticed at its octet between fragments",
            (stream,),
            _RULE,
            tuple((PONG, b"%d" % at) for at in range(wrong_at)),
            close=INVALID_DATA,
        )
        # The frame is never finished: what fails the connection can only be what was sent.
        begun = text(payload)[: -(len(payload) - wrong_at - 1)]
        yield Case(
            f"{name}, noticed within an unfinished frame",
            (begun,),
            _RULE,
            close=INVALID_DATA,
            breaks_off=True,
        )
        yield Case(
            f"{name}, noticed within an unfinished frame in octets",
            octets(begun),
            _RULE,
            close=INVALID_DATA,
            breaks_off=True,
        )
    for name in ("an end after two of three bytes", "an end after three of four bytes"):
        sequence, _ = INVALID[name]
        yield Case(
            f"{name} of a fragment, and the rest in the next",
            (b"".join(fragments(TEXT, BEFORE + sequence, b"\x80" + BEHIND)),),
            "RFC 6455, 5.6: a fragment need not end where a code point does",
            ((TEXT, BEFORE + sequence + b"\x80" + BEHIND),),
        )


CASES = [*valid(), *invalid(), *at_once()]
