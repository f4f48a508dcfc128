"""What a server has sent: all of it must be HTTP or WebSocket to the letter."""

import zlib
from dataclasses import dataclass, field
from typing import Any

from .server import ACCEPT, CLOSE_CODES, HTTP_STATUSES, check_reply


@dataclass
class Output:
    """What came, parsed; `close` is the code of the close frame."""

    status: int | None = None
    replies: list[dict[str, Any]] = field(default_factory=list)
    pongs: int = 0
    close: int | None = None


def parse(sent: bytes | bytearray, *, may_be_cut: bool = False) -> Output:
    """Return what was sent; raise AssertionError where it is not legal."""
    sent, out = bytes(sent), Output()
    if not sent:
        return out
    head, mark, rest = sent.partition(b"\r\n\r\n")
    assert mark, head[:200]
    line, *lines = head.split(b"\r\n")
    version, status, reason = line.split(b" ", 2)
    assert version == b"HTTP/1.1", line
    assert reason, line
    out.status = int(status)
    headers = dict(one.lower().split(b": ", 1) for one in lines)
    assert len(headers) == len(lines), lines
    assert head.isascii(), head
    if out.status != 101:
        assert out.status in HTTP_STATUSES, out.status
        assert int(headers[b"content-length"]) == len(rest), (headers, rest)
        assert headers[b"connection"] == b"close", headers
        return out
    key = headers[b"sec-websocket-accept"]
    assert key == ACCEPT.lower() or len(key) == 28, key
    assert headers[b"upgrade"] == b"websocket", headers
    is_deflated = b"sec-websocket-extensions" in headers
    _frames(rest, out, zlib.decompressobj(wbits=-15) if is_deflated else None, may_be_cut)
    return out


def _frames(data: bytes, out: Output, inflater: Any, may_be_cut: bool) -> None:
    at = 0
    while at < len(data):
        assert out.close is None, "a frame behind the close frame"
        if len(data) - at < 2:
            break
        first, second = data[at], data[at + 1]
        assert second < 128, "a masked frame"
        start = at + {126: 4, 127: 10}.get(second, 2)
        size = second if second < 126 else int.from_bytes(data[at + 2 : start])
        if start + size > len(data):
            break
        assert start - at == (2 if size < 126 else 4 if size < 65536 else 10), "not the shortest"
        payload = data[start : start + size]
        at = start + size
        if first & 0x40 and inflater is not None and first & 0x0F in (1, 2):
            payload = inflater.decompress(payload + b"\x00\x00\xff\xff")
            first &= ~0x40
        _frame(first, payload, out)
    assert may_be_cut or at == len(data), "half a frame"


def _frame(first: int, payload: bytes, out: Output) -> None:
    if first in (0x81, 0x82):
        out.replies.append(check_reply(payload, first == 0x82))
    elif first == 0x8A:
        out.pongs += 1
    elif first == 0x88:
        payload[2:].decode()
        out.close = int.from_bytes(payload[:2]) if payload else 1005
        assert out.close in CLOSE_CODES or out.close == 1005, out.close
    else:
        assert first == 0x89, f"a frame that begins with {first:02x}"
    assert first < 0x88 or len(payload) < 126, "a large control frame"
