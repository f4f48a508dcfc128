"""Fuzz what comes before a connection is open."""

import base64
import hashlib
import re
from random import Random

from .engine import pieces
from .output import parse
from .server import GOOD_REPLY, KEY, REQUEST, Server, good_call
from .wire import frame

_LINES = (
    *(b"GET / HTTP/1.1", b"GET /healthz HTTP/1.1", b"POST / HTTP/1.1", b"GET / HTTP/1.0"),
    *(b"GET http://localhost/ HTTP/1.1", b"GET /%ff?a=b&c HTTP/1.1", b"GET", b"", b"\0"),
    *(
        b"get / http/1.1",
        b"GET /#x HTTP/1.1",
        b"GET //[ HTTP/1.1",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1",
    ),
)
_HEADERS = (
    *(
        b"Host: localhost",
        b"Host: localhost:99999",
        b"Host: [::1]:9000",
        b"Host: [",
        b"Host:",
        b"Host: a b",
    ),
    *(b"Upgrade: websocket", b"Upgrade: WebSocket, h2c", b"Upgrade: ", b"Connection: Upgrade"),
    *(b"Connection: keep-alive, upgrade", b"Sec-WebSocket-Key: " + KEY, b"Sec-WebSocket-Key: x"),
    *(b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 8", b"Sec-WebSocket-Version: 9" * 9),
    *(
        b"Sec-WebSocket-Version: \xb2",
        b"Sec-WebSocket-Protocol: a, b, a",
        b"Sec-WebSocket-Protocol: ",
    ),
    *(b"Sec-WebSocket-Extensions: permessage-deflate", b"Sec-WebSocket-Extensions: ;;=,"),
    *(b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=\xb2",),
    *(
        b"Origin: http://localhost",
        b"Origin: null",
        b"Origin: http://evil.example",
        b"Origin: ://",
    ),
    *(
        b"Origin: http://[",
        b"Origin: http://localhost:x",
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
    ),
    *(
        b"X-Forwarded-For: 1.2.3.4",
        b"X: \x85",
        b"X: a\tb",
        b"X:\xff",
        b": x",
        b"X",
        b" folded",
        b"X :y",
    ),
    *(
        b"Cookie: " + b"c" * 5000,
        b"Authorization: Bearer secret",
        b"Sec-WebSocket-Key: " + KEY + b"\x0b",
    ),
)
_ENDS = (b"\r\n",) * 20 + (b"\n", b"\r", b"\n\r", b"\r\r\n", b"\x0b", b"\x85", b"\r\n ")


class Handshakes:
    """Raw bytes instead of a handshake."""

    name = "handshake"
    words = (*_HEADERS, *_ENDS, b"\r\n\r\n", b"GET ", b" HTTP/1.1", REQUEST % b"")

    def __init__(self) -> None:
        self.server = Server(deflate=True, trusted_proxies=("127.0.0.0/8",), message_bytes=20_000)

    def generate(self, random: Random) -> bytes:
        if random.random() < 0.3:
            data = REQUEST % b"".join(
                random.choice(_HEADERS) + b"\r\n" for _ in range(random.choice((0, 1, 1, 3)))
            )
        else:
            headers = [random.choice(_HEADERS) for _ in range(random.choice((0, 2, 5, 12, 60)))]
            if random.random() < 0.5:
                headers += REQUEST.split(b"\r\n")[1:6]
                random.shuffle(headers)
            lines = [random.choice(_LINES) if random.random() < 0.5 else _LINES[0], *headers, b""]
            data = b"".join(line + random.choice(_ENDS) for line in lines)
        behind = (b"", good_call(frame), b"x" * 100_000, data, b"\x88\x80\0\0\0\0")
        return data + (random.choice(behind) if random.random() < 0.3 else b"")

    def play(self, data: bytes) -> str:
        session = self.server.connect()
        for piece in pieces(data):
            session.feed(piece)
        session.wait(0.1)
        out = parse(session.wire.sent)
        self._check_legal(data, out.status, bytes(session.wire.sent))
        if out.status is None and not session.wire.ended:
            # It was no whole request; a client has `handshake_seconds` to finish it.
            session.wait(6)
            assert session.wire.ended, "a half-open connection stays"
        elif out.status not in (None, 101):
            session.wait(3)
            assert session.wire.ended, "a refused connection stays"
        outcome = f"{out.status}"
        if out.status == 101 and data.find(b"\r\n\r\n") == len(data) - 4:
            session.feed(good_call(frame))
            session.wait(0.1)
            assert GOOD_REPLY in parse(session.wire.sent).replies, "a good call has no answer"
            outcome += " answered"
        session.drop()
        return outcome

    def _check_legal(self, data: bytes, status: int | None, sent: bytes) -> None:
        head, mark, _ = data.partition(b"\r\n\r\n")
        if status != 101:
            return
        assert mark, "opened without the end of a request"
        assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|(?<!\r)\n", head), "CTL"
        assert b"\x85" not in head.partition(b"\r\n")[0], "85 in the request line"
        names = [line.split(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
        for name in (b"host", b"sec-websocket-key"):
            assert names.count(name) == 1, (name, names)
        assert names.count(b"origin") <= 1
        [key] = re.findall(rb"(?im)^sec-websocket-key:[ \t]*(.*?)[ \t]*\r?$", head + b"\r\n")
        digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        assert base64.b64encode(digest) in sent, "the answer to another key"

    def stream(self, data: bytes) -> bytes:
        """Return what is sent on a socket."""
        return data

    def at_rest(self) -> None:
        self.server.check_rest()

    def close(self) -> None:
        self.server.close()
