"""Messages in fragments, and control frames between them (the suite's section 5)."""

from collections.abc import Iterator
from itertools import product

from .cases import PROTOCOL_ERROR, Case, fragments, octets, text
from .wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close, frame

_ORDER = "RFC 6455, 5.4: the fragments of a message MUST be delivered in order"
_BETWEEN = "RFC 6455, 5.4: control frames MAY be injected in the middle of a fragmented message"
_NOTHING = "RFC 6455, 5.4: a continuation continues a message that has begun"
_INTERLEAVED = "RFC 6455, 5.4: the fragments of two messages MUST NOT be interleaved"
_CONTROL = "RFC 6455, 5.5: control frames MUST NOT be fragmented"


def _ways(frames: list[bytes]) -> Iterator[tuple[str, tuple[bytes, ...]]]:
    stream = b"".join(frames)
    yield "in one piece", (stream,)
    yield "frame by frame", tuple(frames)
    yield "in octets", octets(stream)


def good() -> Iterator[Case]:
    for opcode, sizes in product(
        (TEXT, BINARY), ((0, 0), (1, 0), (0, 1), (0, 0, 0, 0), (125, 126), (0, 70000), (1,) * 20)
    ):
        parts = [bytes((65 + number,)) * size for number, size in enumerate(sizes)]
        shown = f"{len(parts)} x 1" if len(parts) > 9 else "+".join(map(str, sizes))
        for how, pieces in _ways(fragments(opcode, *parts)):
            if how == "in octets" and sum(sizes) > 1000:
                continue
            name = f"{'text' if opcode == TEXT else 'binary'} message of {shown} bytes, {how}"
            yield Case(name, pieces, _ORDER, ((opcode, b"".join(parts)),))


def between() -> Iterator[Case]:
    begin, middle, end = fragments(TEXT, b"one", b"two", b"three")
    whole = (TEXT, b"onetwothree")
    ping = frame(PING, b"between")
    pong = (PONG, b"between")
    table = (
        ("ping behind the first fragment", [begin, ping, middle, end], (pong, whole)),
        ("ping behind each fragment", [begin, ping, middle, ping, end], (pong, pong, whole)),
        ("two pings in a message", [begin, ping, ping, middle, end], (pong, pong, whole)),
        ("pong in a message", [begin, frame(PONG, b"x"), middle, end], (whole,)),
        ("empty ping in a message", [begin, frame(PING), middle, end], ((PONG, b""), whole)),
        (
            "ping of 125 bytes in a message",
            [begin, frame(PING, b"p" * 125), middle, end],
            ((PONG, b"p" * 125), whole),
        ),
        (
            "messages around a fragmented one",
            [text("before"), begin, ping, middle, end, text("behind")],
            ((TEXT, b"before"), pong, whole, (TEXT, b"behind")),
        ),
        (
            "two fragmented messages",
            [begin, middle, end, *fragments(BINARY, b"\xff", b"\xfe")],
            (whole, (BINARY, b"\xff\xfe")),
        ),
    )
    for name, frames, replies in table:
        for how, pieces in _ways(frames):
            yield Case(f"{name}, {how}", pieces, _BETWEEN, replies)
    for how, pieces in _ways([begin, close(1000), end]):
        yield Case(
            f"close in a message, {how}",
            pieces,
            "RFC 6455, 5.5.1: nothing follows a close frame",
            close=frozenset({1000}),
            says_goodbye=True,
        )


def wrong() -> Iterator[Case]:
    hello, reply = text("hello"), ((TEXT, b"hello"),)
    for fin, payload in product((True, False), (b"", b"lost")):
        lost = frame(CONTINUATION, payload, fin=fin)
        shown = f"continuation of {len(payload)} bytes with FIN {fin:d}"
        table = (
            (f"{shown}, nothing before it", [lost], ()),
            (f"{shown} behind a message", [hello, lost], reply),
            (f"{shown} and a message", [lost, hello], ()),
            (
                f"{shown} behind a fragmented message",
                [*fragments(TEXT, b"hel", b"lo"), lost, hello],
                reply,
            ),
            (f"{shown} behind a ping", [frame(PING, b"p"), lost], ((PONG, b"p"),)),
        )
        for name, frames, replies in table:
            for how, pieces in _ways(frames):
                yield Case(f"{name}, {how}", pieces, _NOTHING, replies, close=PROTOCOL_ERROR)
    for first, second in product((TEXT, BINARY), repeat=2):
        names = {TEXT: "text", BINARY: "binary"}
        for fin in (True, False):
            frames = [frame(first, b"one", fin=False), frame(second, b"two", fin=fin)]
            for how, pieces in _ways(frames):
                yield Case(
                    f"{names[second]} frame with FIN {fin:d} in a {names[first]} message, {how}",
                    pieces,
                    _INTERLEAVED,
                    close=PROTOCOL_ERROR,
                )
    for opcode, name in ((PING, "ping"), (PONG, "pong"), (CLOSE, "close")):
        first = b"\x03\xe8" if opcode == CLOSE else b"one"
        for how, pieces in _ways(fragments(opcode, first, b"two")):
            yield Case(f"{name} in two fragments, {how}", pieces, _CONTROL, close=PROTOCOL_ERROR)
        frames = [frame(TEXT, b"a", fin=False), frame(opcode, first, fin=False)]
        for how, pieces in _ways(frames):
            title = f"fragment of a {name} in a message, {how}"
            yield Case(title, pieces, _CONTROL, close=PROTOCOL_ERROR)


CASES = [*good(), *between(), *wrong()]
