"""A frame of a client (RFC 6455, 5.2)."""

MASK = b"\x37\xfa\x21\x3d"


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
    length_bits: int | None = None,
) -> bytes:
    size = len(payload)
    bits = length_bits or (7 if size < 126 else 16 if size < 65536 else 64)
    second = {7: size, 16: 126, 64: 127}[bits] | (0 if mask is None else 0x80)
    head = bytes(((0x80 if fin else 0) | rsv | opcode, second))
    head += b"" if bits == 7 else size.to_bytes(bits // 8)
    if mask is None:
        return head + payload
    repeated = (mask * (size // 4 + 1))[:size]
    return head + mask + (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(size)
