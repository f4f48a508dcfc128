"""The little of RFC 6455 that the bench's own clients speak."""

import base64
import os
import socket
import ssl

HOST = "127.0.0.1"
ANSWER_SECONDS = 10
FINAL_TEXT = 0x81


def _header(length: int, mask_bit: int) -> bytes:
    if length < 126:
        return bytes([FINAL_TEXT, mask_bit | length])
    if length < 65536:
        return bytes([FINAL_TEXT, mask_bit | 126]) + length.to_bytes(2, "big")
    return bytes([FINAL_TEXT, mask_bit | 127]) + length.to_bytes(8, "big")


def text_frame(payload: bytes) -> bytes:
    """Return a server's frame."""
    return _header(len(payload), 0) + payload


def masked_text_frame(payload: bytes) -> bytes:
    """Return a client's frame, with a random mask."""
    mask, length = os.urandom(4), len(payload)
    key = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
    masked = (int.from_bytes(payload, "big") ^ key).to_bytes(length, "big")
    return _header(length, 0x80) + mask + masked


def upgrade_request(port: int, key: str) -> bytes:
    return (
        f"GET / HTTP/1.1\r\nHost: {HOST}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def first_reply(port: int, message: bytes, *, tls: bool) -> bytes:
    """Make one call; return the payload of the reply. Raises ValueError for anything odd."""
    raw = socket.create_connection((HOST, port), timeout=ANSWER_SECONDS)
    if tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # made for this run, by this run
        raw = context.wrap_socket(raw)
    with raw, raw.makefile("rb") as stream:
        raw.sendall(upgrade_request(port, base64.b64encode(os.urandom(16)).decode()))
        status = stream.readline()
        if b" 101 " not in status:
            raise ValueError(f"the handshake was answered by {status!r}")
        while stream.readline().strip():
            pass
        raw.sendall(masked_text_frame(message))
        start = stream.read(2)
        if len(start) < 2 or start[0] != FINAL_TEXT:
            raise ValueError(f"the reply does not begin as a text frame: {start!r}")
        length = start[1]
        if length >= 126:
            length = int.from_bytes(stream.read(2 if length == 126 else 8), "big")
        return stream.read(length)
