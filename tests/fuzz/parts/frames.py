"""Fuzz the frames of an open connection."""

import zlib
from random import Random

from .engine import pieces
from .output import parse
from .server import GOOD_REPLY, OFFER, REQUEST, Server, good_call
from .wire import frame

_SIZES = (0, 0, 1, 2, 10, 124, 125, 126, 127, 128, 1000, 19_999, 20_000, 20_001, 65535, 65536)
_CALL = b'{"method": "GET", "url": "/echo", "args": {"value": "x"}}'
_SLOW = b'{"method": "GET", "url": "/slow", "args": {"seconds": 0.2}}'
_CODES = (
    0,
    999,
    1000,
    1001,
    1004,
    1005,
    1006,
    1012,
    1014,
    1015,
    1016,
    2999,
    3000,
    4999,
    5000,
    65535,
)
_BIG = b"L" * 70_000


class Frames:
    """Bytes behind the handshake; the first byte says whether permessage-deflate is offered."""

    name = "frames"
    words = (
        *(frame(opcode, b"") for opcode in (0, 1, 2, 3, 8, 9, 10, 11)),
        frame(1, _CALL),
        frame(1, _CALL, fin=False),
        frame(1, b"", rsv=0x40),
        b"\x81\xff" + b"\x00" * 7 + b"\x05" + b"mask",
        b"\x82\xfe\xff\xffmask",
        b"\x81\x80",
        b"\xff" * 14,
    )

    def __init__(self) -> None:
        self.server = Server(
            deflate=True, message_bytes=20_000, calls_in_flight=3, waiting_bytes=2_000
        )

    def generate(self, random: Random) -> bytes:
        deflate = zlib.compressobj(wbits=-15)
        stream = bytes((random.randrange(2),))
        for _ in range(random.choice((1, 2, 3, 8, 30, 100))):
            stream += self._some(random, deflate)
        return stream

    def _some(self, random: Random, deflate: object) -> bytes:
        kind = random.randrange(12)
        mask = random.choice((b"\0\0\0\0", b"\x37\xfa\x21\x3d", b"\xff\xff\xff\xff"))
        if kind < 4:
            return frame(1, random.choice((_CALL, _CALL, _SLOW, b"", b"{}", b"\xff")), mask=mask)
        if kind == 4:
            return frame(random.choice((9, 10)), _BIG[: random.choice((0, 5, 125))], mask=mask)
        if kind == 5:
            count = random.randrange(1, 6)
            parts = [frame(1, _CALL[:9], fin=False, mask=mask)]
            for number in range(count):
                if random.random() < 0.3:
                    parts.append(frame(9, b"between"))
                payload = _CALL[9:] if number == count - 1 else b""
                parts.append(frame(0, payload, fin=number == count - 1, mask=mask))
            return b"".join(parts)
        if kind == 6:
            packed = deflate.compress(random.choice((_CALL, _BIG, b"\xff")))
            packed += deflate.flush(zlib.Z_SYNC_FLUSH)
            return frame(random.choice((1, 2)), packed[:-4], rsv=0x40)
        if kind == 7:
            return frame(2, _BIG[: random.choice(_SIZES)], mask=mask)
        if kind == 8 and random.random() < 0.3:
            code = random.choice(_CODES)
            return frame(8, code.to_bytes(2) + random.choice((b"", b"bye", b"\xff")))
        if kind == 9 and random.random() < 0.3:
            return frame(
                random.randrange(16),
                _BIG[: random.choice(_SIZES)],
                fin=random.random() < 0.7,
                rsv=random.choice((0, 0, 0x10, 0x20, 0x40, 0x70)),
                mask=random.choice((mask, mask, None)),
                length_bits=random.choice((None, None, 64)),
            )
        if kind == 10 and random.random() < 0.1:
            return random.randbytes(random.choice((1, 10, 1000)))
        return frame(1, _CALL)

    def play(self, data: bytes) -> str:
        is_deflated = bool(data[:1] and data[0] & 1)
        session = self.server.connect()
        session.feed(REQUEST % (OFFER if is_deflated else b""))
        for piece in pieces(data[1:]):
            session.feed(piece)
        session.wait(5)
        held = _held_bytes(session.protocol)
        assert session.wire.ended or held < 150_000, f"{held} bytes are held"
        out = parse(session.wire.sent)
        assert out.status == 101
        protocol, outcome = session.protocol, f"closed {out.close}"
        if out.close is None and not session.wire.ended:
            is_between = not (protocol.data or protocol.current_frame or protocol.inside_message)
            outcome = "alive" if is_between else "unfinished"
            if is_between:
                session.feed(good_call(frame))
                # Behind a hundred calls of 0.2 s, three at a time.
                session.wait(10)
                assert GOOD_REPLY in parse(session.wire.sent).replies, "a good call has no answer"
        elif out.close is not None:
            # The client does not reply: `closing_seconds`.
            session.wait(6)
            assert session.wire.ended, "a connection that is closing stays"
        session.drop()
        return outcome

    def stream(self, data: bytes) -> bytes:
        """Return what is sent on a socket."""
        return REQUEST % (OFFER if data[:1] and data[0] & 1 else b"") + data[1:]

    def at_rest(self) -> None:
        self.server.check_rest()

    def close(self) -> None:
        self.server.close()


def _held_bytes(protocol: object) -> int:
    parts = protocol.__dict__.get("message_data") or ()
    return len(protocol.data or b"") + protocol.queued_bytes + sum(map(len, parts))
