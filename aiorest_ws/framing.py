"""Parse and build ordinary RFC 6455 frames: a whole, unfragmented, uncompressed message.

Autobahn handles every other frame, and rejects the invalid ones.
"""

__all__ = (
    "BINARY",
    "SHORT_BINARY_HEADERS",
    "SHORT_TEXT_HEADERS",
    "TEXT",
    "frame_of",
    "header_of",
    "messages",
    "only_message",
)

try:
    from websockets.speedups import apply_mask
except ImportError:  # websockets without its C extension

    def apply_mask(  # type: ignore[misc]
        data: bytes, mask: bytes, /
    ) -> bytes:
        """Return `data` XORed with the repeated `mask` of four bytes (section 5.3)."""
        size = len(data)
        repeated = (mask * (size // 4 + 1))[:size]
        masked = int.from_bytes(data) ^ int.from_bytes(repeated)
        return masked.to_bytes(size)


# FIN, no reserved bit, and the opcode (section 5.2).
TEXT = 0x81
BINARY = 0x82

# The second byte: the mask bit, and a length of 7 bits or a marker for a longer one.
_MASKED = 0x80
_LENGTH_OF_16_BITS = 0xFE

# The headers of unmasked frames of less than 126 bytes.
SHORT_TEXT_HEADERS = tuple(bytes((TEXT, size)) for size in range(126))
SHORT_BINARY_HEADERS = tuple(bytes((BINARY, size)) for size in range(126))


def only_message(data: bytes, limit: int) -> bytes | None:
    """Return the payload if `data` is exactly one ordinary message, else None.

    `limit` is in bytes. The payload of a text message is valid UTF-8.
    """
    size = len(data)
    if size < 6:
        return None
    second = data[1]
    if second < _LENGTH_OF_16_BITS:
        start = 6
        if second != size - 6 + _MASKED:
            return None
    elif second == _LENGTH_OF_16_BITS:
        start = 8
        # The length must be encoded in the fewest bytes (section 5.2).
        if size - 8 < 126 or int.from_bytes(data[2:4]) != size - 8:
            return None
    else:
        start = 14
        if size - 14 < 65536 or int.from_bytes(data[2:10]) != size - 14:
            return None
    first = data[0]
    if size - start > limit or (first != TEXT and first != BINARY):
        return None
    payload = apply_mask(data[start:], data[start - 4 : start])
    if first == TEXT and not payload.isascii() and not _is_utf8(payload):
        return None
    return payload


def messages(data: bytes, limit: int, most: int) -> list[tuple[bytes, bool, int]]:
    """Return up to `most` ordinary messages from the start of `data`.

    Each is a tuple of its payload, whether it is binary, and the offset of its end.
    """
    found: list[tuple[bytes, bool, int]] = []
    begin, size = 0, len(data)
    while size - begin >= 6 and len(found) < most:
        first, second = data[begin], data[begin + 1]
        if second < _LENGTH_OF_16_BITS:
            start = begin + 6
            end = start + second - _MASKED
            if second < _MASKED:
                break
        elif second == _LENGTH_OF_16_BITS:
            start = begin + 8
            end = start + int.from_bytes(data[begin + 2 : begin + 4])
            if end - start < 126:
                break
        else:
            start = begin + 14
            end = start + int.from_bytes(data[begin + 2 : begin + 10])
            if end - start < 65536:
                break
        if end > size or end - start > limit or (first != TEXT and first != BINARY):
            break
        payload = apply_mask(data[start:end], data[start - 4 : start])
        if first == TEXT and not payload.isascii() and not _is_utf8(payload):
            break
        found.append((payload, first == BINARY, end))
        begin = end
    return found


def header_of(size: int, is_binary: bool) -> bytes:
    """Return the header of an unmasked frame with a whole message of `size` bytes."""
    if size < 126:
        return SHORT_BINARY_HEADERS[size] if is_binary else SHORT_TEXT_HEADERS[size]
    first = BINARY if is_binary else TEXT
    if size < 65536:
        return bytes((first, 126)) + size.to_bytes(2)
    return bytes((first, 127)) + size.to_bytes(8)


def frame_of(payload: bytes, is_binary: bool) -> bytes:
    """Return an unmasked frame with a whole message."""
    return header_of(len(payload), is_binary) + payload


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
