"""Frames: lengths, masks, reserved bits, opcodes, pings (the suite's sections 1 to 4 and 9)."""

from collections.abc import Iterator

from .cases import PROTOCOL_ERROR, TOO_BIG, Case, MiB, octets, text
from .wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, chopped, close, frame

SIZES = (0, 1, 124, 125, 126, 127, 128, 65535, 65536, MiB)
NAMES = {
    CONTINUATION: "continuation",
    TEXT: "text",
    BINARY: "binary",
    CLOSE: "close",
    PING: "ping",
    PONG: "pong",
}
HELLO = (TEXT, b"hello")
HELLO_FRAME = text("hello")


def _payload(opcode: int, size: int) -> bytes:
    return (
        b"*" * size
        if opcode == TEXT
        else bytes(range(256)) * (size // 256) + b"\xfe" * (size % 256)
    )


def lengths() -> Iterator[Case]:
    for opcode in (TEXT, BINARY):
        for size in SIZES:
            payload = _payload(opcode, size)
            one = frame(opcode, payload)
            for how, pieces in (
                ("at once", (one,)),
                ("in chops of 997", chopped(one, 997) if size >= 65535 else None),
                ("in octets", octets(one) if size <= 128 else None),
                ("header by itself", (one[: len(one) - size], one[len(one) - size :])),
            ):
                if pieces is None or not all(pieces):
                    continue
                name = f"{NAMES[opcode]} message of {size} bytes, {how}"
                yield Case(name, pieces, "RFC 6455, 5.2", ((opcode, payload),))
        for size in (0, 1, 125, 126, 65535):
            for bits in (16, 64):
                if size < (126 if bits == 16 else 65536):
                    yield Case(
                        f"{NAMES[opcode]} message of {size} bytes, its length in {bits} bits",
                        (frame(opcode, _payload(opcode, size), length_bits=bits),),
                        "RFC 6455, 5.2: the minimal number of bytes MUST be used",
                        close=PROTOCOL_ERROR,
                    )
        yield Case(
            f"{NAMES[opcode]} message with the highest bit of its length set",
            (frame(opcode, b"x" * 10, length_bits=64, length=2**63 + 10),),
            "RFC 6455, 5.2: the most significant bit MUST be 0",
            close=PROTOCOL_ERROR | TOO_BIG,
            breaks_off=True,
        )
    many = tuple((TEXT, b"%d" % number) for number in range(300))
    yield Case(
        "300 messages in one piece",
        (b"".join(frame(*one) for one in many),),
        "RFC 6455, 5.4",
        many,
    )
    yield Case(
        "300 messages in chops of 7 bytes",
        chopped(b"".join(frame(*one) for one in many), 7),
        "RFC 6455, 5.4",
        many,
    )


def masks() -> Iterator[Case]:
    for mask in (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\0\0\0", b"\0\0\0\x80", b"****"):
        for size in (0, 1, 3, 5, 126, 65536):
            payload = _payload(BINARY, size)
            yield Case(
                f"binary message of {size} bytes, masked with {mask.hex()}",
                (frame(BINARY, payload, mask=mask),),
                "RFC 6455, 5.3",
                ((BINARY, payload),),
            )
    for opcode, name in NAMES.items():
        for payload in (b"", b"ok"):
            if opcode == CLOSE:
                payload = payload and b"\x03\xe8"
            yield Case(
                f"{name} of {len(payload)} bytes that is not masked",
                (HELLO_FRAME + frame(opcode, payload, mask=None),),
                "RFC 6455, 5.1: the server MUST close the connection",
                (HELLO,),
                close=PROTOCOL_ERROR,
            )


def reserved_bits() -> Iterator[Case]:
    rule = "RFC 6455, 5.2: the receiving endpoint MUST fail the connection"
    for rsv in range(1, 8):
        for opcode, name in NAMES.items():
            payload = b"\x03\xe8" if opcode == CLOSE else b"*"
            wrong = frame(opcode, payload, rsv=rsv << 4)
            before = frame(TEXT, b"*", fin=False) if opcode == CONTINUATION else b""
            title = f"{name} with reserved bits {rsv:03b}"
            yield Case(title, (before + wrong,), rule, close=PROTOCOL_ERROR)
        pieces = HELLO_FRAME + frame(TEXT, b"wrong", rsv=rsv << 4) + frame(PING)
        for how, sends in (
            ("in one piece", (pieces,)),
            ("frame by frame", (HELLO_FRAME, pieces[len(HELLO_FRAME) : -6], pieces[-6:])),
            ("in octets", octets(pieces)),
        ):
            title = f"message, one with reserved bits {rsv:03b}, ping, {how}"
            yield Case(title, sends, rule, (HELLO,), close=PROTOCOL_ERROR)


def opcodes() -> Iterator[Case]:
    rule = "RFC 6455, 5.2: an unknown opcode MUST fail the connection"
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        for payload in (b"", b"reserved"):
            for fin in (True, False):
                wrong = frame(opcode, payload, fin=fin)
                title = f"reserved opcode {opcode}, {len(payload)} bytes, FIN {fin:d}"
                yield Case(title, (wrong,), rule, close=PROTOCOL_ERROR)
        pieces = HELLO_FRAME + frame(opcode, b"x") + frame(PING)
        title = f"message, reserved opcode {opcode}, ping"
        yield Case(title, (pieces,), rule, (HELLO,), close=PROTOCOL_ERROR)
        title += " in octets"
        yield Case(title, octets(pieces), rule, (HELLO,), close=PROTOCOL_ERROR)


def pings() -> Iterator[Case]:
    rule = "RFC 6455, 5.5.3: a pong has the application data of its ping"
    for size in (0, 1, 2, 124, 125):
        for payload in dict.fromkeys((b"p" * size, bytes(range(size))[::-1])):
            answer = ((PONG, payload),)
            kind = "letters" if payload.isalpha() else "octets"
            title = f"ping of {size} {kind}"
            yield Case(title, (frame(PING, payload),), rule, answer)
            yield Case(title + ", in octets", octets(frame(PING, payload)), rule, answer)
    for opcode in (PING, PONG, CLOSE):
        name = NAMES[opcode]
        payload = b"\x03\xe8" + b"x" * 124 if opcode == CLOSE else b"x" * 126
        yield Case(
            f"{name} of 126 bytes",
            (frame(opcode, payload),),
            "RFC 6455, 5.5: control frames MUST have 125 bytes or less",
            close=PROTOCOL_ERROR,
        )
        yield Case(
            f"{name} of 65536 bytes",
            (frame(opcode, payload * 521)[:65536],),
            "RFC 6455, 5.5: control frames MUST have 125 bytes or less",
            close=PROTOCOL_ERROR,
            breaks_off=True,
        )
        yield Case(
            f"{name} with its length in 16 bits",
            (frame(opcode, b"\x03\xe8", length_bits=16),),
            "RFC 6455, 5.2: the minimal number of bytes MUST be used",
            close=PROTOCOL_ERROR,
        )
        yield Case(
            f"{name} with FIN 0",
            (frame(opcode, b"\x03\xe8", fin=False),),
            "RFC 6455, 5.5: control frames MUST NOT be fragmented",
            close=PROTOCOL_ERROR,
        )
    rule = "RFC 6455, 5.5.3: a response to an unsolicited pong is not expected"
    for payload in (b"", b"unsolicited"):
        pong = frame(PONG, payload)
        yield Case(f"unsolicited pong of {len(payload)} bytes", (pong,), rule)
        yield Case(
            f"unsolicited pong of {len(payload)} bytes and a ping",
            (pong + frame(PING, b"asked"),),
            rule,
            ((PONG, b"asked"),),
        )
    many = [b"payload-%d" % number for number in range(100)]
    stream = b"".join(frame(PING, one) for one in many)
    answers = tuple((PONG, one) for one in many)
    yield Case("100 pings in one piece", (stream,), rule, answers)
    yield Case("100 pings in chops of 5", chopped(stream, 5), rule, answers)
    mixed = frame(PING, b"1") + HELLO_FRAME + frame(PING, b"2") + frame(BINARY, b"3")
    answers = ((PONG, b"1"), HELLO, (PONG, b"2"), (BINARY, b"3"))
    yield Case("pings between messages", (mixed,), "RFC 6455, 5.5.2", answers)
    yield Case("pings between messages, in octets", octets(mixed), "RFC 6455, 5.5.2", answers)


def limits() -> Iterator[Case]:
    rule = "RFC 6455, 7.4.1: 1009, too big to process"
    for opcode in (TEXT, BINARY):
        for limit in (1000, MiB):
            one = frame(opcode, b"a" * (limit + 1))
            name = NAMES[opcode]
            title = f"{name} message one byte above a limit of {limit}"
            yield Case(title, (one,), rule, close=TOO_BIG, message_bytes=limit)
            # Nothing of the payload has to come for that.
            title = f"header of a {name} message one byte above a limit of {limit}"
            yield Case(
                title,
                (one[: -limit - 1],),
                rule,
                close=TOO_BIG,
                breaks_off=True,
                message_bytes=limit,
            )
        # The suite's 9.1 to 9.4: up to 16 MiB, as one frame and in fragments.
        for size in (4 * MiB, 16 * MiB):
            payload = _payload(opcode, size)
            title = f"{NAMES[opcode]} message of {size // MiB} MiB with the limit raised"
            yield Case(
                title,
                (frame(opcode, payload),),
                "RFC 6455, 5.2",
                ((opcode, payload),),
                message_bytes=16 * MiB,
            )
        payload = _payload(opcode, 4 * MiB)
        for size in (4096, MiB):
            parts = chopped(payload, size)
            stream = b"".join(
                frame(CONTINUATION if n else opcode, part, fin=n == len(parts) - 1)
                for n, part in enumerate(parts)
            )
            yield Case(
                f"{NAMES[opcode]} message of 4 MiB in fragments of {size}, with the limit raised",
                (stream,),
                "RFC 6455, 5.4",
                ((opcode, payload),),
                message_bytes=16 * MiB,
            )
        yield Case(
            f"{NAMES[opcode]} message of 4 MiB in chops of 65536, with the limit raised",
            chopped(frame(opcode, payload), 65536),
            "RFC 6455, 5.2",
            ((opcode, payload),),
            message_bytes=16 * MiB,
        )
        parts = [frame(opcode, b"a" * 600, fin=False), frame(CONTINUATION, b"a" * 401)]
        yield Case(
            f"{NAMES[opcode]} fragments that are above a limit of 1000 together",
            tuple(parts),
            rule,
            close=TOO_BIG,
            message_bytes=1000,
        )
    yield Case(
        "close frame behind a message that is too big",
        (frame(TEXT, b"a" * 1001) + close(1000),),
        rule,
        close=TOO_BIG,
        message_bytes=1000,
        says_goodbye=True,
    )


CASES = [
    *lengths(),
    *masks(),
    *reserved_bits(),
    *opcodes(),
    *pings(),
    *limits(),
]
