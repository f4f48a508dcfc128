"""Fuzz the content of messages: JSON, base64, the keys of the wire protocol, CANCEL, time."""

import base64
import json
from collections import Counter
from random import Random
from typing import Any

from .output import parse
from .server import GOOD_REPLY, REQUEST, Server, good_call
from .wire import frame

# Of a ping, and of its pong.
LAST = b"is this all?"

_METHODS = (
    "GET",
    "get",
    " POST ",
    "PUT",
    "DELETE",
    "HEAD",
    "CANCEL",
    "SUBSCRIBE",
    "",
    "X" * 300,
    None,
    7,
    [],
)
_URLS = (
    *(
        "/echo",
        "/slow",
        "/never",
        "/boom",
        "/queue",
        "/items/a",
        "/items/a/v2.json",
        "/items/é%20/",
    ),
    *(
        "/nowhere",
        "",
        "/",
        "//",
        "echo",
        "/items/{name}",
        "/items/" + "x" * 3000,
        "/\ud83d\ude00",
        None,
        5,
    ),
)
_VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        0,
        -1,
        0.1,
        1e308,
        10**30,
        "",
        "x",
        "\x00",
        "\u2028",
        "é" * 200,
        [],
        {},
        [[]] * 5,
    ),
    *(
        {"seconds": 0.1},
        {"seconds": 3},
        {"value": "v"},
        {"request": 1},
        {"self": 1},
        {"name": "n"},
    ),
    {"times": 3},
    {"epoch": "e", "offset": 1},
)
_KEYS = (
    *("method", "url", "args", "data", "event_name", "id", "timeout", "token", "since", "extra"),
    *(
        "_private",
        "connection",
        "factory",
        "user",
        "log_id",
        "adopt",
        "__class__",
        "cls",
        "self",
        "",
    ),
)
_TEXTS = (
    *(
        b"",
        b" ",
        b"null",
        b"[]",
        b'"',
        b"{",
        b"{}",
        b"NaN",
        b'{"url": NaN}',
        b'{"id": 1e999}',
        b"\xef\xbb\xbf{}",
    ),
    *(
        b'{"url": "\\ud800"}',
        b'{"event_name": "\\udc00", "url": "/echo"}',
        b"[" * 2000,
        b'{"a":' * 500,
    ),
    *(b'{"url": "/echo", "method": "GET", "data": ' + b"[" * 127 + b"]" * 127 + b"}",),
    *(
        b'{"url": "/echo", "url": "/slow"}',
        b'{"id": "' + b"i" * 129 + b'"}',
        b'{"id": ' + b"9" * 500 + b"}",
    ),
)

MESSAGE_BYTES = 50_000

# Records of an input: a message of text or binary, time that passes, a client that stops to read,
# one that goes on, and one that is gone.
_RECORDS = b"TBWCUL"


def record(kind: bytes, payload: bytes = b"") -> bytes:
    return kind + len(payload).to_bytes(3) + payload


def records(data: bytes) -> list[tuple[str, bytes]]:
    """Return the records of an input, mutated or not."""
    found, at = [], 0
    while at + 4 <= len(data) and len(found) < 200:
        size = int.from_bytes(data[at + 1 : at + 4]) % 100_000
        kind = (
            chr(_RECORDS[data[at] % len(_RECORDS)]) if data[at] not in _RECORDS else chr(data[at])
        )
        found.append((kind, data[at + 4 : at + 4 + size]))
        at += 4 + size
    return found


class _Tally:
    """How many replies there will be."""

    def __init__(self) -> None:
        self.surely = self.perhaps = 0
        self.is_legal = True
        self.asked: Counter[str] = Counter()

    def add(self, session: Any, batch: list[tuple[str, bytes]]) -> None:
        """Send messages in one piece; those that the server does not read do not count."""
        stream = b"".join(frame(1 if kind == "T" else 2, payload) for kind, payload in batch)
        if not batch or not session.feed(stream):
            return
        for kind, payload in batch:
            if len(payload) > MESSAGE_BYTES or (kind == "T" and not _is_utf8(payload)):
                self.is_legal = False
            if may_stay_without_reply(payload, kind == "B"):
                self.perhaps += 1
            else:
                self.surely += 1
                message = _decoded(payload, kind == "B")
                if isinstance(message, dict):
                    self.asked[json.dumps(message.get("id"))] += 1

    def check(self, replies: list[dict[str, Any]]) -> None:
        """Raise AssertionError unless there is one reply for each message that asked."""
        count = len(replies)
        assert self.surely <= count <= self.surely + self.perhaps, (self, count)
        # A CANCEL that has an answer has a 400, with its own id.
        answered = Counter(
            json.dumps(reply["id"])
            for reply in replies
            if "id" in reply and reply.get("status") != 400
        )
        assert answered <= self.asked, answered - self.asked

    def __repr__(self) -> str:
        return f"{self.surely} to {self.surely + self.perhaps} replies"


class Messages:
    """Messages of one connection; each that asks is answered once, whatever is in it."""

    name = "messages"
    words = (
        *(f'"{key}": '.encode() for key in _KEYS),
        *(json.dumps(value).encode() for value in (*_METHODS, *_URLS, *_VALUES)),
        *_TEXTS[:12],
        record(b"W", b"\x01"),
        record(b"C"),
        record(b"U"),
    )

    def __init__(self) -> None:
        self.server = Server(
            ping_seconds=0,
            calls_in_flight=4,
            waiting_bytes=3_000,
            call_seconds=20,
            unsent_pause_bytes=4_000,
            message_bytes=MESSAGE_BYTES,
        )

    def generate(self, random: Random) -> bytes:
        stream = b""
        for number in range(random.choice((1, 1, 2, 5, 20, 60))):
            if random.random() < 0.15:
                kind = random.choice((b"W", b"W", b"W", b"C", b"U"))
                stream += record(kind, random.randbytes(1))
                continue
            payload = self._payload(random, number)
            if random.random() < 0.3:
                encoded = base64.b64encode(payload) if random.random() < 0.9 else payload
                stream += record(b"B", encoded)
            else:
                stream += record(b"T", payload)
        return stream + (record(b"L") if random.random() < 0.1 else b"")

    def _payload(self, random: Random, number: int) -> bytes:
        if random.random() < 0.1:
            return random.choice(_TEXTS)
        if random.random() < 0.15:
            message = {"method": "CANCEL", "id": max(0, number - random.randrange(5))}
        else:
            message = {"method": random.choice(_METHODS[:4]), "url": random.choice(_URLS[:8])}
            message["id"] = number
            if random.random() < 0.4:
                message |= {"url": random.choice(("/slow", "/never", "/queue")), "method": "GET"}
        for _ in range(random.choice((0, 0, 0, 0, 0, 1, 2, 4))):
            message[random.choice(_KEYS)] = random.choice((*_VALUES, *_METHODS, *_URLS))
        if random.random() < 0.2:
            message["timeout"] = random.choice((0.01, 0.3, 5, 1e9, 0, -1, 1e-320, True, "1"))
        return json.dumps(message, ensure_ascii=random.random() < 0.5).encode(errors="replace")

    def play(self, data: bytes) -> str:
        session = self.server.connect()
        session.feed(REQUEST % b"")
        tally = _Tally()
        batch: list[tuple[str, bytes]] = []
        for kind, payload in records(data):
            if kind in "TB":
                batch.append((kind, payload))
                if len(batch) <= len(payload) % 7:
                    continue
            tally.add(session, batch)
            batch = []
            if kind == "W":
                session.wait((payload[0] if payload else 0) / 64)
            elif kind == "C":
                session.wire.is_clogged = True
            elif kind == "U":
                session.wire.unclog()
            elif kind == "L":
                break
        tally.add(session, batch)
        if kind_of_end(data) == "L" or not tally.is_legal:
            session.wire.unclog()
            session.wait(1)
            parse(session.wire.sent, may_be_cut=True)
            session.drop()
            return "gone" if tally.is_legal else "illegal"
        session.wire.unclog()
        self._finish(session)
        if str(session.protocol.wasNotCleanReason).startswith("unsent_"):
            session.drop()
            return "given up"
        out = parse(session.wire.sent)
        assert out.close is None, f"closed with {out.close}"
        assert not session.wire.ended, session.protocol.wasNotCleanReason
        tally.check(out.replies)
        session.feed(good_call(frame))
        session.wait(1)
        assert parse(session.wire.sent).replies[-1] == GOOD_REPLY
        assert session.protocol.unanswered == 0
        session.drop()
        return "answered"

    def _finish(self, session: Any) -> None:
        # `feed` gives up on a server that does not read; here it has all the time of all calls.
        # The pong comes behind all that was sent; a slow machine needs more turns to come to it.
        is_asked = False
        for _ in range(200):
            is_asked = is_asked or session.feed(frame(9, LAST))
            is_read = LAST in session.wire.sent
            if session.wire.ended or (is_read and not session.protocol.unanswered):
                return
            session.wait(21)
        raise AssertionError("calls do not end")

    def stream(self, data: bytes) -> bytes:
        """Return what is sent on a socket."""
        sent = [frame(" TB".index(kind), one) for kind, one in records(data) if kind in "TB"]
        return REQUEST % b"" + b"".join(sent)

    def at_rest(self) -> None:
        self.server.check_rest()

    def close(self) -> None:
        self.server.close()


def kind_of_end(data: bytes) -> str:
    found = records(data)
    return "L" if any(kind == "L" for kind, _ in found) else ""


def may_stay_without_reply(payload: bytes, is_binary: bool) -> bool:
    """Tell whether a message is a CANCEL that has no reply of its own."""
    message = _decoded(payload, is_binary)
    if not isinstance(message, dict) or message.get("url") is not None:
        return False
    method = message.get("method")
    return isinstance(method, str) and method.strip().upper() == "CANCEL"


def _decoded(payload: bytes, is_binary: bool) -> Any:
    try:
        if is_binary:
            payload = base64.b64decode(payload.translate(None, b" \t\r\n"), validate=True)
        return json.loads(payload)
    except (ValueError, RecursionError):
        return None


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
