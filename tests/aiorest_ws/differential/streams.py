"""Streams of a client: valid, broken, mutated; recorded ones too; and the plans to play them in.

All choices come from one `random.Random`, so that Hypothesis can make them as well as a seed.
"""

import struct
import zlib
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost

from .applications import Plan
from .harness import PING_TIME_NS

CORPUS = Path(__file__).parents[1] / "corpus"

TEXTS = (
    b"",
    b"a",
    b'{"method":"GET","url":"/auth/login"}',
    "žluťoučký kůň, 馬, \U0001f40e".encode(),
    b"x" * 120,
)
INVALID_TEXTS = (
    b"\xff",
    b"ab\xc3",  # ends within a code point
    b"\xed\xa0\x80",  # a surrogate
    b"\xf4\x90\x80\x80",  # above U+10FFFF
    b"\xc0\xaf",  # not the shortest form
    b"ok, then " * 9 + b"\x80",
)
SIZES = (0, 1, 2, 4, 5, 124, 125, 126, 127, 128, 300, 1000, 65535)
LARGE_SIZES = (65536, 65537, 70_000)
MASKS = (b"\x00\x00\x00\x00", b"\x37\xfa\x21\x3d", b"\xff\xff\xff\xff", b"\x00\x01\x02\x80")
CODES = (1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999)
BAD_CODES = (0, 999, 1004, 1005, 1006, 1012, 1015, 1016, 2000, 2999, 5000, 65535)
PING_SIZE = 20

ACTS_ONCE = (
    *("ignore", "echo twice", "fragments", "large", "huge", "synchronous", "uncompressed"),
    *("wrong type", "wrong flag", "ping", "stream", "raw", "prepared", "delayed"),
    *("close", "close and send", "close frame", "lose", "drop", "raise"),
)
USUAL_ACTS = ("ignore", "echo twice", "fragments", "large", "synchronous", "ping", "delayed")


def frame(
    first: int,
    payload: bytes,
    mask: bytes | None = MASKS[1],
    form: int = 0,
    size: int | None = None,
) -> bytes:
    """Return a frame; `form` forces a length of 7, 16 or 64 bits, `size` another length."""
    size = len(payload) if size is None else size
    form = form or (7 if size < 126 else 16 if size < 65536 else 64)
    bit = 0 if mask is None else 0x80
    head = bytes((first, bit | {7: size & 0x7F, 16: 126, 64: 127}[form]))
    head += b"" if form == 7 else size.to_bytes(form // 8, "big")
    if mask is None:
        return head + payload
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    masked = int.from_bytes(payload, "little") ^ int.from_bytes(repeated, "little")
    return head + mask + masked.to_bytes(len(payload), "little")


class Stream:
    """The frames of one client."""

    def __init__(self, random: Random, is_deflated: bool) -> None:
        self.random = random
        self.is_deflated = is_deflated
        self.deflate = zlib.compressobj(wbits=-15)
        self.frames: list[bytes] = []
        self.pings = 0

    def add(self, first: int, payload: bytes, **more: Any) -> None:
        self.frames.append(frame(first, payload, **({"mask": self.mask()} | more)))

    def mask(self) -> bytes:
        return self.random.choice(MASKS)

    def text(self) -> bytes:
        return self.random.choice(TEXTS)

    def data(self) -> tuple[int, bytes]:
        """Return an opcode and a payload that fits."""
        if self.random.random() < 0.5:
            return 1, self.text()
        size = self.random.choice(SIZES if self.random.random() < 0.3 else SIZES[:9])
        byte = self.random.choice(b"\x00a\x80\xff")
        return 2, bytes((byte,)) * size

    def ordinary(self) -> None:
        opcode, payload = self.data()
        self.add(0x80 | opcode, payload)

    def burst(self) -> None:
        opcode, payload = self.data()
        count = self.random.choice((2, 3, 20, 63, 64, 65, 130))
        self.frames += [frame(0x80 | opcode, payload[:200], self.mask())] * count

    def large(self) -> None:
        size = self.random.choice(LARGE_SIZES)
        opcode = self.random.choice((1, 2))
        self.add(0x80 | opcode, b"L" * size)

    def fragmented(self) -> None:
        opcode, payload = self.data()
        if self.random.random() < 0.2:
            opcode, payload = 1, self.random.choice(INVALID_TEXTS)
        count = self.random.randint(2, 4)
        ends = sorted(self.random.randint(0, len(payload)) for _ in range(count - 1))
        parts = [payload[a:b] for a, b in zip([0, *ends], [*ends, len(payload)], strict=True)]
        for number, part in enumerate(parts):
            last = 0x80 if number == count - 1 else 0
            self.add(last | (0 if number else opcode), part)
            if not last and self.random.random() < 0.3:
                self.random.choice((self.control, self.control, self.control, self.ordinary))()

    def compressed(self) -> None:
        opcode, payload = self.data()
        if self.random.random() < 0.1:
            opcode, payload = 1, self.random.choice(INVALID_TEXTS)
        packed = self.deflate.compress(payload) + self.deflate.flush(zlib.Z_SYNC_FLUSH)
        packed = packed.removesuffix(b"\x00\x00\xff\xff")
        if self.random.random() < 0.3:
            middle = self.random.randint(0, len(packed))
            self.add(0x40 | opcode, packed[:middle])
            self.add(0x80, packed[middle:])
        else:
            self.add(0xC0 | opcode, packed)

    def control(self) -> None:
        opcode = self.random.choice((9, 9, 10))
        self.add(0x80 | opcode, self.random.choice((b"", b"ping", b"\xff" * 125)))

    def auto_pong(self) -> None:
        """Add the answer to a ping of the server."""
        self.pings += 1
        self.add(0x8A, struct.pack(">QL", PING_TIME_NS, self.pings).ljust(PING_SIZE, b"\x00"))

    def close(self) -> None:
        code = self.random.choice(CODES if self.random.random() < 0.7 else BAD_CODES)
        reasons = (b"", b"bye", "až".encode(), b"\xc3", b"r" * 123)
        self.add(0x88, struct.pack(">H", code) + self.random.choice(reasons))

    def odd_close(self) -> None:
        self.add(0x88, self.random.choice((b"", b"\x03", b"\x03\xe8" + b"r" * 124)))

    def invalid_text(self) -> None:
        self.add(0x81, self.random.choice(INVALID_TEXTS))

    def reserved_bits(self) -> None:
        opcode, payload = self.data()
        self.add(0x80 | self.random.choice((0x10, 0x20, 0x40, 0x70)) | opcode, payload)

    def reserved_opcode(self) -> None:
        self.add(0x80 | self.random.choice((3, 4, 5, 6, 7, 11, 12, 13, 14, 15)), self.text())

    def unmasked(self) -> None:
        opcode, payload = self.data()
        if self.random.random() < 0.5:
            self.add(0x80 | opcode, payload, mask=None)
        else:  # a mask that the header does not speak of
            first, second, *rest = frame(0x80 | opcode, payload, self.mask())
            self.frames.append(bytes((first, second & 0x7F, *rest)))

    def long_form(self) -> None:
        payload = self.random.choice((b"", b"a", b"x" * 125, b"x" * 126, b"x" * 127))
        self.add(self.random.choice((0x81, 0x82)), payload, form=self.random.choice((16, 64)))

    def false_size(self) -> None:
        size = self.random.choice((3, 200, 65535, 65536, 2**20, 2**63 - 1, 2**63, 2**64 - 1))
        self.add(0x82, b"abcd", size=size)

    def broken_control(self) -> None:
        first, payload = self.random.choice(((0x09, b"part"), (0x89, b"x" * 126), (0x08, b"")))
        self.add(first, payload)

    def stray_continuation(self) -> None:
        self.add(self.random.choice((0x80, 0x00)), self.text())

    def unfinished(self) -> None:
        opcode, payload = self.data()
        self.add(opcode, payload)


ORDINARY = ("ordinary",) * 8 + ("burst", "fragmented", "fragmented", "control", "auto_pong")
EXTRAORDINARY = (
    *("large", "close", "close", "odd_close", "invalid_text", "reserved_bits", "reserved_opcode"),
    *("unmasked", "long_form", "false_size", "broken_control", "stray_continuation", "unfinished"),
)


def make_frames(random: Random, is_deflated: bool) -> list[bytes]:
    """Return what a client sends, frame by frame."""
    stream = Stream(random, is_deflated)
    for _ in range(random.choice((1, 2, 3, 5, 8))):
        kind = random.choice(EXTRAORDINARY if random.random() < 0.25 else ORDINARY)
        if is_deflated and random.random() < 0.6:
            kind = "compressed"
        getattr(stream, kind)()
    return stream.frames


def mutate(random: Random, data: bytes) -> bytes:
    """Return the stream with some bytes turned, lost, added or repeated."""
    for _ in range(random.randint(1, 3)):
        if not data:
            break
        at = random.randrange(len(data))
        end = at + random.choice((1, 2, 7, 200))
        how = random.choice(("turn", "turn", "lose", "add", "cut", "repeat"))
        if how == "turn":
            turned = data[at] ^ random.choice((1, 2, 4, 8, 16, 32, 64, 128))
            data = data[:at] + bytes((turned,)) + data[at + 1 :]
        elif how == "lose":
            data = data[:at] + data[end:]
        elif how == "add":
            data = data[:at] + random.choice((b"\x00", b"\x81", b"\xff\xff")) + data[at:]
        elif how == "cut":
            data = data[:at]
        else:
            data = data[:end] + data[at:]
    return data


def cut(random: Random, frames: list[bytes], data: bytes) -> list[bytes]:
    """Return the stream in the pieces that arrive."""
    borders, end = [], 0
    for part in frames:
        end += len(part)
        borders.append(end)
    how = random.choice(("nowhere", "borders", "borders", "near", "random", "random", "bytes"))
    if how == "borders":
        cuts = set(borders)
    elif how == "near":
        cuts = {border + random.choice((-1, 0, 1, 2, 6)) for border in borders}
    elif how == "random":
        cuts = {random.randint(0, len(data)) for _ in range(random.choice((1, 2, 5, 20)))}
    elif how == "bytes" and len(data) <= 400:
        cuts = set(range(len(data)))
    else:
        cuts = set()
    ends = sorted(at for at in cuts if 0 < at < len(data))
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True) if a < b]


def recorded() -> list[tuple[str, bytes]]:
    """Return the streams of the corpus; those that were compressed have it in their names."""
    return [(path.stem, path.read_bytes()) for path in sorted(CORPUS.glob("*.bin"))]


def make_options(random: Random) -> dict[str, Any]:
    """Return options of a factory."""

    def chosen(chance: float, *values: Any) -> Any:
        return random.choice(values) if random.random() < chance else None

    options = {
        "failByDrop": random.random() < 0.4,
        "closeHandshakeTimeout": random.choice((5, 5, 1, 0)),
        "maxMessagePayloadSize": chosen(0.3, 1, 5, 36, 125, 126, 1000, 65536),
        "maxFramePayloadSize": chosen(0.15, 1, 5, 36, 125, 126, 1000, 65536),
        "utf8validateIncoming": chosen(0.1, False),
        "requireMaskedClientFrames": chosen(0.15, False),
        "maskServerFrames": chosen(0.05, True),
        "applyMask": chosen(0.05, False),
        "autoFragmentSize": chosen(0.1, 7, 126, 1000),
        "echoCloseCodeReason": chosen(0.3, True),
        "tcpNoDelay": chosen(0.1, False),
    }
    if random.random() < 0.25:
        options |= {
            "autoPingInterval": 7,
            "autoPingTimeout": chosen(0.8, 3, 9),
            "autoPingSize": PING_SIZE,
            "autoPingRestartOnAnyTraffic": random.random() < 0.5,
        }
    return {name: value for name, value in options.items() if value is not None}


def make_own_options(random: Random) -> dict[str, Any]:
    """Return options that one protocol has otherwise than its factory."""
    if random.random() < 0.85:
        return {}
    options = {
        "maxMessagePayloadSize": (0, 5, 126),
        "maxFramePayloadSize": (0, 5, 126),
        "utf8validateIncoming": (True, False),
        "autoFragmentSize": (0, 7),
        "failByDrop": (True, False),
        "maskServerFrames": (True, False),
    }
    name = random.choice(tuple(options))
    return {name: random.choice(options[name])}


def make_plan(random: Random, corpus: list[tuple[str, bytes]]) -> Plan:
    """Return a plan: a stream, its pieces, and the server that takes them."""
    is_deflated = random.random() < 0.15
    if corpus and random.random() < 0.2:
        name, data = random.choice(corpus)
        is_deflated = "deflate" in name if random.random() < 0.9 else is_deflated
        frames = [data]
        is_mutated = random.random() < 0.7
    else:
        frames = make_frames(random, is_deflated)
        data = b"".join(frames)
        is_mutated = random.random() < 0.3
    if is_mutated:
        data = mutate(random, data)
    options = make_options(random)
    pieces = cut(random, frames, data)
    waits = random.choice((0, 0, 0.1, 0.4)) if len(pieces) < 30 else 0
    if "autoPingInterval" in options:
        waits = 0.5
    steps: list[list[bytes] | None] = [[]]
    for piece in pieces:
        if steps[-1] is None or random.random() < 0.5:
            steps.append([])
        steps[-1].append(piece)  # type: ignore[union-attr]
        if waits and random.random() < waits:
            steps.append(None)
    acts = {}
    if random.random() < 0.4:
        acts = {random.choice((1, 1, 2, 3, 40)): random.choice(ACTS_ONCE) for _ in range(2)}
    slowness = random.choice((0, 0, 0.1, 0.5, 1))
    variant = random.choice(("plain",) * 7 + ("parts", "sending", "listening", "limited"))
    if "raise" in acts.values():
        # What raises after a turn has ended raises somewhere else: a test of its own.
        acts, slowness = {random.choice((1, 2, 3)): "raise"}, 0
    return Plan(
        steps=steps[1:] if steps[0] == [] else steps,
        options=options,
        attributes={
            name: True
            for name, chance in (("logOctets", 0.03), ("logFrames", 0.03))
            if random.random() < chance
        },
        acts=acts,
        usual_act=random.choice(USUAL_ACTS) if random.random() < 0.2 else "echo",
        variant=variant,
        is_tracked=random.random() < 0.05,
        own_options=make_own_options(random),
        own_options_in=random.choice(("onConnect", "onOpen")),
        ping_act=random.choice(("ignore",) * 9 + ("echo", "close", "drop")),
        is_deflate_offered=is_deflated,
        is_first_step_glued="raise" not in acts.values() and random.random() < 0.1,
        end=random.choice((ConnectionDone, ConnectionLost, None)),
        slowness=slowness,
        seed=random.getrandbits(16),
    )
