"""Messages under permessage-deflate, RFC 7692 (the suite's sections 12 and 13)."""

import random
import zlib
from collections.abc import Iterator

from .cases import (
    INVALID_DATA,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TOO_BIG,
    DeflateCase,
    MiB,
    fragments,
    octets,
)
from .wire import BINARY, CLOSE, CONTINUATION, RSV1, RSV2, RSV3, TEXT, chopped, frame

_DATA = frozenset({1002, 1007})

_random = random.Random(7692)
JSON = b'{"method": "GET", "url": "/orders/17", "args": {"page": 3}}'
NOISE = _random.randbytes(70_000)


class Deflater:
    """Compress messages as a client does."""

    def __init__(self, bits: int = 15, *, forgets: bool = False, level: int = -1) -> None:
        self._arguments = {"wbits": -bits, "level": level}
        self._forgets = forgets
        self._stream = zlib.compressobj(**self._arguments)

    def payload(self, data: bytes) -> bytes:
        if self._forgets:
            self._stream = zlib.compressobj(**self._arguments)
        packed = self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH)
        return packed.removesuffix(b"\x00\x00\xff\xff")

    def frames(self, opcode: int, data: bytes, pieces: int = 1) -> bytes:
        packed = self.payload(data)
        size = max(1, -(-len(packed) // pieces))
        return b"".join(fragments(opcode, *chopped(packed, size), rsv=RSV1))


def packed(data: bytes, **how: int) -> bytes:
    """Return a message by itself, compressed."""
    return Deflater(**how).payload(data)


# Offers, the server that takes them, what it must answer, and what the client then may do.
AGREEMENTS = (
    ("permessage-deflate", "as offered", "permessage-deflate", 15, False),
    (
        "permessage-deflate; client_no_context_takeover",
        "as offered",
        "permessage-deflate",
        15,
        True,
    ),
    (
        "permessage-deflate; server_no_context_takeover",
        "as offered",
        "permessage-deflate; server_no_context_takeover",
        15,
        False,
    ),
    *(
        (
            f"permessage-deflate; server_max_window_bits={bits}",
            "as offered",
            f"permessage-deflate; server_max_window_bits={bits}",
            bits,
            False,
        )
        for bits in range(9, 16)
    ),
    ("permessage-deflate; client_max_window_bits", "as offered", "permessage-deflate", 9, False),
    (
        (
            "permessage-deflate; client_max_window_bits=10; server_max_window_bits=10; "
            "server_no_context_takeover; client_no_context_takeover"
        ),
        "as offered",
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=10",
        10,
        True,
    ),
    (
        "permessage-deflate",
        "forgetful",
        # That it forgets its own context, too, a server need not say (7.1.1.1).
        "permessage-deflate; client_no_context_takeover",
        15,
        True,
    ),
    (
        "permessage-deflate; client_max_window_bits",
        "small",
        "permessage-deflate; client_max_window_bits=9",
        9,
        False,
    ),
)


def sizes() -> Iterator[DeflateCase]:
    """The suite's 12 and 13: messages of many sizes, for each way to agree."""
    rule = "RFC 7692, 7.2"
    for offer, server, agreed, bits, forgets in AGREEMENTS:
        for name, opcode, payloads in (
            ("small text", TEXT, [b"", b"a", JSON, JSON, JSON * 3]),
            ("texts of 16 to 8192", TEXT, [(JSON * 200)[:size] for size in (16, 64, 1024, 8192)]),
            ("text of 131072", TEXT, [(JSON * 3000)[:131072]] * 2),
            ("binary noise", BINARY, [NOISE[:1000], NOISE, NOISE[:1000], b"\0" * 65536]),
        ):
            for pieces in (1, 5):
                deflater = Deflater(bits, forgets=forgets)
                stream = b"".join(deflater.frames(opcode, one, pieces) for one in payloads)
                yield DeflateCase(
                    f"{name} in {pieces} frames each: {offer} ({server})",
                    chopped(stream, 4096),
                    rule,
                    tuple((opcode, one) for one in payloads),
                    offer=offer,
                    server=server,
                    agreed=agreed,
                )


def streams() -> Iterator[DeflateCase]:
    hello = packed(b"Hello")
    reply = ((TEXT, b"Hello"),)
    rule = "RFC 7692, 7.2.3: DEFLATE as it likes"
    stored = b"\x00\x05\x00\xfa\xffHello\x00"
    # The examples of 7.2.3.1 to 7.2.3.6.
    final = bytes.fromhex("f348cdc9c9070000")
    two_blocks = bytes.fromhex("f248050000 00ffffcac9c90700")
    ends = "messages behind one with BFINAL set"
    table = (
        ("one block", [hello], reply),
        ("stored block", [stored], reply),
        ("block with BFINAL set", [final], reply),
        ("two blocks", [two_blocks], reply),
        ("window of the message before", [hello, b"\xf2\x00\x11\x00\x00"], reply * 2),
        (ends, [final, hello, hello], reply * 3),
        ("empty message", [b"\x00"], ((TEXT, b""),)),
        ("no compression at all", [packed(JSON, level=0)], ((TEXT, JSON),)),
        ("best compression", [packed(JSON, level=9)], ((TEXT, JSON),)),
        ("small window", [packed(JSON * 50, bits=9)], ((TEXT, JSON * 50),)),
    )
    for name, payloads, replies in table:
        fault = "Autobahn's inflater stops at BFINAL for good" if name == ends else ""
        one = b"".join(frame(TEXT, payload, rsv=RSV1) for payload in payloads)
        split = b"".join(
            b"".join(fragments(TEXT, *octets(payload), rsv=RSV1)) for payload in payloads
        )
        for how, sends in (
            ("at once", (one,)),
            ("in octets", octets(one)),
            ("in a fragment for each octet", (split,)),
        ):
            yield DeflateCase(f"{name}, {how}", sends, rule, replies, fault=fault)
    plain = frame(TEXT, b"Hello")
    rule = "RFC 7692, 6.1: a message need not be compressed"
    yield DeflateCase("message without compression", (plain,), rule, reply)
    yield DeflateCase(
        "plain fragments and compressed ones",
        (b"".join(fragments(TEXT, b"Hel", b"lo")) + frame(TEXT, hello, rsv=RSV1) + plain,),
        rule,
        reply * 3,
    )
    begin, end = fragments(TEXT, hello[:3], hello[3:], rsv=RSV1)
    yield DeflateCase(
        "ping between compressed fragments",
        (begin + frame(PING, b"Hello") + end,),
        "RFC 7692, 5: control frames are not compressed",
        ((PONG, b"Hello"), *reply),
    )
    begin, middle, end = fragments(TEXT, hello[:3], b"", hello[3:], rsv=RSV1)
    rule = "RFC 7692, 7.2.1: a fragment may be empty"
    yield DeflateCase(
        "empty fragment of a compressed message", (begin + middle + end,), rule, reply
    )


def wrong() -> Iterator[DeflateCase]:
    rule = "RFC 7692, 6.1, and RFC 6455, 5.2: RSV1 only on the first frame of a message"
    hello = packed(b"Hello")
    for opcode, name in ((PING, "ping"), (PONG, "pong"), (CLOSE, "close")):
        payload = b"\x03\xe8" if opcode == CLOSE else hello
        yield DeflateCase(
            f"{name} with RSV1", (frame(opcode, payload, rsv=RSV1),), rule, close=PROTOCOL_ERROR
        )
    for is_first, name in ((RSV1, "compressed"), (0, "plain")):
        for fin in (True, False):
            begin = frame(BINARY, hello[:3], fin=False, rsv=is_first)
            end = frame(CONTINUATION, hello[3:], fin=fin, rsv=RSV1)
            yield DeflateCase(
                f"continuation with RSV1 and FIN {fin:d} of a {name} message",
                (begin + end,),
                rule,
                close=PROTOCOL_ERROR,
            )
    yield DeflateCase(
        "continuation with RSV1 of nothing",
        (frame(CONTINUATION, hello, rsv=RSV1),),
        rule,
        close=PROTOCOL_ERROR,
    )
    for rsv in (RSV2, RSV3, RSV2 | RSV3, RSV1 | RSV2, RSV1 | RSV3, RSV1 | RSV2 | RSV3):
        yield DeflateCase(
            f"text with reserved bits {rsv >> 4:03b}",
            (frame(TEXT, hello, rsv=rsv),),
            "RFC 6455, 5.2: only RSV1 has been agreed on",
            close=PROTOCOL_ERROR,
        )
    rule = "RFC 7692, 7.2.2, and RFC 6455, 7.4.1: data that cannot be inflated"
    for name, data in {
        "a block of the reserved type": b"\x06",
        "a stored block with a wrong complement": b"\x00\x05\x00\x00\x00Hello\x00",
        "a distance beyond the beginning": b"\xf2\x00\x11\x00\x00",
        "garbage": b"\xff" * 32,
        "a broken Huffman table": b"\x05\xff\xff\xff\xff\xff\xff\xff",
    }.items():
        for opcode in (TEXT, BINARY):
            kind = "text" if opcode == TEXT else "binary"
            one = frame(opcode, data, rsv=RSV1)
            title = f"{name} in a {kind} message"
            yield DeflateCase(title, (one,), rule, close=_DATA, breaks_off=True)
            begin = fragments(opcode, *chopped(data, 3), rsv=RSV1)
            title = f"{name} in fragments of a {kind} message"
            sends = (b"".join(begin),)
            yield DeflateCase(title, sends, rule, close=_DATA, breaks_off=True)
    yield DeflateCase(
        "text that is no UTF-8 once it is inflated",
        (frame(TEXT, packed(b"ab\xff"), rsv=RSV1),),
        "RFC 7692, 6.2, and RFC 6455, 8.1",
        close=INVALID_DATA,
    )
    yield DeflateCase(
        "text whose last code point is not finished, inflated",
        (frame(TEXT, packed(b"ab\xe2\x82"), rsv=RSV1),),
        "RFC 7692, 6.2, and RFC 6455, 8.1",
        close=INVALID_DATA,
    )
    yield DeflateCase(
        "binary that is no UTF-8, inflated",
        (frame(BINARY, packed(b"ab\xff"), rsv=RSV1),),
        "RFC 6455, 5.6",
        ((BINARY, b"ab\xff"),),
    )


def limits() -> Iterator[DeflateCase]:
    rule = "RFC 6455, 7.4.1: 1009, too big to process"
    # 257 and 258: zlib may hold back the end of one match, as long as the longest.
    for above in (1, 2, 257, 258, 259, 1000, 64 * MiB):
        for name, rest in (("zeros", 0), ("mixed", 100)):
            data = packed(NOISE[:rest] + b"\0" * (MiB + above - rest), level=9)
            one = frame(BINARY, data, rsv=RSV1)
            title = f"{above} bytes above the limit of 1 MiB when inflated, {name}"
            parts = b"".join(fragments(BINARY, *chopped(data, 100), rsv=RSV1))
            for how, sends in (("at once", (one,)), ("in fragments of 100", (parts,))):
                yield DeflateCase(f"{title}, {how}", sends, rule, close=TOO_BIG, breaks_off=True)
    for below in (0, 1, 257):
        data = b"\0" * (MiB - below)
        yield DeflateCase(
            f"{below} bytes below the limit of 1 MiB when inflated, and one more",
            (frame(BINARY, packed(data), rsv=RSV1) + frame(BINARY, b"x"),),
            "RFC 7692, 7.2.2",
            ((BINARY, data), (BINARY, b"x")),
        )


CASES = [*sizes(), *streams(), *wrong(), *limits()]
